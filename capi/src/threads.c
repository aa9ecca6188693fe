/* Threads: how many a call may use, and who runs its tasks: the host's threads, the library's own, or the caller's alone. */
#ifdef __linux__
#define _GNU_SOURCE /* sched_getaffinity */
#else
#define _POSIX_C_SOURCE 200809L
#endif

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

enum { MOST = 1024, STACK = 2 << 20, SPIN_NS = 50000 };

/* ---------------------------------------------------------------- numbers */

static atomic_int number_set, number_found; /* by numbapool_set_num_threads, by itself; 0: not yet */

static int processors(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > MOST ? MOST : n > 0 ? (int)n : 1;
}

static int find_number(void)
{
    const char *text = getenv("NUMBAPOOL_NUM_THREADS");
    char *end = NULL;
    long n = text ? strtol(text, &end, 10) : 0;
    if (n > 0 && *end == '\0')
        return n > MOST ? MOST : (int)n;
    return processors();
}

int numbapool_get_num_threads(void)
{
    int n = atomic_load(&number_set);
    if (n == 0)
        n = atomic_load(&number_found);
    if (n == 0)
        atomic_store(&number_found, n = find_number());
    return n;
}

int threads_for(const numbapool_params *params)
{
    int n = params->num_threads > 0 ? params->num_threads : numbapool_get_num_threads();
    return n > MOST ? MOST : n;
}

/* ---------------------------------------------------------------- a job: tasks that are taken one by one */

typedef struct {
    numbapool_body body;
    void *argument;
    int64_t n;
    _Atomic int64_t next;
} job;

static void work(void *argument, int64_t thread)
{
    (void)thread;
    job *j = argument;
    for (int64_t i; (i = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < j->n;)
        j->body(j->argument, i);
}

/* ---------------------------------------------------------------- the pool: one job at a time, for whoever has claimed it */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake, finished;
    /* under the lock */
    bool claimed, stop, owner_sleeps;
    int sleepers;
    job *present;
    /* changed under the lock, but read by those who spin */
    atomic_int seats;  /* workers that may still join the present job */
    atomic_int active; /* workers in it */
    /* of the one who has claimed the pool */
    int workers;
    pthread_t threads[MOST];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .finished = PTHREAD_COND_INITIALIZER};

static atomic_bool usable, stale; /* stale: the number of threads was changed, begin with new ones */

static inline void rest(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait up to SPIN_NS until the number is zero, or until it is not.  To wake a sleeper costs the caller 7 us, and it starts some 10 us later; one that
 * spins starts within 1 us: calls of 20 us that follow each other take half the time. */
static void spin_until(atomic_int *number, bool zero)
{
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        for (int i = 0; i < 32; i++) {
            if ((atomic_load_explicit(number, memory_order_relaxed) == 0) == zero)
                return;
            rest();
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begun.tv_sec) * 1000000000L + (now.tv_nsec - begun.tv_nsec) < SPIN_NS);
}

/* Join the present job; the lock is held before and after. */
static void join_in(void)
{
    job *j = pool.present;
    atomic_fetch_sub(&pool.seats, 1);
    atomic_fetch_add(&pool.active, 1);
    pthread_mutex_unlock(&pool.lock);
    work(j, 0);
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.seats, 0); /* no task is left for those who come late */
    if (atomic_fetch_sub(&pool.active, 1) == 1 && pool.owner_sleeps)
        pthread_cond_signal(&pool.finished);
}

static void *worker(void *unused)
{
    pthread_mutex_lock(&pool.lock);
    while (!pool.stop) {
        if (atomic_load(&pool.seats) == 0) {
            pthread_mutex_unlock(&pool.lock);
            spin_until(&pool.seats, false);
            pthread_mutex_lock(&pool.lock);
        }
        pool.sleepers++;
        while (!pool.stop && atomic_load(&pool.seats) == 0)
            pthread_cond_wait(&pool.wake, &pool.lock);
        pool.sleepers--;
        if (atomic_load(&pool.seats) > 0)
            join_in();
    }
    pthread_mutex_unlock(&pool.lock);
    return unused;
}

/* End the workers; for the one who has claimed the pool. */
static void dismiss(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.stop = true;
    pthread_mutex_unlock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    while (pool.workers > 0)
        pthread_join(pool.threads[--pool.workers], NULL);
    pool.stop = false;
}

