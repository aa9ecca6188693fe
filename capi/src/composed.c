/* Poolings made of other ones' results: mixed, gated, ada, blur, max_blur, dpp.  What numbapool/composed.py and their files in pools/ do in Python,
 * for float32 and float64.  Everything is checked before the first kernel runs. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "families.h"

/* ---------------------------------------------------------------- parameters */

static void store(const call *k, char *memory, int64_t i, double value)
{
    if (k->dtype == FLOAT64)
        ((double *)(void *)memory)[i] = value;
    else
        ((float *)(void *)memory)[i] = (float)value;
}

static bool has_shape(const DLTensor *t, int n, const int64_t *sizes)
{
    bool same = t->ndim == n;
    for (int i = 0; same && i < n; i++)
        same = t->shape[i] == sizes[i];
    return same;
}

/* An array parameter as it broadcasts to y, and which of y's axes are those of its tensor. */
typedef struct {
    const array_info *info;
    view values;
    int n_axes, axes[4];
} parameter;

/* The axes of a shape, and their sizes. */
static void axes_of(const call *k, int shape, parameter *p, int64_t *sizes)
{
    p->n_axes = 0;
    if (shape == BY_CHANNEL || shape == BY_CHANNEL_AND_POSITION)
        p->axes[p->n_axes++] = 1;
    for (int i = 5 - k->ndim; i < 5 && (shape == BY_POSITION || shape == BY_CHANNEL_AND_POSITION); i++)
        p->axes[p->n_axes++] = i;
    for (int i = 0; i < p->n_axes; i++)
        sizes[i] = k->out_dims[p->axes[i]];
}

/* "() or (3,) or (3, 4, 5)" */
static void shapes_text(const call *k, const array_info *info, char *text, size_t room)
{
    parameter p;
    int64_t sizes[4];
    size_t done = 0;
    for (int shape = 0; shape < ARRAY_SHAPES; shape++)
        if (info->shapes >> shape & 1) {
            axes_of(k, shape, &p, sizes);
            done += (size_t)snprintf(text + done, room - done, "%s(", done ? " or " : "");
            for (int i = 0; i < p.n_axes; i++)
                done += (size_t)snprintf(text + done, room - done, "%s%" PRId64, i ? ", " : "", sizes[i]);
            done += (size_t)snprintf(text + done, room - done, "%s)", p.n_axes == 1 ? "," : "");
        }
}

/* Find which of its shapes an array has. */
static void find_shape(call *k, const DLTensor *t, parameter *p)
{
    int64_t sizes[4];
    char text[256];
    for (int shape = 0; shape < ARRAY_SHAPES; shape++) {
        if (!(p->info->shapes >> shape & 1))
            continue;
        axes_of(k, shape, p, sizes);
        if (t ? has_shape(t, p->n_axes, sizes) : !p->n_axes)
            return;
    }
    shapes_text(k, p->info, text, sizeof text);
    fail(k->c, NUMBAPOOL_VALUE_ERROR, t ? "%s must have shape %s" : "%s must not be NULL: its shape is %s", p->info->name, text);
}

static void check_value(call *k, const char *name, double value)
{
    if (!isfinite(k->dtype == FLOAT64 ? value : (double)(float)value))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must be finite in %s, got %g", name, k->dtype == FLOAT64 ? "float64" : "float32", value);
}

/* The index along the axes of a tensor's shape of its i-th element. */
static void index_at(int64_t i, int n_axes, const int64_t *sizes, int64_t *index)
{
    for (int axis = n_axes - 1; axis >= 0; axis--) {
        index[axis] = i % sizes[axis];
        i /= sizes[axis];
    }
}

static parameter read_parameter(call *k, const array_info *info, const DLTensor *t)
{
    parameter p = {.info = info};
    int64_t dims[5] = {1, 1, 1, 1, 1}, index[4];
    if (t)
        parameter_tensor(k, t, info->name);
    find_shape(k, t, &p);
    for (int i = 0; i < p.n_axes; i++)
        dims[p.axes[i]] = k->out_dims[p.axes[i]];
    p.values = fresh_view(k, dims, k->dtype, false);
    for (int64_t i = 0, n = product(dims, 5); i < n; i++) {
        if (t)
            index_at(i, t->ndim, t->shape, index);
        double value = t ? parameter_value(t, index) : array_number(k);
        check_value(k, info->name, value);
        store(k, p.values.data, i, value);
    }
    for (int i = 0; i < 5; i++)
        if (dims[i] == 1)
            p.values.strides[i] = 0;
    return p;
}

