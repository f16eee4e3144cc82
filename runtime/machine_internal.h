/* Inside of the machine: shared by machine.c (composition and the vCPU's side), machine_thread.c (timers, signals), machine_console.c
 * (serial bytes in and out) and machine_terminal.c. */
#ifndef RUNTIME_MACHINE_INTERNAL_H
#define RUNTIME_MACHINE_INTERNAL_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "runtime/devices/acpi_tables.h"
#include "runtime/devices/devices.h"
#include "runtime/devices/ioapic.h"
#include "runtime/devices/pic.h"
#include "runtime/devices/pit.h"
#include "runtime/devices/rtc.h"
#include "runtime/devices/smbios.h"
#include "runtime/devices/uart.h"
#include "runtime/machine.h"

#define OUTPUT_SIZE (64u << 10)
#define INPUT_SIZE (1u << 20)

/* Bytes on their way out. Head and count change under the lock; the bytes in between are written to the file without it. */
struct output {
	int fd;              /* -1: nowhere */
	bool own_fd;
	bool nonblocking;    /* a write of any length comes back; else only short ones after poll() */
	bool dead;           /* the reader went away, or something is wrong: */
	int error;
	bool due;            /* write now */
	bool watched;        /* the file is full: waiting for it in epoll */
	struct board_timer flush;
	uint32_t head, count;
	uint8_t ring[OUTPUT_SIZE];
};

/* Bytes on their way in: [head, tail). Those just before head were taken, and may be given back. */
struct input {
	int fd;
	bool open;
	bool terminal;       /* keys after Ctrl-A are ours */
	bool pollable;       /* not a regular file */
	bool watched;
	bool stopped;        /* terminal of another process group for now */
	bool escape;         /* Ctrl-A was typed */
	uint32_t head, tail;
	uint8_t bytes[INPUT_SIZE];
};

struct machine {
	pthread_mutex_t lock;
	pthread_cond_t wake;    /* a halted vCPU */
	pthread_cond_t drained; /* a vCPU that waits for room in the output */
	struct machine_config config;
	bool halted;
	atomic_uint end;        /* enum machine_end */
	atomic_uint end_value;

	bool nmi_raised;        /* since the vCPU last halted */

	struct pic pic;
	struct apic apic;
	struct ioapic ioapic;
	struct pit pit;
	struct uart com1;
	struct rtc rtc;
	struct i8042 i8042;
	struct system_control system_control;
	struct fpu_error fpu_error;
	struct pci pci;
	struct acpi acpi;
	struct dma dma;
	struct debug debug;
	struct fw_cfg fw_cfg;
	struct testdev testdev;

	struct board_timers own; /* of the machine itself: the thread serves them, whatever the guest does */
	struct board_timer timeout;
	int64_t vcpu_wakes;     /* from when on a halted vCPU serves the guest's timers itself */
	int64_t armed;          /* what timer_fd is set to */
	int epoll_fd, timer_fd, signal_fd, event_fd;
	pthread_t thread;
	bool started, quit;
	sigset_t old_mask;

	struct output output;
	struct input input;
	struct board board;
};

/* All of these want the lock held, unless they say otherwise. */
void machine_end_locked(struct machine *m, enum machine_end why, uint32_t value);
static inline bool machine_has_ended(struct machine *m)
{
	return atomic_load_explicit(&m->end, memory_order_relaxed) != MACHINE_RUNS;
}

/* machine_thread.c */
int machine_thread_create(struct machine *m, const char **why);
void machine_thread_destroy(struct machine *m);
/* Have the thread look at the earliest deadline. */
void machine_thread_rearm(struct machine *m);
/* The vCPU halts, and wakes for the guest's timers itself: let the thread sleep. */
void machine_thread_relieve(struct machine *m);
/* Have it look at everything else. */
void machine_thread_notify(struct machine *m);

/* machine_console.c */
int machine_console_create(struct machine *m, const char **why);
void machine_console_destroy(struct machine *m);
void machine_console_send(void *ctx, uint8_t byte);
struct uart_line machine_console_line(struct machine *m);
/* The thread's part: move bytes that can be moved now, and watch the files for the rest. Drops the lock while it reads and writes. */
void machine_console_serve(struct machine *m, bool input_ready, bool output_ready);
void machine_console_continue(struct machine *m);
/* Can the terminal or file still bring input? */
bool machine_console_has_input(const struct machine *m);
/* Write out what is left, without the thread; waits for a slow reader unless the run was cut short. */
void machine_console_drain(struct machine *m);

/* Nanoseconds as the host's calls take them. */
static inline struct timespec machine_host_time(int64_t ns)
{
	return (struct timespec) { .tv_sec = ns / NS_PER_SECOND, .tv_nsec = ns % NS_PER_SECOND };
}

/* machine_terminal.c: any thread, no lock. */
int machine_terminal_enter(int fd);
void machine_terminal_leave(void);
void machine_terminal_resume(void);
bool machine_terminal_in_background(int fd);

#endif
