/* Composed poolings on a GPU, beside the poolings that they are made of: numbapool/cuda/composed.py in C.  Half types are widened to float32 first.
 * Nobody knows the values of parameters; the one table of weights that is known is blur's. */
#include <inttypes.h>
#include <string.h>

#include "cuda.h"
#include "cuda_composed.h"
#include "plans.h"

/* A launch in the making: what it reads and writes, and how far that reaches. */
typedef struct {
    call *k;
    operands o;
    unsigned slots;
    int64_t most;
} making;

static const int64_t none[5] = {0};

static making making_over(call *k, const int64_t dims[5])
{
    making m = {.k = k, .most = most(times(product(dims + 2, 3), k->lanes ? dims[1] : 1), times(dims[0], dims[1]))};
    return m;
}

static void add_memory(making *m, int slot, uint64_t address, const int64_t strides[5])
{
    cuda_at(&m->o, slot, address, strides);
    m->slots |= BIT(slot);
}

/* A view; where it has a single element along an axis, that is all tasks'. */
static void add_view(making *m, int slot, const view *v)
{
    int64_t strides[5], reach = 0;
    for (int i = 0; i < 5; i++) {
        strides[i] = v->dims[i] == 1 ? 0 : v->strides[i];
        if (i)
            reach += times(strides[i] < 0 ? -strides[i] : strides[i], most(v->dims[i] - 1, 0));
    }
    m->most = most(m->most, reach);
    add_memory(m, slot, (uint64_t)(uintptr_t)v->data, strides);
}

/* A launch over `dims`, or over the call's own windows (NULL), or over so many numbers that belong to no plane. */
static cuda_task *go(making *m, int formula, int loop, dtype t, const int64_t *dims, int64_t items, bool of_no_plane)
{
    call sub = *m->k;
    if (dims) {
        memcpy(sub.out_dims, dims, sizeof sub.out_dims);
        memcpy(sub.x.dims, dims, sizeof sub.x.dims);
        fake_axes(&sub);
    }
    cuda_head head = cuda_head_of(&sub, sub.lanes && !items);
    kernel_key key = {.formula = formula, .loop = loop, .dtype = (int)t, .lanes = 1, .channel = head.channel,
                      .wide = !of_no_plane && m->most >= NUMBAPOOL_CUDA_REACH};
    const cuda_row *row = cuda_pick(&sub, &key, !of_no_plane);
    head.channel = key.channel;
    return cuda_add(&head, &key, row, &m->o, &(cuda_launch){.slots = m->slots, .items = items, .of_no_plane = of_no_plane});
}

void cuda_each_row(call *k, row_kind kind, const view *const *views, int n)
{
    static const int loops[ROW_FUNCTIONS] = {[BLEND] = CU_EACH_BLEND, [SPLIT] = CU_EACH_SPLIT, [TIMES_DISTANCE] = CU_EACH_DISTANCE,
                                             [ADD] = CU_EACH_SUM, [CLEAR] = CU_EACH_ZERO, [THROUGH_SIGMOID] = CU_EACH_SIGMOID};
    making m = making_over(k, views[0]->dims);
    int slot = 0;
    if (kind == ADD)
        add_view(&m, slot++, views[0]);
    for (int i = 0; i < n; i++)
        add_view(&m, slot++, views[i]);
    go(&m, FORMULA_WEIGH, loops[kind], k->dtype, views[0]->dims, 0, false);
}

/* ---------------------------------------------------------------- parameters */

view cuda_parameter(call *k, const DLTensor *t, const int64_t dims[5], const int *axes)
{
    view v = {.dtype = k->dtype};
    memcpy(v.dims, dims, sizeof v.dims);
    if (t) {
        v.data = (char *)t->data + t->byte_offset;
        for (int i = t->ndim - 1, step = 1; i >= 0; step *= (int)t->shape[i--])
            v.strides[axes[i]] = t->shape[i] == 1 ? 0 : t->strides ? t->strides[i] : step;
    } else {
        v.data = (char *)(uintptr_t)cuda_number(k, array_number(k));
    }
    return v;
}

