/* threads_windows.c - threads by Windows' own functions. Windows has no fork. One of the files with preprocessor
 * conditions.
 *
 * It must not know: calls, jobs. */
#if defined(_WIN32) && !defined(FRNN_SINGLE)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "../internal/internal.h"
#include "threads.h"

static SRWLOCK lock = SRWLOCK_INIT;
static CONDITION_VARIABLE woken[FRNN_THREADS]; /* zero is its initial value */
static void (*work_of[FRNN_THREADS])(int number);

void frnn_prepare_threads(void (*in_child)(void)) { (void)in_child; }

uintptr_t frnn_this_thread(void) { return GetCurrentThreadId(); }

static DWORD WINAPI run(void *numbered) {
  int number = (int)(intptr_t)numbered;
  work_of[number](number);
  return 0;
}

int frnn_start_thread(int number, void (*work)(int number)) {
  work_of[number] = work;
  HANDLE thread = CreateThread(NULL, 0, run, (void *)(intptr_t)number, 0, NULL);
  if (thread) CloseHandle(thread); /* the thread goes on */
  return thread != NULL;
}

int frnn_online_cores(void) { return (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS); }

void frnn_yield(void) { SwitchToThread(); }

void frnn_lock(void) { AcquireSRWLockExclusive(&lock); }
void frnn_unlock(void) { ReleaseSRWLockExclusive(&lock); }

void frnn_sleep(int number, int64_t nanoseconds) {
  DWORD milliseconds = nanoseconds == 0 ? INFINITE : (DWORD)((nanoseconds + 999999) / 1000000);
  SleepConditionVariableSRW(&woken[number], &lock, milliseconds, 0);
}

void frnn_wake(int number) { WakeConditionVariable(&woken[number]); }

#endif
