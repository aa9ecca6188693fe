/* Poolings made of other ones' results: mixed, gated, ada, blur, max_blur, and (dpp.c) dpp.  What numbapool/composed.py and their files in pools/ do
 * in Python, for float32 and float64.  Everything is checked before the first kernel runs. */
#include <string.h>

#include "cuda_composed.h"

/* ---------------------------------------------------------------- weighing sums */

/* weigh.order_of: the axes but the batch of x's planes, with the one last whose elements lie side by side. */
static const int *order_of(const view *x)
{
    static const int first[4] = {1, 2, 3, 4}, last[4] = {2, 3, 4, 1};
    int64_t step = INT64_MAX, own = x->strides[1] < 0 ? -x->strides[1] : x->strides[1];
    for (int i = 2; i < 5; i++) {
        int64_t s = x->strides[i] < 0 ? -x->strides[i] : x->strides[i];
        if (x->dims[i] > 1 && s < step)
            step = s;
    }
    return x->dims[1] > 1 && step < INT64_MAX && own <= step ? last : first;
}

/* One kernel over all of y.  channels: whether each has weights of its own. */
static void run_weighing(call *k, int loop, const sights *s, bool transposed, bool channels, bool gate, const view *x, const view *y,
                         const int64_t *steps, char *weights, int64_t sums)
{
    const int *order = order_of(x);
    taps four[4];
    int64_t of_x[5] = {x->strides[0]}, of_y[5] = {y->strides[0]}, of_weights[4], tasks = x->dims[0];
    mark before = marked(k->c);
    for (int i = 0; i < 4; i++) {
        int axis = order[i];
        four[i] = axis == 1 ? taps_of_one(k->c, x->dims[1], channels)
                            : taps_of_windows(k->c, &s->axes[axis - 2], s->sizes[axis - 2], s->pad_mode, transposed);
        of_x[1 + i] = x->strides[axis];
        of_y[1 + i] = y->strides[axis];
        of_weights[i] = steps[axis - 1];
        if (i < (loop == LOOP_WEIGH ? 3 : 1))
            tasks *= four[i].results;
    }
    weighing made = plan_weighing(k->c, four, x->dims[0], of_x, of_y, of_weights, sums);
    made.integers[WEIGH_GATE] = gate;
    int64_t data[3];
    data[WEIGH_OF_X] = (int64_t)(intptr_t)x->data;
    data[WEIGH_OF_Y] = (int64_t)(intptr_t)y->data;
    data[WEIGH_OF_WEIGHTS] = (int64_t)(intptr_t)weights;
    launch_tasks(k, needed_kernel(k, FORMULA_WEIGH, false, loop), made.integers, data, tasks, made.work);
    give_back(k->c, &before);
}

/* weigh.laid: the same weights, those of the lanes side by side where these are channels. */
static filter laid(call *k, const filter *f, const view *x)
{
    filter found = *f;
    int64_t taps = product(f->dims + 1, 3), channels = f->dims[0];
    size_t item = (size_t)item_bytes(k->dtype);
    if (!f->own || order_of(x)[3] != 1)
        return found;
    found.steps[0] = 1;
    for (int i = 1; i < 4; i++)
        found.steps[i] *= channels;
    found.values = take(k->c, (size_t)(taps * channels) * item);
    for (int64_t i = 0; i < taps * channels && !k->dry; i++)
        memcpy(found.values + (size_t)(i % taps * channels + i / taps) * item, f->values + (size_t)i * item, item);
    return found;
}

/* y of x, or, transposed, the gradient of x from y's. */
void weigh(call *k, const sights *s, const filter *f, const view *x, const view *y, bool transposed)
{
    if (k->c->device >= 0) {
        cuda_weigh(k, s, f, x, y, transposed, false);
        return;
    }
    mark before = marked(k->c);
    filter here = laid(k, f, x);
    run_weighing(k, LOOP_WEIGH, s, transposed, f->own, false, x, y, here.steps, here.values, 0);
    give_back(k->c, &before);
}

/* q = the sigmoid of the sums of x. */
static void weigh_gate(call *k, const sights *s, const filter *f, const view *x, const view *q)
{
    if (k->c->device >= 0) {
        cuda_weigh(k, s, f, x, q, false, true);
        return;
    }
    mark before = marked(k->c);
    filter here = laid(k, f, x);
    run_weighing(k, LOOP_WEIGH, s, false, f->own, true, x, q, here.steps, here.values, 0);
    give_back(k->c, &before);
}

