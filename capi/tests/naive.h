/* Average and maximum by plain loops over numbers, to compare with. */
#ifndef NAIVE_H
#define NAIVE_H

#include "poolings.h"

/* One axis: the input's size, the first tap of a window (it may lie before the input), and one past the last, in steps. */
typedef struct {
    int64_t size, kernel, stride, before, after, dilation;
} naive_axis;

static inline naive_axis naive_axis_of(const numbapool_params *p, const DLTensor *x, int i, int first)
{
    naive_axis a = {.size = x->shape[first + i], .kernel = p->kernel_size[i], .stride = p->stride[i], .dilation = p->dilation[i]};
    a.before = p->padding[i] < 0 ? 0 : p->padding[i];
    a.after = p->padding_after[i] < 0 ? a.before : p->padding_after[i];
    if (p->padding_mode != NUMBAPOOL_EXPLICIT) {
        int64_t outputs = (a.size + a.stride - 1) / a.stride, reach = a.dilation * (a.kernel - 1) + 1;
        int64_t total = (outputs - 1) * a.stride + reach - a.size, more = total > 0 ? total : 0;
        a.before = p->padding_mode == NUMBAPOOL_SAME ? more / 2 : more - more / 2;
        a.after = more - a.before;
    }
    return a;
}

/* What one window holds, without NaN where they are left out: its elements' sum and maximum, how many there are, and how many taps lie in the padded input. */
typedef struct {
    double sum, largest;
    int64_t inside, padded;
} naive_window;

/* The flat number of an element of x from the coordinates of y's element, with spatial ones replaced. */
static inline int64_t flat_of(const DLTensor *x, const int64_t *place)
{
    int64_t flat = 0;
    for (int i = 0; i < x->ndim; i++)
        flat = flat * x->shape[i] + place[i];
    return flat;
}

static inline naive_window naive_at(const DLTensor *x, const naive_axis *axes, int rank, int first, bool leave_out, int64_t *place)
{
    naive_window w = {0, -INFINITY, 0, 0};
    int64_t out[3], taps = 1;
    for (int i = 0; i < rank; i++) {
        out[i] = place[first + i];
        taps *= axes[i].kernel;
    }
    for (int64_t tap = 0; tap < taps; tap++) {
        bool inside = true, padded = true;
        int64_t rest = tap;
        for (int i = rank - 1; i >= 0; i--) {
            const naive_axis *a = &axes[i];
            int64_t at = out[i] * a->stride - a->before + rest % a->kernel * a->dilation;
            rest /= a->kernel;
            inside &= at >= 0 && at < a->size;
            padded &= at >= -a->before && at < a->size + a->after;
            place[first + i] = at;
        }
        double v = inside ? value(x, flat_of(x, place)) : 0;
        if (leave_out && isnan(v))
            continue;
        w.padded += padded;
        w.inside += inside;
        w.sum += v;
        w.largest = inside && v > w.largest ? v : w.largest;
    }
    return w;
}

static inline double tolerance(DLDataType type)
{
    return type.code == kDLBfloat ? 8e-3 : type.bits == 16 ? 1e-3 : type.bits == 32 ? 1e-5 : 1e-12;
}

/* Whether y is what plain loops give; true for what is neither an average nor a maximum of sliding windows. */
static inline bool agrees(const operands *o)
{
    const DLTensor *x = o->t[X], *y = o->t[Y];
    const numbapool_params *p = &o->params;
    bool maximum = o->pooling->forward == max_forward;
    if ((!maximum && o->pooling->forward != avg_forward) || p->form != NUMBAPOOL_SLIDING)
        return true;
    naive_axis axes[3];
    int first = x->ndim - p->rank - (p->channels_last != 0);
    for (int i = 0; i < p->rank; i++)
        axes[i] = naive_axis_of(p, x, i, first);
    for (int64_t flat = 0, n = elements(y); flat < n; flat++) {
        int64_t place[5], rest = flat;
        for (int i = y->ndim - 1; i >= 0; rest /= y->shape[i], i--)
            place[i] = rest % y->shape[i];
        naive_window w = naive_at(x, axes, p->rank, first, p->ignore_nan, place);
        double wanted = maximum ? w.largest : w.sum / (double)(p->count_include_pad ? w.padded : w.inside), got = value(y, flat);
        if (!(fabs(got - wanted) <= (maximum ? 0 : tolerance(y->dtype) * (fabs(wanted) + 1))) && !(isnan(got) && (isnan(wanted) || (p->ignore_nan && !w.inside))))
            return false;
    }
    return true;
}

#endif
