/* The planners as functions that tests/test_capi_plans.py calls: each begins a call of its own, whose memory stays until the next one. */
#include <stdlib.h>
#include <string.h>

#include "plans.h"

#define EXPORT __attribute__((visibility("default")))
#define CALLED(statement)         \
    open_call();                  \
    if (setjmp(call.out) == 0) {  \
        statement;                \
    }                             \
    return call.status

enum { ROOM = 1 << 24 };

static context call;
static char *memory;

/* Memory full of garbage, another one than the last call's, so that what is read before it is written shows. */
static void open_call(void)
{
    static unsigned char garbage = 0xA5;
    size_t used = memory && call.used < ROOM ? call.used : ROOM;
    if (!memory)
        memory = malloc(ROOM);
    else
        end(&call);
    garbage = (unsigned char)~garbage;
    if (memory)
        memset(memory, garbage, used);
    begin(&call, "plans", memory, memory ? ROOM : 0, false);
}

EXPORT size_t size_of(int what)
{
    return what == 0 ? sizeof(axis) : what == 1 ? sizeof(geometry) : what == 2 ? sizeof(plan) : sizeof(extra);
}

/* How many bytes the last call took. */
EXPORT size_t bytes_used(void) { return call.used; }

EXPORT int axis_missing(axis *a) { CALLED(missing(&call, a)); }

EXPORT int axis_sliding(axis *a, int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation, int ceil_mode,
                        int rule)
{
    CALLED(sliding(&call, a, size, kernel, stride, before, after, dilation, ceil_mode, (share_rule)rule));
}

EXPORT int axis_adaptive(axis *a, int64_t size, int64_t outputs, int rule) { CALLED(adaptive(&call, a, size, outputs, (share_rule)rule)); }

EXPORT int axis_spans(axis *a, const int64_t *sequence, int64_t outputs, int64_t size, int overlapping)
{
    CALLED(spans(&call, a, sequence, outputs, size, overlapping));
}

EXPORT int axis_at(axis *a, int64_t *first, int64_t planes, int64_t outputs, int64_t kernel)
{
    CALLED(windows_at(&call, a, first, planes, outputs, kernel));
}

EXPORT int axis_fractional(axis *a, int64_t size, int64_t kernel, int64_t outputs, const double *u, int64_t planes, int single)
{
    CALLED(fractional(&call, a, size, kernel, outputs, u, planes, single));
}

EXPORT int axis_shared(axis *a, int64_t factor) { CALLED(shared(&call, a, factor)); }

EXPORT void padding(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int mode, int64_t *both)
{
    padding_of(size, kernel, stride, dilation, mode, both, both + 1);
}

EXPORT int is_straight(const geometry *g, const int64_t *strides) { return straight(g, strides); }

EXPORT int shape_of_small(const geometry *g, int backward) { return small(g, backward); }

EXPORT int geometry_cut(geometry *g) { CALLED(cut(&call, g)); }

EXPORT int geometry_as_channels(geometry *g, int gradient) { CALLED(as_channels(&call, g, gradient)); }

EXPORT int geometry_in_a_row(geometry *g) { CALLED(in_a_row(&call, g)); }

EXPORT int plan_of_general(plan *made, const geometry *g, int64_t width, int gradient, int scratch_planes, int itemsize, int sort,
                           const extra *extras, int n_extras)
{
    CALLED(*made = plan_general(&call, g, width, gradient, scratch_planes, itemsize, sort, extras, n_extras));
}

EXPORT int plan_of_small(plan *made, const geometry *g, int gradient, int past_cache)
{
    CALLED(*made = plan_small(&call, g, gradient, past_cache));
}

EXPORT int plan_of_three(plan *made, const geometry *g, int lifts, int terms, int itemsize, int past_cache)
{
    CALLED(*made = plan_three(&call, g, lifts, terms, itemsize, past_cache));
}

/* A plan of size 0 says that there is none. */
EXPORT int plan_of_sweep(plan *made, const geometry *g, int lifts, int terms, int itemsize, int gradient, int past_cache)
{
    made->size = 0;
    CALLED(plan_sweep(&call, g, lifts, terms, itemsize, gradient, past_cache, made));
}

EXPORT int plan_of_choices(plan *made, int *how, const geometry *g, int64_t width, int gradient, int scratch_planes, int itemsize, int past_cache)
{
    CALLED(*how = plan_choices(&call, g, width, gradient, scratch_planes, itemsize, past_cache, made));
}

/* Axes of windows over `sizes` elements, or (ones: 1, with weights of their own 2) of elements by themselves. */
EXPORT int plan_of_weighing(weighing *made, const axis *axes, const int64_t *sizes, const int *ones, int pad_mode, int transposed, int64_t batch,
                            const int64_t *x, const int64_t *y, const int64_t *w, int64_t sums)
{
    taps four[4];
    CALLED(for (int i = 0; i < 4; i++)
               four[i] = ones[i] ? taps_of_one(&call, sizes[i], ones[i] == 2)
                                 : taps_of_windows(&call, &axes[i], sizes[i], pad_mode, transposed);
           *made = plan_weighing(&call, four, batch, x, y, w, sums));
}