/* Its gradient: y's sizes summed over the axes that it has not, as a pooling with a divisor of one. */
void cuda_gather(call *k, const view *from, const DLTensor *t, const int *axes, int n_axes)
{
    const int64_t *d = from->dims, *s = from->strides;
    int64_t plane = product(d + 2, 3), along = k->memory_last ? d[1] : 1, step = 1, first = t->ndim == 1 && t->strides ? t->strides[0] : 1;
    bool channel = n_axes && axes[0] == 1, position = n_axes > channel;
    for (int i = t->ndim - 1; i >= 0 && t->ndim > 1; step *= t->shape[i--])
        if (t->shape[i] > 1 && t->strides && t->strides[i] != step)
            fail(k->c, NUMBAPOOL_BUFFER_ERROR, "the gradient of a parameter must lie in C order on a CUDA device");
    if (channel && position && k->memory_last)
        fail(k->c, NUMBAPOOL_UNSUPPORTED, "the gradient of a parameter of channels and positions wants x in channels-first memory on a CUDA device");
    cuda_sums sums = {.from = (uint64_t)(uintptr_t)from->data, .sizes = {1, d[0], times(d[1], plane)}, .strides = {1, s[0], 1}, .to = t, .step = first};
    if (channel && position)
        sums = (cuda_sums){sums.from, {times(d[1], plane), d[0], 1}, {1, s[0], 1}, t, first};
    else if (channel)
        sums = (cuda_sums){sums.from, {d[1], d[0], plane}, {s[1], s[0], along}, t, first};
    else if (position)
        sums = (cuda_sums){sums.from, {plane, d[0], d[1]}, {along, s[0], s[1]}, t, first};
    cuda_add_up(k, &sums);
}

/* ---------------------------------------------------------------- sums by weights */

static void set_table(call *k, cuda_task *t, int word, const int64_t *numbers, int64_t n)
{
    int32_t *found = take(k->c, (size_t)most(n, 1) * sizeof *found);
    for (int64_t i = 0; i < n; i++)
        found[i] = (int32_t)numbers[i];
    cuda_set_word(k->c, t, word, cuda_place(k->c, found, found, (size_t)n * sizeof *found));
}

static void set_taps(call *k, cuda_task *t, const sights *s, bool transposed)
{
    for (int i = 0; i < 3; i++) {
        taps own = taps_of_windows(k->c, &s->axes[i], s->sizes[i], s->pad_mode, transposed);
        set_table(k, t, CU_D_COVER + i, own.starts, own.results + 1);
        set_table(k, t, CU_D_LIST + i, own.pairs, 2 * own.starts[own.results]);
    }
}

static void weights_operand(making *m, const filter *f)
{
    int64_t strides[5] = {0, f->own ? f->steps[0] : 0, f->steps[1], f->steps[2], f->steps[3]};
    add_memory(m, CU_PARAM, f->on_device ? (uint64_t)(uintptr_t)f->values : 0, strides);
}

void cuda_weigh(call *k, const sights *s, const filter *f, const view *x, const view *y, bool transposed, bool gate)
{
    making m = making_over(k, y->dims);
    add_view(&m, CU_X, x);
    add_view(&m, CU_Y, y);
    weights_operand(&m, f);
    cuda_task *t = go(&m, FORMULA_WEIGH, CU_WEIGH_WINDOWS, k->dtype, y->dims, 0, false);
    t->words[CU_GATE] = gate;
    set_taps(k, t, s, transposed);
    if (!f->on_device)
        cuda_set_word(k->c, t, CU_HEAD + CU_RECORD * CU_PARAM,
                      cuda_place(k->c, f->values, f->values, (size_t)product(f->dims, 4) * (size_t)item_bytes(k->dtype)));
}

void cuda_weigh_gradient(call *k, const sights *s, const filter *f, const view *x, const view *grad)
{
    const DLTensor *t = k->r->grad_weight;
    int64_t count = product(f->dims + 1, 3), channels = f->dims[0], planes = times(x->dims[0], x->dims[1]), strides[5] = {0}, step = 1;
    int64_t slices = cuda_slices(times(planes, count), product(grad->dims + 2, 3));
    uint64_t sums = cuda_space(k, times(times(planes, slices), count), 8), totals = cuda_space(k, channels * count, 8);
    int missing = 4 - t->ndim;
    for (int i = 3; i >= missing; step *= f->dims[i--])
        strides[1 + i] = t->strides ? t->strides[i - missing] : step;
    if (!f->own)
        strides[1] = 0;
    making first = making_over(k, grad->dims), few = making_over(k, grad->dims);
    add_view(&first, CU_X, x);
    add_view(&first, CU_Y, grad);
    add_memory(&first, CU_WORK, sums, none);
    add_memory(&few, CU_WORK, sums, none);
    add_memory(&few, CU_PARTS, totals, none);
    add_memory(&few, CU_GRAD_PARAM, (uint64_t)(uintptr_t)t->data + t->byte_offset, strides);
    cuda_task *tasks[3];
    tasks[0] = go(&first, FORMULA_WEIGH, CU_WEIGH_SUMS, k->dtype, grad->dims, slices * count, false);
    set_taps(k, tasks[0], s, false);
    tasks[1] = go(&few, FORMULA_SORT, CU_ORDER_TOTALS, k->dtype, grad->dims, channels * count, true);
    tasks[2] = go(&few, FORMULA_WEIGH, CU_WEIGH_LEARN, k->dtype, grad->dims, channels * count, true);
    for (int i = 0; i < 3; i++) {
        tasks[i]->words[CU_SLICES] = slices;
        tasks[i]->words[CU_RANKS] = count;
        tasks[i]->words[CU_RANK_CHANNEL] = channels > 1;
        tasks[i]->words[CU_ALONG] = f->dims[2];
        tasks[i]->words[CU_ACROSS] = f->dims[3];
        if (i)
            tasks[i]->words[CU_GROUPS] = 1;
    }
}

