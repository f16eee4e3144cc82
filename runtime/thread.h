/* A thread beside the vCPU's. */
#ifndef RUNTIME_THREAD_H
#define RUNTIME_THREAD_H

#include <pthread.h>

/* No signal is delivered to it but for what it does itself. Returns 0 or an errno. */
int thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

#endif
