/* One more thread for a loop over blocks: whoever is free takes the next block, so that a machine with no core to spare
 * loses nothing by the offer.
 *
 * The thread is made when it is first wanted and serves one loop at a time; a loop that finds it busy, or missing, runs
 * alone. It knows nothing of Python and holds nothing between loops. A forked child begins without one. */

#ifndef SHOAL_SECOND_THREAD
#define SHOAL_SECOND_THREAD

#if !defined(_WIN32) && defined(__GNUC__)
#define HAS_SECOND_THREAD
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
#endif

typedef void (*Block)(void *job, Py_ssize_t index);

static void run_alone(Block work, void *job, Py_ssize_t num_blocks) {
    for (Py_ssize_t index = 0; index < num_blocks; index++) work(job, index);
}

#ifdef HAS_SECOND_THREAD

/* Loops that follow each other within this time find the thread awake: waking it takes as long as copying 50 KB. */
#define AWAKE_NS 100000
#define STACK_BYTES (256 << 10)

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() ((void)0)
#endif

enum { IDLE, OFFERED, TAKEN, DONE };
enum { NONE, THERE, REFUSED };

static struct {
    pthread_mutex_t in_use, sleeping;
    pthread_cond_t offer;
    atomic_int state, is_asleep, thread;
    _Atomic(Py_ssize_t) next;
    Block work;
    void *job;
    Py_ssize_t num_blocks;
} second = {.in_use = PTHREAD_MUTEX_INITIALIZER, .sleeping = PTHREAD_MUTEX_INITIALIZER, .offer = PTHREAD_COND_INITIALIZER};

static int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void take_blocks(void) {
    Py_ssize_t index;
    while ((index = atomic_fetch_add(&second.next, 1)) < second.num_blocks) second.work(second.job, index);
}

static void sleep_until_offer(void) {
    pthread_mutex_lock(&second.sleeping);
    /* Said before the state is looked at, as the other side does both in the other order: one of them sees the other. */
    atomic_store(&second.is_asleep, 1);
    while (atomic_load(&second.state) != OFFERED) pthread_cond_wait(&second.offer, &second.sleeping);
    atomic_store(&second.is_asleep, 0);
    pthread_mutex_unlock(&second.sleeping);
}

static void *serve(void *unused) {
    (void)unused;
    int stays_awake = 0;
    for (;;) {
        const int64_t since = monotonic_ns();
        int64_t waited = 0;
        while (atomic_load(&second.state) != OFFERED) {
            if (!stays_awake || waited > AWAKE_NS) {
                sleep_until_offer();
                break;
            }
            for (int i = 0; i < 32; i++) PAUSE();
            waited = monotonic_ns() - since;
        }
        /* After a short pause the next one is awaited awake, after a long one asleep. */
        stays_awake = monotonic_ns() - since < AWAKE_NS;
        int offered = OFFERED;
        if (!atomic_compare_exchange_strong(&second.state, &offered, TAKEN)) continue;
        take_blocks();
        atomic_store(&second.state, DONE);
    }
    return NULL;
}

/* Only the thread that forked lives on in a child, whatever the others were at. */
static void forget_thread(void) {
    pthread_mutex_init(&second.in_use, NULL);
    pthread_mutex_init(&second.sleeping, NULL);
    pthread_cond_init(&second.offer, NULL);
    atomic_store(&second.state, IDLE);
    atomic_store(&second.is_asleep, 0);
    atomic_store(&second.thread, NONE);
}

static int num_cores(void) {
#ifdef CPU_COUNT
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Called by whoever has `in_use`. */
static int has_thread(void) {
    int found = atomic_load(&second.thread);
    if (found != NONE) return found == THERE;
    found = REFUSED;
    pthread_attr_t attributes;
    if (num_cores() > 1 && pthread_attr_init(&attributes) == 0) {
        pthread_t thread;
        sigset_t all, before;
        sigfillset(&all);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        /* Signals are for the threads that Python knows. */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        if (pthread_create(&thread, &attributes, serve, NULL) == 0) found = THERE;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    atomic_store(&second.thread, found);
    return found == THERE;
}

/* Calls `work` once for every index from 0, in any order, perhaps in two threads; returns when all are done. */
static void run_shared(Block work, void *job, Py_ssize_t num_blocks) {
    if (num_blocks < 2 || pthread_mutex_trylock(&second.in_use)) {
        run_alone(work, job, num_blocks);
        return;
    }
    if (!has_thread()) {
        pthread_mutex_unlock(&second.in_use);
        run_alone(work, job, num_blocks);
        return;
    }
    second.work = work;
    second.job = job;
    second.num_blocks = num_blocks;
    atomic_store(&second.next, 0);
    atomic_store(&second.state, OFFERED);
    if (atomic_load(&second.is_asleep)) {
        pthread_mutex_lock(&second.sleeping);
        pthread_cond_signal(&second.offer);
        pthread_mutex_unlock(&second.sleeping);
    }
    take_blocks();
    int offered = OFFERED;
    if (!atomic_compare_exchange_strong(&second.state, &offered, IDLE)) {
        /* It has at most one block left. */
        for (int spins = 0; atomic_load(&second.state) != DONE; spins++) {
            PAUSE();
            /* Perhaps it waits for this very core. */
            if (spins % 1024 == 1023) sched_yield();
        }
        atomic_store(&second.state, IDLE);
    }
    pthread_mutex_unlock(&second.in_use);
}

static int prepare_for_forks(void) { return pthread_atfork(NULL, NULL, forget_thread); }

#else

#define run_shared run_alone
static int prepare_for_forks(void) { return 0; }

#endif
#endif
