/* Processes that wait for each other's counters in shared memory. No Python in here, so that it can be run under the
 * sanitizers by itself.
 *
 * A counter is a 64-bit word that only its owner raises. Beside it lies the number of those who sleep until it moves;
 * a sleeper that was killed stays counted, which costs its owner a needless wake-up call and nothing else. */

#ifndef SHOAL_WAITING_H
#define SHOAL_WAITING_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#ifdef __linux__
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ __volatile__("yield")
#else
#define RELAX() ((void)0)
#endif

/* What a member writes lies apart from what others write, or every arrival would pull the line from all who look. */
typedef struct {
    _Atomic uint64_t arrived;
    _Atomic uint32_t sleepers;
} Counter;

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* The half of the word that a 32-bit futex looks at. */
static uint32_t *low_half(Counter *counter) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (uint32_t *)&counter->arrived + 1;
#else
    return (uint32_t *)&counter->arrived;
#endif
}

/* Makes everything this thread wrote before visible to whoever sees the new value. */
static void raise_counter(Counter *counter, uint64_t value) {
    /* Sequentially consistent, as is the sleeper's side: either it sees the value or we see that it sleeps. */
    atomic_store(&counter->arrived, value);
#ifdef __linux__
    if (atomic_load(&counter->sleepers)) syscall(SYS_futex, low_half(counter), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
#endif
}

/* Lets the processor go until the counter may have moved, for at most `nanoseconds`; may return early. */
static void sleep_on(Counter *counter, uint64_t value, int64_t nanoseconds) {
#ifdef __linux__
    struct timespec limit = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    atomic_fetch_add(&counter->sleepers, 1);
    uint64_t found = atomic_load(&counter->arrived);
    if (found < value) syscall(SYS_futex, low_half(counter), FUTEX_WAIT, (uint32_t)found, &limit, NULL, 0);
    atomic_fetch_sub(&counter->sleepers, 1);
#else
    (void)counter, (void)value;
    int64_t nap = nanoseconds < 50000 ? nanoseconds : 50000;
    struct timespec limit = {0, nap};
    nanosleep(&limit, NULL);
#endif
}

/* Waits until the counter has reached `value`: 1 when it has, 0 when `deadline_ns` came first. */
static int await_counter(Counter *counter, uint64_t value, int64_t spin_until_ns, int64_t deadline_ns) {
    for (;;) {
        for (int turn = 0; turn < 64; turn++) {
            if (atomic_load_explicit(&counter->arrived, memory_order_acquire) >= value) return 1;
            RELAX();
        }
        int64_t now = now_ns();
        if (now < spin_until_ns) continue;
        if (now >= deadline_ns) return 0;
        sleep_on(counter, value, deadline_ns - now);
    }
}

#endif