/* The gradient of the weights.  Rows of sums are those of an element of the batch and of the first axis: where that is the channels, each has its
 * own weights' alone. */
void weigh_gradient(call *k, const sights *s, const filter *f, const view *x, const view *grad)
{
    const DLTensor *t = k->r->grad_weight;
    if (k->c->device >= 0) {
        cuda_weigh_gradient(k, s, f, x, grad);
        return;
    }
    bool by_channel = order_of(x)[0] == 1, apart = f->own && by_channel;
    filter here = laid(k, f, x);
    int64_t n = product(f->dims + 1, 3), sums = apart || !f->own ? n : n * f->dims[0];
    int64_t across = by_channel ? x->dims[1] : s->axes[0].outputs, rows = x->dims[0] * across, index[4] = {0}, shape[4];
    double *made = take(k->c, (size_t)(rows * sums) * sizeof *made);
    run_weighing(k, LOOP_WEIGH_SUMS, s, false, f->own && !apart, false, x, grad, here.steps, (char *)made, sums);
    for (int64_t i = 0; i < product(f->dims, 4) && !k->dry; i++) {
        int64_t place = apart ? i % n : i / n * here.steps[0] + i % n * here.steps[3];
        double sum = 0;
        for (int64_t row = apart ? i / n : 0; row < rows; row += apart ? across : 1)
            sum += made[row * sums + place];
        index_at(i, shape_of_filter(k, f, shape), shape, index);
        parameter_store(t, index, sum);
    }
}

/* ---------------------------------------------------------------- parts */

/* Params of a pooling that is part of another one: its windows; averages divide by the elements inside the input. */
static numbapool_params part_params(const call *k)
{
    numbapool_params p = k->p;
    p.size = sizeof p;
    p.count_include_pad = p.ignore_nan = 0;
    p.divisor_override = 0;
    p.temperature = 1.0;
    p.gradient = NUMBAPOOL_EXACT;
    for (int i = 0; i < k->ndim && p.form == NUMBAPOOL_SLIDING; i++) { /* defaults may be others there */
        p.kernel_size[i] = k->axes[3 - k->ndim + i].kernel;
        p.stride[i] = k->axes[3 - k->ndim + i].stride;
    }
    return p;
}

/* The maxima of stride 1 that max_blur blurs. */
static numbapool_params maxima_params(const call *k)
{
    numbapool_params p = k->p;
    p.size = sizeof p;
    p.form = NUMBAPOOL_SLIDING;
    p.padding_mode = NUMBAPOOL_EXPLICIT;
    p.ceil_mode = p.ignore_nan = 0;
    for (int i = 0; i < 3; i++) {
        p.kernel_size[i] = k->p.kernel_size[i] ? k->p.kernel_size[i] : k->pooling->kernel_size;
        p.stride[i] = p.dilation[i] = 1;
        p.padding[i] = p.padding_after[i] = 0;
    }
    return p;
}

static void run_part(call *k, const request *r)
{
    mark before = marked(k->c);
    in_context(k->c, r, k->dry);
    if (k->c->device < 0) /* else its launches are kept */
        give_back(k->c, &before);
}

static void pool(call *k, int pooling, const numbapool_params *p, const view *y)
{
    int64_t shape[5], strides[5];
    DLTensor t = tensor_of(k, y, shape, strides);
    run_part(k, &(request){.pooling = pooling, .where = k->r->where, .x = k->r->x, .y = &t, .params = p});
}

static void pull(call *k, int pooling, const numbapool_params *p, const view *grad, const view *grad_x)
{
    int64_t shapes[2][5], strides[2][5];
    DLTensor from = tensor_of(k, grad, shapes[0], strides[0]), to = tensor_of(k, grad_x, shapes[1], strides[1]);
    run_part(k, &(request){.pooling = pooling, .backward = true, .where = k->r->where, .grad = &from, .x = k->r->x, .grad_x = &to, .params = p});
}

view like_y(call *k) { return fresh_view(k, k->out_dims, k->dtype, k->memory_last); }

view like_x(call *k) { return fresh_view(k, k->x.dims, k->dtype, k->memory_last); }

/* ---------------------------------------------------------------- y = q one + (1 - q) two */

