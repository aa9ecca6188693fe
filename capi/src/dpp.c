/* Detail-preserving pooling: what pools/dpp.py and detail.py do in Python; loops/cpu/detail.py says what the plan of its kernels holds. */
#include <math.h>
#include <string.h>

#include "cuda_composed.h"

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
            *value = (float)(exp((double)*value) * factor);
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
    if (k->c->device < 0) {
        exponentials(k, &d->power, 0.5);
        exponentials(k, &d->base, 1.0);
    }
    d->full = r->weight != NULL;
    if (d->full) {
        filter_windows(k, d);
        check_filter_gradient(k, &d->weight);
    } else if (r->grad_weight) {
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "grad_weight must be NULL where weight is");
    }
}

/* A call of a kernel: its integers and operands, in y's axes with the lanes last. */
typedef struct {
    int order[5];
    int64_t integers[DETAIL_SIZE], data[DETAIL_OPERANDS];
} details_call;

static details_call open_call(const call *k)
{
    static const int orders[2][5] = {{0, 1, 2, 3, 4}, {0, 2, 3, 4, 1}};
    details_call made = {.integers = {0}, .data = {0}};
    memcpy(made.order, orders[k->memory_last], sizeof made.order);
    for (int i = 0; i < 5; i++)
        made.integers[DETAIL_SIZES + i] = k->out_dims[made.order[i]];
    made.integers[DETAIL_ELEMENTS] = 1 << k->ndim;
    made.integers[DETAIL_SYMMETRIC] = k->p.symmetric;
    return made;
}

/* An operand of y's sizes, or one that broadcasts to them: its steps there are 0. */
static void add_operand(details_call *to, int operand, const view *v)
{
    to->data[operand] = (int64_t)(intptr_t)v->data;
    for (int i = 0; i < 5; i++)
        to->integers[DETAIL_STEPS + 5 * operand + i] = v->strides[to->order[i]];
}

/* An operand of x's sizes as windows see it: their first elements; from these to the others are `places`. */
static void add_elements(const call *k, details_call *to, int operand, int places, const view *v)
{
    view first = *v;
    for (int i = 5 - k->ndim; i < 5; i++)
        first.strides[i] = 2 * v->strides[i];
    add_operand(to, operand, &first);
    for (int j = 0; j < 1 << k->ndim; j++)
        for (int i = 0; i < k->ndim; i++)
            to->integers[places + j] += (j >> (k->ndim - 1 - i) & 1) * v->strides[5 - k->ndim + i];
}

/* The smoothed x, where it is a filter's. */
static view smoothed(call *k, const details *d)
{
    view middle = {0};
    if (d->full) {
        middle = like_y(k);
        weigh(k, &d->windows, &d->weight, &k->x, &middle, false);
    }
    return middle;
}

/* What both passes know: the elements, the parameters, and the smoothed x, where it is a filter's. */
static void add_inputs(call *k, details_call *to, const details *d)
{
    add_elements(k, to, DETAIL_OF_X, DETAIL_FROM, &k->x);
    add_operand(to, DETAIL_OF_POWER, &d->power.values);
    add_operand(to, DETAIL_OF_BASE, &d->base.values);
    if (d->full) {
        view middle = smoothed(k, d);
        add_operand(to, DETAIL_OF_MIDDLE, &middle);
        to->integers[DETAIL_GIVEN] = 1;
    }
}

static void run_details(call *k, details_call *to)
{
    int64_t tasks = product(to->integers + DETAIL_SIZES, 4), work = tasks * to->integers[DETAIL_SIZES + 4] * to->integers[DETAIL_ELEMENTS];
    launch_tasks(k, needed_kernel(k, FORMULA_DETAIL, k->r->backward, LOOP_DETAIL), to->integers, to->data, work ? tasks : 0, DETAIL_WORK * work);
}

void dpp_forward(call *k)
{
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    details_call to = open_call(k);
    details d;
    read_details(k, &d);
    if (k->c->device >= 0) {
        view middle = smoothed(k, &d);
        cuda_details(k, &d.power.values, &d.base.values, d.full ? &middle : NULL, &y, NULL);
        return;
    }
    add_inputs(k, &to, &d);
    add_operand(&to, DETAIL_OF_Y, &y);
    run_details(k, &to);
}

/* Elements that no window has: the last one of an odd axis. */
static bool left_over(const call *k)
{
    for (int i = 5 - k->ndim; i < 5; i++)
        if (k->x.dims[i] % 2)
            return true;
    return false;
}

/* What windows give to their elements, and in between to lam, alpha and what was smoothed: memory where they are wanted. */
typedef struct {
    view grad_x, lam, alpha, through;
} pulls;

static void run_backward(call *k, const details *d, const view *grad, const pulls *p)
{
    if (left_over(k))
        each_row(k, CLEAR, (const view *[]){&p->grad_x}, 1);
    if (k->c->device >= 0) {
        view middle = smoothed(k, d);
        cuda_details(k, &d->power.values, &d->base.values, d->full ? &middle : NULL, grad,
                     (const view *[]){&p->grad_x, &p->lam, &p->alpha, &p->through});
        return;
    }
    details_call to = open_call(k);
    add_inputs(k, &to, d);
    add_operand(&to, DETAIL_OF_GRAD, grad);
    add_elements(k, &to, DETAIL_OF_GRAD_X, DETAIL_TO, &p->grad_x);
    if (p->lam.data)
        add_operand(&to, DETAIL_OF_LAM, &p->lam);
    if (p->alpha.data)
        add_operand(&to, DETAIL_OF_ALPHA, &p->alpha);
    if (p->through.data)
        add_operand(&to, DETAIL_OF_THROUGH, &p->through);
    run_details(k, &to);
}

void dpp_backward(call *k)
{
    const request *r = k->r;
    view grad = tensor_view(k, r->grad, "grad", k->out_dims, k->dtype);
    pulls p = {.grad_x = result_view(k, r->grad_x, "grad_x", k->x.dims, k->dtype)};
    details d;
    read_details(k, &d);
    if (r->grad_array)
        p.lam = like_y(k);
    if (r->grad_second)
        p.alpha = like_y(k);
    if (d.full)
        p.through = like_y(k);
    run_backward(k, &d, &grad, &p);
    if (r->grad_array)
        gather(k, &d.power, &p.lam, r->grad_array);
    if (r->grad_second)
        gather(k, &d.base, &p.alpha, r->grad_second);
    if (!d.full)
        return;
    view more = like_x(k);
    weigh(k, &d.windows, &d.weight, &p.through, &more, true);
    each_row(k, ADD, (const view *[]){&p.grad_x, &more}, 2);
    if (r->grad_weight)
        weigh_gradient(k, &d.windows, &d.weight, &k->x, &p.through);
}
