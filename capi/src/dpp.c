/* Detail-preserving pooling: what pools/dpp.py does in Python.  Windows are strided views of x; rows.h has the arithmetic of one. */
#include <math.h>
#include <string.h>

#include "composed.h"

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

void dpp_forward(call *k)
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

void dpp_backward(call *k)
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
