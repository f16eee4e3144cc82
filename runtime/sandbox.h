/* What the process gives up once a guest is about to run: defence in depth, should a guest ever break out of what emitted code may do. */
#ifndef RUNTIME_SANDBOX_H
#define RUNTIME_SANDBOX_H

/* All threads, for good: no new program, process, thread or socket, no file opened for writing, no memory made executable, no signal to
 * others. What is refused fails with EPERM. 0, or a negative errno where the kernel knows no seccomp: nothing has changed then. */
int sandbox_enter(void);

#endif