/* Check the tensor of a parameter's gradient, where there is one. */
static void check_gradient(call *k, const parameter *p, const DLTensor *given, const DLTensor *t)
{
    char name[64];
    if (!t)
        return;
    snprintf(name, sizeof name, "grad_%s", p->info->name);
    parameter_tensor(k, t, name);
    bool same = given ? has_shape(t, given->ndim, given->shape) : t->ndim == 0 || (t->ndim == 1 && t->shape[0] == 1);
    if (!same)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must have the shape of %s", name, p->info->name);
    disjoint(k, t, name);
}

static double row_sum(const view *v, int64_t place)
{
    double sum = 0;
    for (int64_t i = 0, at = place; i < v->dims[4]; i++, at += v->strides[4])
        sum += v->dtype == FLOAT64 ? ((const double *)(const void *)v->data)[at] : (double)((const float *)(const void *)v->data)[at];
    return sum;
}

static double element(const view *v, int64_t place)
{
    return v->dtype == FLOAT64 ? ((const double *)(const void *)v->data)[place] : (double)((const float *)(const void *)v->data)[place];
}

/* Contributions, of y's sizes, summed where a parameter was broadcast: rows by themselves first, which keeps rounding small. */
static void add_contributions(const view *v, const int64_t to[5], double *sums)
{
    const int64_t *d = v->dims, *s = v->strides;
    for (int64_t n = 0; n < d[0]; n++)
        for (int64_t c = 0; c < d[1]; c++)
            for (int64_t z = 0; z < d[2]; z++)
                for (int64_t y = 0; y < d[3]; y++) {
                    int64_t place = n * s[0] + c * s[1] + z * s[2] + y * s[3];
                    double *sum = sums + n * to[0] + c * to[1] + z * to[2] + y * to[3];
                    if (!to[4])
                        *sum += row_sum(v, place);
                    for (int64_t x = 0; to[4] && x < d[4]; x++)
                        sum[x * to[4]] += element(v, place + x * s[4]);
                }
}

/* The gradient of an array parameter. */
static void gather(call *k, const parameter *p, const view *contributions, const DLTensor *t)
{
    int64_t n = product(p->values.dims, 5), index[4] = {0};
    double *sums = take(k->c, (size_t)n * sizeof *sums);
    if (k->dry)
        return;
    memset(sums, 0, (size_t)n * sizeof *sums);
    add_contributions(contributions, p->values.strides, sums);
    for (int64_t i = 0; i < n; i++) {
        index_at(i, p->n_axes, t->shape, index);
        parameter_store(t, index, sums[i]);
    }
}

/* ---------------------------------------------------------------- weights by position */

/* A tensor of weights, in the kernel's arithmetic: (C, D, H, W), with one channel for all where `own` is false. */
typedef struct {
    bool own;
    int64_t dims[4], steps[4];
    char *values;
} filter;

static filter empty_filter(call *k, bool own, const int64_t dims[4])
{
    filter f = {.own = own};
    memcpy(f.dims, dims, sizeof f.dims);
    for (int64_t i = 3, step = 1; i >= 0; step *= dims[i--])
        f.steps[i] = step;
    f.values = take(k->c, (size_t)product(dims, 4) * (size_t)item_bytes(k->dtype));
    return f;
}

/* The shape of a filter's tensor; returns how many axes. */
static int shape_of_filter(const call *k, const filter *f, int64_t *shape)
{
    int n = 0;
    if (f->own)
        shape[n++] = f->dims[0];
    for (int i = 4 - k->ndim; i < 4; i++)
        shape[n++] = f->dims[i];
    return n;
}

static void check_filter_shape(call *k, const filter *f, const DLTensor *t, const char *name)
{
    int64_t shape[4];
    char text[128];
    int n = shape_of_filter(k, f, shape);
    parameter_tensor(k, t, name);
    if (has_shape(t, n, shape))
        return;
    size_t done = 0;
    for (int i = 0; i < n; i++)
        done += (size_t)snprintf(text + done, sizeof text - done, "%s%" PRId64, i ? ", " : "", shape[i]);
    fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must have shape (%s%s)", name, text, n == 1 ? "," : "");
}

