/* threads.h - the interface between the thread pool and the operating system's threads, which threads_posix.c and
 * threads_windows.c implement: threads with numbers, one lock, threads that sleep until they are woken, forks.
 *
 * It must not know: calls, jobs. */
#ifndef FRNN_THREADS_H
#define FRNN_THREADS_H

#include <stdint.h>

/* Must be called before threads are started, and before the lock is taken; all calls but the first do nothing. From
 * then on each forked child runs `in_child` first, with the lock free and nobody asleep. */
void frnn_prepare_threads(void (*in_child)(void));

/* The calling thread, as a number that no other thread of the process has now. */
uintptr_t frnn_this_thread(void);

/* Starts a thread that runs work(number), gets no signals and is never waited for. Returns 0 if the system refuses. */
int frnn_start_thread(int number, void (*work)(int number));

/* Cores of the machine that are at work. */
int frnn_online_cores(void);

/* Lets another thread run on the calling thread's core, if one waits for it. */
void frnn_yield(void);

/* One lock for all. */
void frnn_lock(void);
void frnn_unlock(void);

/* With the lock held: frnn_sleep gives it up, sleeps until frnn_wake is called with the same number, for at most some
 * nanoseconds (0: no limit), and takes the lock again. It may return earlier, for no reason. */
void frnn_sleep(int number, int64_t nanoseconds);
void frnn_wake(int number);

#endif
