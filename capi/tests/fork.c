/* A process that has used the library's threads forks: both go on to use them.  Then it forks while other threads are in the midst of calls. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "poolings.h"

enum { FORKS = 30, CALLERS = 3, LIMIT = 60 }; /* LIMIT: seconds after which a child counts as hanging */

static const input in = {.batch = 2, .channels = 8, .spatial = {130, 131}, .rank = 2, .layout = FIRST, .dtype = F32};
static operands serial;
static _Atomic int finished, wrong;

/* One call on four threads, compared with that on one. */
static int parallel_call(void)
{
    operands o;
    bool made = prepare(&o, serial.pooling, &windows[1], &in, plainly);
    o.params.num_threads = 4;
    int ok = made && both(&o) == NUMBAPOOL_OK && same_outputs(&o, &serial);
    discard(&o);
    return ok;
}

static void *caller(void *unused)
{
    while (!finished)
        if (!parallel_call())
            wrong++;
    return unused;
}

/* In a child the library works, twice, and so does the end of the process. */
static void fork_once(const char *when)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        alarm(LIMIT);
        exit(parallel_call() && numbapool_set_num_threads(3) == NUMBAPOOL_OK && parallel_call() ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child, "%s: fork or waitpid", when);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: the child ended with status %x", when, (unsigned)status);
    CHECK(parallel_call(), "%s: the parent's results differ", when);
}

int main(void)
{
    pthread_t threads[CALLERS];
    alarm(4 * LIMIT);
    CHECK(prepare(&serial, &poolings[2], &windows[1], &in, plainly), "shape");
    serial.params.num_threads = 1;
    CHECK(both(&serial) == NUMBAPOOL_OK, "call on one thread");
    fork_once("before any thread");
    fork_once("with idle threads");
    for (int i = 0; i < CALLERS; i++)
        CHECK(pthread_create(&threads[i], NULL, caller, NULL) == 0, "pthread_create");
    for (int i = 0; i < FORKS; i++)
        fork_once("with busy threads");
    finished = 1;
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(wrong == 0, "%d results in the parent differ", wrong);
    discard(&serial);
    return report("fork");
}
