/* Results of poolings combined element by element, on all threads: what composed poolings do with NumPy's operators in Python. */
#include <string.h>

#include "cuda_composed.h"

#define REAL float
#define NAMED(name) name##_float
#include "rows.h"

#define REAL double
#define NAMED(name) name##_double
#include "rows.h"

static const row_function functions[ROW_FUNCTIONS][2] = {
    [BLEND] = {blend_float, blend_double},
    [SPLIT] = {split_float, split_double},
    [TIMES_DISTANCE] = {times_distance_float, times_distance_double},
    [ADD] = {add_float, add_double},
    [CLEAR] = {clear_float, clear_double},
    [THROUGH_SIGMOID] = {through_sigmoid_float, through_sigmoid_double},
};

enum { PIECE = 1 << 12 }; /* elements of a long row that are one task */

/* The operands as few axes as they have together, the last of which are the rows, in pieces. */
typedef struct {
    row_function f;
    int n, axes;
    int64_t item, dims[5], pieces;
    char *data[ROW_OPERANDS];
    int64_t steps[ROW_OPERANDS][5];
} walk;

/* Whether the last axis so far goes on in the next one, for every operand. */
static bool joins(const walk *w, const view *const *operands, int axis, int64_t size)
{
    for (int i = 0; i < w->n; i++)
        if (operands[i] && w->steps[i][w->axes - 1] != operands[i]->strides[axis] * size)
            return false;
    return true;
}

static void add_axis(walk *w, const view *const *operands, int axis)
{
    int64_t size = operands[0]->dims[axis];
    if (size == 1)
        return;
    if (w->axes && joins(w, operands, axis, size))
        w->dims[w->axes - 1] *= size;
    else
        w->dims[w->axes++] = size;
    for (int i = 0; i < w->n; i++)
        if (operands[i])
            w->steps[i][w->axes - 1] = operands[i]->strides[axis];
}

static void walk_tasks(void *argument, int64_t slot, int64_t lo, int64_t hi)
{
    const walk *w = argument;
    int last = w->axes - 1;
    (void)slot;
    for (int64_t task = lo; task < hi; task++) {
        int64_t steps[ROW_OPERANDS] = {0}, rest = task / w->pieces, from = task % w->pieces * PIECE;
        int64_t n = w->dims[last] - from < PIECE ? w->dims[last] - from : PIECE;
        void *at[ROW_OPERANDS] = {NULL};
        int64_t index[5];
        for (int axis = last - 1; axis >= 0; axis--) {
            index[axis] = rest % w->dims[axis];
            rest /= w->dims[axis];
        }
        for (int i = 0; i < w->n; i++) {
            if (!w->data[i])
                continue;
            int64_t place = from * w->steps[i][last];
            for (int axis = 0; axis < last; axis++)
                place += index[axis] * w->steps[i][axis];
            at[i] = w->data[i] + place * w->item;
            steps[i] = w->steps[i][last];
        }
        w->f(n, at, steps);
    }
}

void each_row(call *k, row_kind kind, const view *const *operands, int n_operands)
{
    static const int orders[2][5] = {{0, 1, 2, 3, 4}, {0, 2, 3, 4, 1}};
    if (k->c->device >= 0) {
        cuda_each_row(k, kind, operands, n_operands);
        return;
    }
    walk w = {.f = functions[kind][k->dtype == FLOAT64], .n = n_operands, .item = item_bytes(k->dtype)};
    int64_t elements = product(operands[0]->dims, 5), tasks = 1;
    for (int i = 0; i < n_operands; i++)
        w.data[i] = operands[i] ? operands[i]->data : NULL;
    for (int i = 0; i < 5; i++)
        add_axis(&w, operands, orders[k->memory_last][i]);
    if (!w.axes)
        w.dims[w.axes++] = 1;
    w.pieces = (w.dims[w.axes - 1] + PIECE - 1) / PIECE;
    for (int axis = 0; axis < w.axes - 1; axis++)
        tasks *= w.dims[axis];
    share_out(k, walk_tasks, &w, elements ? tasks * w.pieces : 0, 2 * elements);
}