/* ---------------------------------------------------------------- details */

void cuda_details(call *k, const view *lam, const view *alpha, const view *middle, const view *out, const view *const *gradients)
{
    static const int slots[4] = {CU_GRAD_X, CU_GRAD_PARAM, CU_WORK, CU_GRAD_LOGIT};
    making m = making_over(k, k->out_dims);
    add_view(&m, CU_X, &k->x);
    add_view(&m, CU_Y, out);
    add_view(&m, CU_PARAM, lam);
    add_view(&m, CU_PARAM2, alpha);
    if (middle)
        add_view(&m, CU_LOGIT, middle);
    for (int i = 0; gradients && i < 4; i++)
        if (gradients[i] && gradients[i]->data)
            add_view(&m, slots[i], gradients[i]);
    cuda_task *t = go(&m, FORMULA_WEIGH, gradients ? CU_DETAIL_BACKWARD : CU_DETAIL_FORWARD, k->dtype, NULL, 0, false);
    t->words[CU_GIVEN] = middle != NULL;
    t->words[CU_SYMMETRIC] = k->p.symmetric;
}

/* ---------------------------------------------------------------- half types */

/* A float32 copy of a tensor of the caller's, or memory for one; NULL of none. */
static DLTensor *widened(call *k, const DLTensor *t, const char *name, const int64_t dims[5], bool fill, DLTensor *made, int64_t room[2][5])
{
    if (!t)
        return NULL;
    view given = tensor_view(k, t, name, dims, k->dtype), wide = fresh_view(k, dims, FLOAT32, k->memory_last);
    if (fill) {
        making m = making_over(k, dims);
        add_view(&m, 0, &wide);
        add_view(&m, 1, &given);
        go(&m, FORMULA_WEIGH, CU_EACH_WIDE, k->dtype, dims, 0, false);
    }
    *made = tensor_of(k, &wide, room[0], room[1]);
    return made;
}

static void narrowed(call *k, const DLTensor *from, const DLTensor *t, const char *name, const int64_t dims[5])
{
    if (!t)
        return;
    view to = result_view(k, t, name, dims, k->dtype), wide = {.data = from->data, .dtype = FLOAT32};
    memcpy(wide.dims, dims, sizeof wide.dims);
    dense(dims, k->memory_last, wide.strides);
    making m = making_over(k, dims);
    add_view(&m, 0, &to);
    add_view(&m, 1, &wide);
    go(&m, FORMULA_WEIGH, CU_EACH_HALF, k->dtype, dims, 0, false);
}

void cuda_in_float32(call *k)
{
    const request *r = k->r;
    request sub = *r;
    DLTensor x, grad, y, grad_x;
    int64_t rooms[4][2][5];
    sub.x = widened(k, r->x, "x", k->x.dims, true, &x, rooms[0]);
    sub.grad = widened(k, r->backward ? r->grad : NULL, "grad", k->out_dims, true, &grad, rooms[1]);
    sub.y = widened(k, r->y, "y", k->out_dims, false, &y, rooms[2]);
    sub.grad_x = widened(k, r->grad_x, "grad_x", k->x.dims, false, &grad_x, rooms[3]);
    in_context(k->c, &sub, k->dry);
    narrowed(k, &y, r->y, "y", k->out_dims);
    narrowed(k, &grad_x, r->grad_x, "grad_x", k->x.dims);
}
