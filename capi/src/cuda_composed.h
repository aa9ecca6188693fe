/* What composed poolings do on a CUDA device (cuda_composed.c). */
#ifndef NUMBAPOOL_CUDA_COMPOSED_H
#define NUMBAPOOL_CUDA_COMPOSED_H

#include "composed.h"

void cuda_each_row(call *k, row_kind kind, const view *const *views, int n); /* each_row */
void cuda_weigh(call *k, const sights *s, const filter *f, const view *x, const view *y, bool transposed, bool gate);
void cuda_weigh_gradient(call *k, const sights *s, const filter *f, const view *x, const view *grad);

/* A parameter as it broadcasts to y, whose axes are those of its tensor (NULL: the number in its place); and its gradient. */
view cuda_parameter(call *k, const DLTensor *t, const int64_t dims[5], const int *axes);
void cuda_gather(call *k, const view *from, const DLTensor *t, const int *axes, int n_axes);

/* dpp: y (out); or, by grad (out), what it gives to x, lam, alpha and middle: views, or of no memory where it is not wanted. */
void cuda_details(call *k, const view *lam, const view *alpha, const view *middle, const view *out, const view *const *gradients);

void cuda_in_float32(call *k); /* a composed pooling of a half type */

#endif
