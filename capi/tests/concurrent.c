/* Eight threads call every pooling at once, on the library's threads and on their own, while the number of threads is changed: the results are those
 * of one thread, to the last bit.  Messages of failures stay with the thread that failed. */
#include <pthread.h>

#include "poolings.h"

enum { CALLERS = 8, ROUNDS = 2 };

static operands expected[POOLINGS];
static const input in = {.batch = 2, .channels = 8, .spatial = {130, 131}, .rank = 2, .layout = FIRST, .dtype = F32};
static _Atomic int wrong[POOLINGS], texts_wrong;

/* The same inputs, which the threads share, and outputs of its own. */
static void own_outputs(operands *o, const operands *of)
{
    static const int outputs[] = {Y, INDICES, GRAD_X, GRAD_SECOND, GRAD_ALPHA, GRAD_FILTER};
    *o = *of;
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        int slot = outputs[i];
        if (!of->t[slot] || (slot == INDICES && !of->pooling->indexed))
            continue;
        o->t[slot] = shaped(&o->tensors[slot], of->t[slot]->dtype, of->t[slot]->ndim, of->t[slot]->shape);
        o->t[slot]->data = allocate(bytes_of(o->t[slot]));
        memset(o->t[slot]->data, 0xFF, bytes_of(o->t[slot]));
    }
}

static void free_outputs(const operands *o, const operands *of)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (o->t[slot] != of->t[slot])
            free(o->t[slot]->data);
}

static void fail_with(int n)
{
    char text[40];
    numbapool_params p;
    numbapool_params_init(&p, sizeof p);
    p.num_threads = -n - 1;
    snprintf(text, sizeof text, "got -%d", n + 1);
    if (numbapool_avg_pool(expected[0].t[X], expected[0].t[Y], &p) != NUMBAPOOL_VALUE_ERROR)
        texts_wrong++;
    for (int i = 0; i < 100; i++)
        if (!strstr(numbapool_error_message(), text))
            texts_wrong++;
}

static void *caller(void *argument)
{
    int number = *(int *)argument;
    for (int turn = 0; turn < ROUNDS * POOLINGS; turn++) {
        int i = (turn + 3 * number) % POOLINGS;
        operands o;
        own_outputs(&o, &expected[i]);
        o.params.num_threads = (turn + number) % 4;
        fail_with(number);
        if (number == 0)
            numbapool_set_num_threads(turn % 5);
        if (both(&o) != NUMBAPOOL_OK || !same_outputs(&o, &expected[i]))
            wrong[i]++;
        free_outputs(&o, &expected[i]);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[CALLERS];
    int numbers[CALLERS];
    numbapool_set_num_threads(4);
    for (int i = 0; i < POOLINGS; i++) {
        CHECK(prepare(&expected[i], &poolings[i], &windows[1], &in, plainly), "%s: shape", poolings[i].name);
        expected[i].params.num_threads = 1;
        CHECK(both(&expected[i]) == NUMBAPOOL_OK, "%s failed", poolings[i].name);
    }
    for (int i = 0; i < CALLERS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, caller, &numbers[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < POOLINGS; i++) {
        CHECK(wrong[i] == 0, "%s: %d results differ from those of one thread", poolings[i].name, wrong[i]);
        discard(&expected[i]);
    }
    CHECK(texts_wrong == 0, "%d messages were another thread's", texts_wrong);
    return report("concurrent");
}
