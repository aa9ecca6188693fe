/* Every pooling on the host's threads: the results are those of the caller's thread alone, to the last bit; the library makes no threads of its own,
 * passes the host's context on, and keeps no more of its threads busy than num_threads says. */
#include <pthread.h>
#include <stdatomic.h>

#include "poolings.h"

enum { HOSTS = 4 };

/* What the host's parallel_for is told, and sees. */
typedef struct {
    numbapool_body body;
    void *argument;
    int64_t n;
    atomic_llong next;
    atomic_int calls, working, most;
} host;

static void *host_thread(void *argument)
{
    host *h = argument;
    for (int64_t i; (i = atomic_fetch_add(&h->next, 1)) < h->n;) {
        int working = atomic_fetch_add(&h->working, 1) + 1, most = atomic_load(&h->most);
        while (working > most && !atomic_compare_exchange_weak(&h->most, &most, working))
            ;
        h->body(h->argument, i);
        atomic_fetch_sub(&h->working, 1);
    }
    return NULL;
}

static void on_threads(void *context, int64_t n, numbapool_body body, void *argument)
{
    host *h = context;
    pthread_t threads[HOSTS];
    h->body = body, h->argument = argument, h->n = n;
    atomic_store(&h->next, 0);
    atomic_fetch_add(&h->calls, 1);
    for (int i = 0; i < HOSTS; i++)
        CHECK(pthread_create(&threads[i], NULL, host_thread, h) == 0, "pthread_create");
    for (int i = 0; i < HOSTS; i++)
        pthread_join(threads[i], NULL);
}

/* A host that has one thread, and begins with the last task. */
static void backwards(void *context, int64_t n, numbapool_body body, void *argument)
{
    atomic_fetch_add(&((host *)context)->calls, 1);
    while (n-- > 0)
        body(argument, n);
}

/* Threads of this process, or 1 where /proc does not tell. */
static int own_threads(void)
{
    char line[256];
    int n = 1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "Threads:", 8))
            n = atoi(line + 8);
    if (file)
        fclose(file);
    return n;
}

static void nothing(void *argument, int64_t i)
{
    (void)argument;
    (void)i;
}

static void try_host(const operands *serial, const pooling *p, const input *in, numbapool_parallel_for run, int threads)
{
    static host h;
    operands o;
    CHECK(prepare(&o, p, &windows[1], in, plainly), "%s: shape", p->name);
    atomic_store(&h.calls, 0);
    atomic_store(&h.most, 0);
    o.params.parallel_for = run;
    o.params.parallel_context = &h;
    o.params.num_threads = threads;
    CHECK(both(&o) == NUMBAPOOL_OK, "%s failed", p->name);
    CHECK(same_outputs(&o, serial), "%s, layout %d: results differ from those of one thread", p->name, (int)in->layout);
    CHECK(threads == 1 || h.calls > 0, "%s: parallel_for was not called", p->name);
    CHECK(threads == 0 || h.most <= threads, "%s: %d threads worked at once, %d were allowed", p->name, h.most, threads);
    discard(&o);
}

int main(void)
{
    static host h;
    on_threads(&h, 1, nothing, NULL); /* a sanitizer makes a thread with the first of ours */
    int before = own_threads();
    numbapool_set_num_threads(HOSTS);
    for (int l = 0; l < LAYOUTS; l++) {
        input in = {.batch = 2, .channels = 8, .spatial = {130, 131}, .rank = 2, .layout = (layout)l, .dtype = F32};
        for (int i = 0; i < POOLINGS; i++) {
            operands serial;
            CHECK(prepare(&serial, &poolings[i], &windows[1], &in, plainly), "%s: shape", poolings[i].name);
            serial.params.num_threads = 1;
            CHECK(both(&serial) == NUMBAPOOL_OK, "%s failed", poolings[i].name);
            try_host(&serial, &poolings[i], &in, on_threads, 0);
            try_host(&serial, &poolings[i], &in, on_threads, 2);
            try_host(&serial, &poolings[i], &in, backwards, 3);
            discard(&serial);
        }
    }
    CHECK(own_threads() == before, "the library made threads of its own");
    return report("host_threads");
}
