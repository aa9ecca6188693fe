/* What the files of composed poolings share. */
#ifndef NUMBAPOOL_COMPOSED_H
#define NUMBAPOOL_COMPOSED_H

#include "families.h"

/* ---------------------------------------------------------------- parameters (parameters.c) */

/* An array parameter as it broadcasts to y, and which of y's axes are those of its tensor. */
typedef struct {
    const array_info *info;
    view values;
    int n_axes, axes[4];
} parameter;

parameter read_parameter(call *k, const array_info *info, const DLTensor *t); /* NULL: the number that stands for it */
void check_gradient(call *k, const parameter *p, const DLTensor *given, const DLTensor *t); /* the tensor of its gradient, where there is one */
void gather(call *k, const parameter *p, const view *contributions, const DLTensor *t);     /* its gradient, from what every output gives */

/* A tensor of weights, in the kernel's arithmetic: (C, D, H, W), with one channel for all where `own` is false. */
typedef struct {
    bool own, on_device;
    int64_t dims[4], steps[4];
    char *values;
} filter;

filter empty_filter(call *k, bool own, const int64_t dims[4]);
filter read_filter(call *k, bool own, const int64_t dims[4]);        /* the caller's weights */
void check_filter_gradient(call *k, const filter *f);                /* the tensor of their gradient, where there is one */
int shape_of_filter(const call *k, const filter *f, int64_t *shape); /* of its tensor; returns how many axes */

void store_value(const call *k, char *memory, int64_t i, double value);     /* in the kernel's arithmetic */
void index_at(int64_t i, int n_axes, const int64_t *sizes, int64_t *index); /* along the axes of a shape, of its i-th element */

/* ---------------------------------------------------------------- weighing sums and parts (composed.c) */

/* The windows of a weighing sum along three axes of `sizes` elements. */
typedef struct {
    const axis *axes;
    int64_t sizes[3];
    int pad_mode;
} sights;

void weigh(call *k, const sights *s, const filter *f, const view *x, const view *y, bool transposed); /* y of x, or the gradient of x from y's */
void weigh_gradient(call *k, const sights *s, const filter *f, const view *x, const view *grad);     /* of the weights, to its tensor */
view like_y(call *k); /* memory in between */
view like_x(call *k);

/* ---------------------------------------------------------------- poolings */

void dpp_forward(call *k); /* dpp.c */
void dpp_backward(call *k);

#endif