/* Signals are for the host's threads, but for those of a fault, which a thread cannot leave to another. */
static void hired_signals(sigset_t *set)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigfillset(set);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(set, faults[i]);
}

/* Have as many workers, or as many as can be made; for the one who has claimed the pool. */
static void hire(int workers)
{
    if (pool.workers >= workers)
        return;
    pthread_attr_t attributes;
    sigset_t blocked, old;
    if (pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setstacksize(&attributes, STACK);
    hired_signals(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    while (pool.workers < workers && pthread_create(&pool.threads[pool.workers], &attributes, worker, NULL) == 0)
        pool.workers++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
}

static void release(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.claimed = false;
    pthread_mutex_unlock(&pool.lock);
}

/* Whether the pool is now the caller's, who may not wait for it: it could be in one of the pool's own tasks. */
static bool claim(void)
{
    if (!atomic_load(&usable))
        return false;
    pthread_mutex_lock(&pool.lock);
    bool mine = !pool.claimed;
    pool.claimed = true;
    pthread_mutex_unlock(&pool.lock);
    if (mine && atomic_exchange(&stale, false))
        dismiss();
    return mine;
}

/* Let the caller and as many workers do a job.  Workers that wake too late for a task are not waited for. */
static void run_job(job *j, int workers)
{
    hire(workers);
    pthread_mutex_lock(&pool.lock);
    pool.present = j;
    atomic_store(&pool.seats, workers < pool.workers ? workers : pool.workers);
    int seats = atomic_load(&pool.seats), wake = pool.sleepers;
    pthread_mutex_unlock(&pool.lock);
    if (wake > 0 && wake <= seats)
        pthread_cond_broadcast(&pool.wake);
    else
        for (; wake > 0 && seats > 0; seats--)
            pthread_cond_signal(&pool.wake);

    work(j, 0);

    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.seats, 0);
    pthread_mutex_unlock(&pool.lock);
    spin_until(&pool.active, true);
    pthread_mutex_lock(&pool.lock);
    pool.owner_sleeps = true;
    while (atomic_load(&pool.active) > 0)
        pthread_cond_wait(&pool.finished, &pool.lock);
    pool.owner_sleeps = false;
    pool.present = NULL;
    pthread_mutex_unlock(&pool.lock);
}

void run_parallel(const numbapool_params *params, int64_t n, numbapool_body body, void *argument)
{
    job j = {.body = body, .argument = argument, .n = n, .next = 0};
    int threads = threads_for(params);
    if (n < threads)
        threads = (int)n;
    if (threads > 1 && params->parallel_for) {
        params->parallel_for(params->parallel_context, threads, work, &j);
    } else if (threads > 1 && claim()) {
        run_job(&j, threads - 1);
        release();
    } else {
        work(&j, 0);
    }
}

int numbapool_set_num_threads(int threads)
{
    context c;
    begin(&c, "numbapool_set_num_threads", NULL, 0, false);
    if (setjmp(c.out) != 0)
        return NUMBAPOOL_VALUE_ERROR;
    if (threads < 0)
        fail(&c, NUMBAPOOL_VALUE_ERROR, "threads must not be negative, got %d", threads);
    if (threads == 0)
        atomic_store(&number_found, 0);
    if (atomic_exchange(&number_set, threads) != threads) {
        atomic_store(&stale, true);
        if (claim()) /* else its owner's next call sees to it */
            release();
    }
    return NUMBAPOOL_OK;
}

/* ---------------------------------------------------------------- fork, load and unload */

/* The lock is held across a fork, so that the child finds no half-made state; workers do not cross it, whatever they were at. */
static void before_fork(void) { pthread_mutex_lock(&pool.lock); }

static void after_fork(void) { pthread_mutex_unlock(&pool.lock); }

static void in_child(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.finished, NULL);
    pool.claimed = pool.stop = pool.owner_sleeps = false;
    pool.sleepers = pool.workers = 0;
    atomic_store(&pool.seats, 0);
    atomic_store(&pool.active, 0);
}

/* The C library forgets the handlers of a shared library that is unloaded. */
__attribute__((constructor)) static void load(void) { atomic_store(&usable, pthread_atfork(before_fork, after_fork, in_child) == 0); }

/* When a call is still running, the process is ending by exit: there is nobody to wait for then. */
__attribute__((destructor)) static void unload(void)
{
    if (claim())
        dismiss();
}