/* The caller's weights. */
static filter read_filter(call *k, bool own, const int64_t dims[4])
{
    const DLTensor *t = k->r->weight;
    const char *name = weight_name(k);
    int64_t index[4];
    if (!t)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must not be NULL", name);
    filter shape = {.own = own};
    memcpy(shape.dims, dims, sizeof shape.dims);
    check_filter_shape(k, &shape, t, name); /* before there is memory of that size */
    filter f = empty_filter(k, own, dims);
    for (int64_t i = 0, n = product(dims, 4); i < n; i++) {
        index_at(i, t->ndim, t->shape, index);
        double value = parameter_value(t, index);
        if (!isfinite(value))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must be finite, got %g", name, value);
        store(k, f.values, i, value);
    }
    return f;
}

static void check_filter_gradient(call *k, const filter *f)
{
    const DLTensor *t = k->r->grad_weight;
    char name[64];
    if (!t)
        return;
    snprintf(name, sizeof name, "grad_%s", weight_name(k));
    check_filter_shape(k, f, t, name);
    disjoint(k, t, name);
}

/* ---------------------------------------------------------------- weighing sums */

/* The windows of a weighing sum along three axes of `sizes` elements. */
typedef struct {
    const axis *axes;
    int64_t sizes[3];
    int pad_mode;
} sights;

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
static void run_weighing(call *k, int loop, const sights *s, bool transposed, bool channels, const view *x, const view *y, const int64_t *steps,
                         char *weights, int64_t sums)
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
    int64_t data[3];
    data[WEIGH_OF_X] = (int64_t)(intptr_t)x->data;
    data[WEIGH_OF_Y] = (int64_t)(intptr_t)y->data;
    data[WEIGH_OF_WEIGHTS] = (int64_t)(intptr_t)weights;
    launch_weighing(k, needed_kernel(k, FORMULA_WEIGH, false, loop), &made, data, tasks);
    give_back(k->c, &before);
}

/* y of x, or, transposed, the gradient of x from y's. */
static void weigh(call *k, const sights *s, const filter *f, const view *x, const view *y, bool transposed)
{
    run_weighing(k, LOOP_WEIGH, s, transposed, f->own, x, y, f->steps, f->values, 0);
}

/* The gradient of the weights.  Rows of sums are those of an element of the batch and of the first axis: where that is the channels, each has its
 * own weights' alone. */