/* What a blend is made of: q is a parameter, or (gated) a sigmoid of a weighted sum. */
typedef struct {
    int one, two;
    bool gated;
    numbapool_params p;
    parameter portion;
    filter omega;
    sights windows;
} blend;

static blend blend_of(call *k)
{
    bool ada = k->r->pooling == POOLING_ADA;
    blend b = {.one = ada ? POOLING_EDSCW : POOLING_MAX, .two = ada ? POOLING_SOFT : POOLING_AVG, .gated = k->r->pooling == POOLING_GATED};
    b.p = part_params(k);
    if (!b.gated) {
        b.portion = read_parameter(k, &k->pooling->array, k->r->array);
        check_gradient(k, &b.portion, k->r->array, k->r->grad_array);
        return b;
    }
    int64_t dims[4] = {1, k->axes[0].kernel, k->axes[1].kernel, k->axes[2].kernel};
    b.omega = read_filter(k, false, dims);
    check_filter_gradient(k, &b.omega);
    b.windows = (sights){k->axes, {k->x.dims[2], k->x.dims[3], k->x.dims[4]}, NUMBAPOOL_ZEROS};
    return b;
}

/* q, as it broadcasts to y. */
static view portion_of(call *k, const blend *b)
{
    if (!b->gated)
        return b->portion.values;
    view q = like_y(k);
    weigh_gate(k, &b->windows, &b->omega, &k->x, &q);
    return q;
}

static void blend_forward(call *k)
{
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    blend b = blend_of(k);
    view q = portion_of(k, &b), one = like_y(k), two = like_y(k);
    pool(k, b.one, &b.p, &one);
    pool(k, b.two, &b.p, &two);
    each_row(k, BLEND, (const view *[]){&y, &q, &one, &two}, 4);
}

/* The gradient of q, for every output; one and two are memory for it. */
static void portion_gradient(call *k, const blend *b, const view *grad, const view *one, const view *two, const view *made)
{
    pool(k, b->one, &b->p, one);
    pool(k, b->two, &b->p, two);
    each_row(k, TIMES_DISTANCE, (const view *[]){made, grad, one, two}, 4);
}

/* What the sum in the gate gives to x and to omega. */
static void through_gate(call *k, const blend *b, const view *q, const view *through, const view *grad_x, const view *more)
{
    each_row(k, THROUGH_SIGMOID, (const view *[]){through, q}, 2);
    weigh(k, &b->windows, &b->omega, through, more, true);
    each_row(k, ADD, (const view *[]){grad_x, more}, 2);
    if (k->r->grad_weight)
        weigh_gradient(k, &b->windows, &b->omega, &k->x, through);
}

static void blend_backward(call *k)
{
    view grad = tensor_view(k, k->r->grad, "grad", k->out_dims, k->dtype), grad_x = result_view(k, k->r->grad_x, "grad_x", k->x.dims, k->dtype);
    blend b = blend_of(k);
    view q = portion_of(k, &b), one = like_y(k), two = like_y(k), more = like_x(k);
    each_row(k, SPLIT, (const view *[]){&one, &two, &q, &grad}, 4);
    pull(k, b.one, &b.p, &one, &grad_x);
    pull(k, b.two, &b.p, &two, &more);
    each_row(k, ADD, (const view *[]){&grad_x, &more}, 2);
    if (!b.gated && !k->r->grad_array)
        return;
    view through = like_y(k);
    portion_gradient(k, &b, &grad, &one, &two, &through);
    if (b.gated)
        through_gate(k, &b, &q, &through, &grad_x, &more);
    else
        gather(k, &b.portion, &through, k->r->grad_array);
}

/* ---------------------------------------------------------------- blur */

/* The outer product of binomial rows along the axes that are marked. */
static filter binomial_filter(call *k, const bool along[3])
{
    int64_t dims[4] = {1, 1, 1, 1};
    double *rows[3];
    for (int axis = 0; axis < 3; axis++) {
        dims[1 + axis] = along[axis] ? k->axes[axis].kernel : 1;
        double *row = rows[axis] = take(k->c, (size_t)dims[1 + axis] * sizeof *row);
        row[0] = 1;
        for (int64_t n = 1; n < dims[1 + axis]; n++) { /* halves of Pascal's triangle, exact up to 54 taps */
            row[n] = row[n - 1] / 2;
            for (int64_t i = n - 1; i > 0; i--)
                row[i] = (row[i] + row[i - 1]) / 2;
            row[0] /= 2;
        }
    }
    filter f = empty_filter(k, false, dims);
    for (int64_t i = 0, n = product(dims, 4); i < n; i++)
        store_value(k, f.values, i, rows[0][i / (dims[2] * dims[3])] * rows[1][i / dims[3] % dims[2]] * rows[2][i % dims[3]]);
    return f;
}

