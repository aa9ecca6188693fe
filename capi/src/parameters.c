/* Parameters of composed poolings that are tensors: arrays that broadcast to y, and weights by position, with their gradients. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cuda_composed.h"

/* ---------------------------------------------------------------- arrays */

void store_value(const call *k, char *memory, int64_t i, double value)
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
void index_at(int64_t i, int n_axes, const int64_t *sizes, int64_t *index)
{
    for (int axis = n_axes - 1; axis >= 0; axis--) {
        index[axis] = i % sizes[axis];
        i /= sizes[axis];
    }
}

parameter read_parameter(call *k, const array_info *info, const DLTensor *t)
{
    parameter p = {.info = info};
    int64_t dims[5] = {1, 1, 1, 1, 1}, index[4];
    bool on_device = k->c->device >= 0;
    if (t)
        (on_device ? real_tensor : parameter_tensor)(k, t, info->name);
    find_shape(k, t, &p);
    for (int i = 0; i < p.n_axes; i++)
        dims[p.axes[i]] = k->out_dims[p.axes[i]];
    if (on_device) {
        p.values = cuda_parameter(k, t, dims, p.axes);
        return p;
    }
    p.values = fresh_view(k, dims, k->dtype, false);
    for (int64_t i = 0, n = product(dims, 5); i < n; i++) {
        if (t)
            index_at(i, t->ndim, t->shape, index);
        double value = t ? parameter_value(t, index) : array_number(k);
        check_value(k, info->name, value);
        store_value(k, p.values.data, i, value);
    }
    for (int i = 0; i < 5; i++)
        if (dims[i] == 1)
            p.values.strides[i] = 0;
    return p;
}

/* Check the tensor of a parameter's gradient, where there is one. */
void check_gradient(call *k, const parameter *p, const DLTensor *given, const DLTensor *t)
{
    char name[64];
    if (!t)
        return;
    snprintf(name, sizeof name, "grad_%s", p->info->name);
    (k->c->device >= 0 ? real_tensor : parameter_tensor)(k, t, name);
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
void gather(call *k, const parameter *p, const view *contributions, const DLTensor *t)
{
    int64_t n = product(p->values.dims, 5), index[4] = {0};
    if (k->c->device >= 0) {
        cuda_gather(k, contributions, t, p->axes, p->n_axes);
        return;
    }
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

filter empty_filter(call *k, bool own, const int64_t dims[4])
{
    filter f = {.own = own};
    memcpy(f.dims, dims, sizeof f.dims);
    for (int64_t i = 3, step = 1; i >= 0; step *= dims[i--])
        f.steps[i] = step;
    f.values = take(k->c, (size_t)product(dims, 4) * (size_t)item_bytes(k->dtype));
    return f;
}

/* The shape of a filter's tensor; returns how many axes. */
int shape_of_filter(const call *k, const filter *f, int64_t *shape)
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
    (k->c->device >= 0 ? real_tensor : parameter_tensor)(k, t, name);
    if (has_shape(t, n, shape))
        return;
    size_t done = 0;
    for (int i = 0; i < n; i++)
        done += (size_t)snprintf(text + done, sizeof text - done, "%s%" PRId64, i ? ", " : "", shape[i]);
    fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must have shape (%s%s)", name, text, n == 1 ? "," : "");
}

/* The caller's weights. */
filter read_filter(call *k, bool own, const int64_t dims[4])
{
    const DLTensor *t = k->r->weight;
    const char *name = weight_name(k);
    int64_t index[4];
    if (!t)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must not be NULL", name);
    filter shape = {.own = own};
    memcpy(shape.dims, dims, sizeof shape.dims);
    check_filter_shape(k, &shape, t, name); /* before there is memory of that size */
    if (k->c->device >= 0) {
        shape.on_device = true;
        shape.values = (char *)t->data + t->byte_offset;
        int64_t step = 1;
        for (int i = 3; i >= 4 - t->ndim; step *= dims[i--])
            shape.steps[i] = t->strides ? t->strides[i - (4 - t->ndim)] : step;
        return shape;
    }
    filter f = empty_filter(k, own, dims);
    for (int64_t i = 0, n = product(dims, 4); i < n; i++) {
        index_at(i, t->ndim, t->shape, index);
        double value = parameter_value(t, index);
        if (!isfinite(value))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must be finite, got %g", name, value);
        store_value(k, f.values, i, value);
    }
    return f;
}

void check_filter_gradient(call *k, const filter *f)
{
    const DLTensor *t = k->r->grad_weight;
    char name[64];
    if (!t)
        return;
    snprintf(name, sizeof name, "grad_%s", weight_name(k));
    check_filter_shape(k, f, t, name);
    disjoint(k, t, name);
}