static void weigh_gradient(call *k, const sights *s, const filter *f, const view *x, const view *grad)
{
    const DLTensor *t = k->r->grad_weight;
    bool by_channel = order_of(x)[0] == 1, apart = f->own && by_channel;
    int64_t n = product(f->dims + 1, 3), sums = apart || !f->own ? n : n * f->dims[0];
    int64_t across = by_channel ? x->dims[1] : s->axes[0].outputs, rows = x->dims[0] * across, index[4] = {0}, shape[4];
    double *made = take(k->c, (size_t)(rows * sums) * sizeof *made);
    run_weighing(k, LOOP_WEIGH_SUMS, s, false, f->own && !apart, x, grad, f->steps, (char *)made, sums);
    for (int64_t i = 0; i < product(f->dims, 4) && !k->dry; i++) {
        double sum = 0;
        for (int64_t row = apart ? i / n : 0; row < rows; row += apart ? across : 1)
            sum += made[row * sums + (apart ? i % n : i)];
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

static view like_y(call *k) { return fresh_view(k, k->out_dims, k->dtype, k->memory_last); }

static view like_x(call *k) { return fresh_view(k, k->x.dims, k->dtype, k->memory_last); }

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
    weigh(k, &b->windows, &b->omega, &k->x, &q, false);
    each_row(k, SIGMOID, NULL, (const view *[]){&q}, 1);
    return q;
}

static void blend_forward(call *k)
{
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    blend b = blend_of(k);
    view q = portion_of(k, &b), one = like_y(k), two = like_y(k);
    pool(k, b.one, &b.p, &one);
    pool(k, b.two, &b.p, &two);
    each_row(k, BLEND, NULL, (const view *[]){&y, &q, &one, &two}, 4);
}

/* The gradient of q, for every output; one and two are memory for it. */
static void portion_gradient(call *k, const blend *b, const view *grad, const view *one, const view *two, const view *made)
{
    pool(k, b->one, &b->p, one);
    pool(k, b->two, &b->p, two);
    each_row(k, TIMES_DISTANCE, NULL, (const view *[]){made, grad, one, two}, 4);
}

/* What the sum in the gate gives to x and to omega. */
static void through_gate(call *k, const blend *b, const view *q, const view *through, const view *grad_x, const view *more)
{
    each_row(k, THROUGH_SIGMOID, NULL, (const view *[]){through, q}, 2);
    weigh(k, &b->windows, &b->omega, through, more, true);
    each_row(k, ADD, NULL, (const view *[]){grad_x, more}, 2);
    if (k->r->grad_weight)
        weigh_gradient(k, &b->windows, &b->omega, &k->x, through);
}

static void blend_backward(call *k)
{
    view grad = tensor_view(k, k->r->grad, "grad", k->out_dims, k->dtype), grad_x = result_view(k, k->r->grad_x, "grad_x", k->x.dims, k->dtype);
    blend b = blend_of(k);
    view q = portion_of(k, &b), one = like_y(k), two = like_y(k), more = like_x(k);
    each_row(k, SPLIT, NULL, (const view *[]){&one, &two, &q, &grad}, 4);
    pull(k, b.one, &b.p, &one, &grad_x);
    pull(k, b.two, &b.p, &two, &more);
    each_row(k, ADD, NULL, (const view *[]){&grad_x, &more}, 2);
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

/* The outer product of binomial rows. */
static filter binomial_filter(call *k)
{
    int64_t dims[4] = {1, k->axes[0].kernel, k->axes[1].kernel, k->axes[2].kernel};
    filter f = empty_filter(k, false, dims);
    double *rows[3];
    for (int axis = 0; axis < 3; axis++) {
        double *row = rows[axis] = take(k->c, (size_t)dims[1 + axis] * sizeof *row);
        row[0] = 1;
        for (int64_t n = 1; n < dims[1 + axis]; n++) { /* halves of Pascal's triangle, exact up to 54 taps */
            row[n] = row[n - 1] / 2;
            for (int64_t i = n - 1; i > 0; i--)
                row[i] = (row[i] + row[i - 1]) / 2;
            row[0] /= 2;
        }
    }
    for (int64_t i = 0, n = product(dims, 4); i < n; i++)
        store(k, f.values, i, rows[0][i / (dims[2] * dims[3])] * rows[1][i / dims[3] % dims[2]] * rows[2][i % dims[3]]);
    return f;
}

/* y of planes, or, transposed, the gradient of planes from y's. */
static void blurred(call *k, const view *planes, const view *y, bool transposed)
{
    filter f = binomial_filter(k);
    sights s = {k->axes, {planes->dims[2], planes->dims[3], planes->dims[4]}, k->p.pad_mode};
    weigh(k, &s, &f, transposed ? y : planes, transposed ? planes : y, transposed);
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

/* ---------------------------------------------------------------- detail-preserving pooling */

/* Its parameters: power and base are e^lam / 2 and e^alpha in place of lam and alpha; the filter of I, where there is one. */
typedef struct {
    parameter power, base;
    bool full;
    filter weight;
    axis axes[3];
    sights windows;
} details;

static void exponentials(const call *k, const parameter *p, double factor)
{
    for (int64_t i = 0, n = p->values.dims[1]; i < n; i++)
        if (k->dtype == FLOAT64) {
            double *value = (double *)(void *)p->values.data + i;
            *value = exp(*value) * factor;
        } else {
            float *value = (float *)(void *)p->values.data + i;
            *value = expf(*value) * (float)factor;
        }
}

/* The windows of the filter: 3 elements an axis around the first one of each window of 2, with zeros beyond the border. */
static void filter_windows(call *k, details *d)
{
    int64_t dims[4] = {k->x.dims[1], 1, 1, 1};
    for (int i = 0; i < 3; i++) {
        d->axes[i] = k->axes[i];
        if (i < 3 - k->ndim)
            continue;
        d->axes[i].origin = -1;
        d->axes[i].kernel = dims[1 + i] = 3;
    }
    d->windows = (sights){d->axes, {k->x.dims[2], k->x.dims[3], k->x.dims[4]}, NUMBAPOOL_ZEROS};
    d->weight = read_filter(k, true, dims);
}

static void read_details(call *k, details *d)
{
    const request *r = k->r;
    d->power = read_parameter(k, &k->pooling->array, r->array);
    d->base = read_parameter(k, &k->pooling->second, r->second);
    check_gradient(k, &d->power, r->array, r->grad_array);
    check_gradient(k, &d->base, r->second, r->grad_second);
    exponentials(k, &d->power, 0.5);
    exponentials(k, &d->base, 1.0);
    d->full = r->weight != NULL;
    if (d->full) {
        filter_windows(k, d);
        check_filter_gradient(k, &d->weight);
    } else if (r->grad_weight) {
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "grad_weight must be NULL where weight is");
    }
}

/* A view of x's sizes as windows see it: their first elements; the places of all of them in `offsets`. */
static view first_elements(const call *k, const view *v, int64_t *offsets)
{
    view first = *v;
    memcpy(first.dims, k->out_dims, sizeof first.dims);
    for (int i = 5 - k->ndim; i < 5; i++)
        first.strides[i] = 2 * v->strides[i];
    for (int j = 0; j < 1 << k->ndim; j++) {
        offsets[j] = 0;
        for (int i = 0; i < k->ndim; i++)
            offsets[j] += (j >> (k->ndim - 1 - i) & 1) * v->strides[5 - k->ndim + i];
    }
    return first;
}

/* The smoothed x, where it is a filter's. */
static view middle_of(call *k, const details *d)
{
    view middle = like_y(k);
    weigh(k, &d->windows, &d->weight, &k->x, &middle, false);
    return middle;
}

static void dpp_forward(call *k)
{
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype), middle = {0};
    dpp_window w = {.elements = 1 << k->ndim, .symmetric = k->p.symmetric};
    details d;
    read_details(k, &d);
    view x = first_elements(k, &k->x, w.from);
    if (d.full)
        middle = middle_of(k, &d);
    each_row(k, DPP_FORWARD, &w, (const view *[]){&y, &x, &d.power.values, &d.base.values, d.full ? &middle : NULL}, 5);
}

/* Elements that no window has: the last one of an odd axis. */
static bool left_over(const call *k)
{
    for (int i = 5 - k->ndim; i < 5; i++)
        if (k->x.dims[i] % 2)
            return true;
    return false;
}

static void dpp_backward(call *k)
{
    const request *r = k->r;
    view grad = tensor_view(k, r->grad, "grad", k->out_dims, k->dtype), grad_x = result_view(k, r->grad_x, "grad_x", k->x.dims, k->dtype);
    dpp_window w = {.elements = 1 << k->ndim, .symmetric = k->p.symmetric};
    view middle = {0}, through = {0}, lam = {0}, alpha = {0};
    details d;
    read_details(k, &d);
    view x = first_elements(k, &k->x, w.from), to = first_elements(k, &grad_x, w.to);
    if (d.full) {
        middle = middle_of(k, &d);
        through = like_y(k);
    }
    if (r->grad_array)
        lam = like_y(k);
    if (r->grad_second)
        alpha = like_y(k);
    if (left_over(k))
        each_row(k, CLEAR, NULL, (const view *[]){&grad_x}, 1);
    each_row(k, DPP_BACKWARD, &w,
             (const view *[]){&to, &x, &d.power.values, &d.base.values, d.full ? &middle : NULL, &grad, r->grad_array ? &lam : NULL,
                              r->grad_second ? &alpha : NULL, d.full ? &through : NULL}, 9);
    if (r->grad_array)
        gather(k, &d.power, &lam, r->grad_array);
    if (r->grad_second)
        gather(k, &d.base, &alpha, r->grad_second);
    if (!d.full)
        return;
    view more = like_x(k);
    weigh(k, &d.windows, &d.weight, &through, &more, true);
    each_row(k, ADD, NULL, (const view *[]){&grad_x, &more}, 2);
    if (r->grad_weight)
        weigh_gradient(k, &d.windows, &d.weight, &k->x, &through);
}

/* ---------------------------------------------------------------- all */

void run_composed(call *k)
{
    if (k->c->device >= 0)
        fail(k->c, NUMBAPOOL_UNSUPPORTED, "%s pooling is not there for CUDA devices: x must be in the CPU's memory", k->pooling->name);
    switch (k->r->pooling) {
    case POOLING_BLUR: run_blur(k); break;
    case POOLING_MAX_BLUR: run_max_blur(k); break;
    case POOLING_DPP: (k->r->backward ? dpp_backward : dpp_forward)(k); break;
    default: (k->r->backward ? blend_backward : blend_forward)(k);
    }
}