/* The sums along the axes that are marked; those along the others are of single elements.  size: of the input along the axes. */
static void blurred_along(call *k, const bool along[3], const int64_t size[3], const view *from, const view *to, bool transposed)
{
    filter f = binomial_filter(k, along);
    axis axes[3];
    sights s = {axes, {0}, k->p.pad_mode};
    for (int i = 0; i < 3; i++) {
        s.sizes[i] = along[i] ? size[i] : from->dims[2 + i];
        axes[i] = k->axes[i];
        if (!along[i])
            sliding(k->c, &axes[i], s.sizes[i], 1, 1, 0, 0, 1, false, INSIDE);
    }
    weigh(k, &s, &f, from, to, transposed);
}

/* y of planes, or, transposed, the gradient of planes from y's: weigh.in_turn. */
static void blurred(call *k, const view *planes, const view *y, bool transposed)
{
    const view *from = transposed ? y : planes, *to = transposed ? planes : y;
    view now = *from;
    int left = 0;
    for (int i = 0; i < 3; i++)
        left += planes->dims[2 + i] != y->dims[2 + i] || k->axes[i].kernel > 1;
    if (order_of(from)[0] != 1 || left < 2 || k->c->device >= 0) {
        blurred_along(k, (const bool[]){true, true, true}, planes->dims + 2, from, to, transposed);
        return;
    }
    for (int turn = 0; turn < 3; turn++) {
        int i = transposed ? 2 - turn : turn;
        if (planes->dims[2 + i] == y->dims[2 + i] && k->axes[i].kernel == 1)
            continue;
        int64_t dims[5];
        memcpy(dims, now.dims, sizeof dims);
        dims[2 + i] = to->dims[2 + i];
        view next = --left ? fresh_view(k, dims, k->dtype, false) : *to;
        blurred_along(k, (const bool[]){i == 0, i == 1, i == 2}, planes->dims + 2, &now, &next, transposed);
        now = next;
    }
}

static void run_blur(call *k)
{
    if (k->r->backward) {
        view grad = tensor_view(k, k->r->grad, "grad", k->out_dims, k->dtype), grad_x = result_view(k, k->r->grad_x, "grad_x", k->x.dims, k->dtype);
        blurred(k, &grad_x, &grad, true);
        return;
    }
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    blurred(k, &k->x, &y, false);
}

/* The memory of the maxima. */
static view maxima_view(call *k, const numbapool_params *p)
{
    int64_t dims[5];
    memcpy(dims, k->x.dims, sizeof dims);
    for (int i = 0; i < k->ndim; i++)
        dims[5 - k->ndim + i] -= p->kernel_size[i] - 1;
    return fresh_view(k, dims, k->dtype, k->memory_last);
}

static void run_max_blur(call *k)
{
    numbapool_params p = maxima_params(k);
    if (k->r->backward) {
        view grad = tensor_view(k, k->r->grad, "grad", k->out_dims, k->dtype), grad_x = result_view(k, k->r->grad_x, "grad_x", k->x.dims, k->dtype);
        view through = maxima_view(k, &p);
        blurred(k, &through, &grad, true);
        pull(k, POOLING_MAX, &p, &through, &grad_x);
        return;
    }
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype), maxima = maxima_view(k, &p);
    pool(k, POOLING_MAX, &p, &maxima);
    blurred(k, &maxima, &y, false);
}

/* ---------------------------------------------------------------- all */

void run_composed(call *k)
{
    if (k->c->device >= 0 && is_half(k->dtype)) {
        cuda_in_float32(k);
        return;
    }
    switch (k->r->pooling) {
    case POOLING_BLUR: run_blur(k); break;
    case POOLING_MAX_BLUR: run_max_blur(k); break;
    case POOLING_DPP: (k->r->backward ? dpp_backward : dpp_forward)(k); break;
    default: (k->r->backward ? blend_backward : blend_forward)(k);
    }
}
