/* Every pooling in one table, so that a hazard is tried on all of them by one loop. */
#ifndef POOLINGS_H
#define POOLINGS_H

#include "check.h"

/* The tensors of a call.  SECOND is p, r, alpha, logit, weight, samples, a, beta, omega or lam; dpp alone has ALPHA and FILTER. */
enum { X, SECOND, Y, INDICES, GRAD, GRAD_X, GRAD_SECOND, ALPHA, FILTER, GRAD_ALPHA, GRAD_FILTER, SLOTS };

typedef int function(DLTensor *const t[], const numbapool_params *p);

#define T(...) (__VA_ARGS__, p)
#define POOLING(pooling, base, to, from)                                                                                \
    static inline int pooling##_forward(DLTensor *const t[], const numbapool_params *p) { return numbapool_##base to; } \
    static inline int pooling##_backward(DLTensor *const t[], const numbapool_params *p) { return numbapool_##base##_backward from; }

POOLING(avg, avg_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(lp, lp_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(soft, soft_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(swap, swap_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(fractional_avg, fractional_avg_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(sum, sum_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(std, std_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(idw, idw_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(rank, rank_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(median, median_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(mode, mode_pool, T(t[X], t[Y], t[INDICES]), T(t[GRAD], t[X], t[INDICES], t[GRAD_X]))
POOLING(lse, lse_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(auto, auto_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(ordinal, ordinal_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(rank_stochastic, rank_stochastic_pool, T(t[X], t[SECOND], t[Y], t[INDICES]), T(t[GRAD], t[X], t[SECOND], t[INDICES], t[GRAD_X]))
POOLING(s3, s3_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(max, max_pool, T(t[X], t[Y], t[INDICES]), T(t[GRAD], t[X], t[INDICES], t[GRAD_X]))
POOLING(min, min_pool, T(t[X], t[Y], t[INDICES]), T(t[GRAD], t[X], t[INDICES], t[GRAD_X]))
POOLING(gem, gem_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(lip, lip_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(sort, sort_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(mixed, mixed_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(ada, ada_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(gated, gated_pool, T(t[X], t[SECOND], t[Y]), T(t[GRAD], t[X], t[SECOND], t[GRAD_X], t[GRAD_SECOND]))
POOLING(blur, blur_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(max_blur, max_blur_pool, T(t[X], t[Y]), T(t[GRAD], t[X], t[GRAD_X]))
POOLING(dpp, dpp_pool, T(t[X], t[SECOND], t[ALPHA], t[FILTER], t[Y]),
        T(t[GRAD], t[X], t[SECOND], t[ALPHA], t[FILTER], t[GRAD_X], t[GRAD_SECOND], t[GRAD_ALPHA], t[GRAD_FILTER]))
POOLING(stochastic, stochastic_pool, T(t[X], t[SECOND], t[Y], t[INDICES]), T(t[GRAD], t[X], t[SECOND], t[INDICES], t[GRAD_X]))
POOLING(fractional_max, fractional_max_pool, T(t[X], t[SECOND], t[Y], t[INDICES]), T(t[GRAD], t[X], t[SECOND], t[INDICES], t[GRAD_X]))
POOLING(max_unpool, max_unpool, T(t[X], t[INDICES], t[Y]), T(t[GRAD], t[INDICES], t[GRAD_X]))

/* Where a pooling's windows are said: SLIDE in every form, SLIDE_ONLY by kernel_size alone, OWN by the pooling's own parameters. */
typedef enum { SLIDE, SLIDE_ONLY, OWN, UNPOOL } windows_kind;
/* The shape of SECOND.  NUMBER: (); POSITIONS: y's, without batch and channels; KERNEL: kernel_size; LAMBDAS, LAMBDAS_FILTER: (C,), of dpp. */
typedef enum { NOTHING, NUMBER, CHANNELS, AS_X, RANKS, AS_Y, DRAWS, POSITIONS, KERNEL, LAMBDAS, LAMBDAS_FILTER } second_kind;

typedef struct {
    const char *name, *second_name;
    int (*shape)(const DLTensor *x, const numbapool_params *params, int64_t *shape);
    function *forward, *backward;
    windows_kind windows;
    second_kind second;
    bool second_learns, indexed, integers;
    int variant; /* see configure */
} pooling;

static const pooling poolings[] = {
    {"avg", NULL, numbapool_avg_shape, avg_forward, avg_backward, SLIDE, NOTHING, false, false, false, 0},
    {"avg, inside", NULL, numbapool_avg_shape, avg_forward, avg_backward, SLIDE, NOTHING, false, false, false, 1},
    {"max", NULL, numbapool_max_shape, max_forward, max_backward, SLIDE, NOTHING, false, true, true, 0},
    {"min", NULL, numbapool_min_shape, min_forward, min_backward, SLIDE, NOTHING, false, true, true, 0},
    {"lp/2", NULL, numbapool_lp_shape, lp_forward, lp_backward, SLIDE, NOTHING, false, false, false, 2},
    {"lp/3.5", NULL, numbapool_lp_shape, lp_forward, lp_backward, SLIDE, NOTHING, false, false, false, 3},
    {"gem", "p", numbapool_gem_shape, gem_forward, gem_backward, SLIDE, NOTHING, false, false, false, 0},
    {"gem, number", "p", numbapool_gem_shape, gem_forward, gem_backward, SLIDE, NUMBER, true, false, false, 0},
    {"gem, channels", "p", numbapool_gem_shape, gem_forward, gem_backward, SLIDE, CHANNELS, true, false, false, 0},
    {"soft", NULL, numbapool_soft_shape, soft_forward, soft_backward, SLIDE, NOTHING, false, false, false, 0},
    {"soft, constant", NULL, numbapool_soft_shape, soft_forward, soft_backward, SLIDE, NOTHING, false, false, false, 4},
    {"swap", NULL, numbapool_swap_shape, swap_forward, swap_backward, SLIDE, NOTHING, false, false, false, 0},
    {"lip", "logit", numbapool_lip_shape, lip_forward, lip_backward, SLIDE, AS_X, true, false, false, 0},
    {"sort", "weight", numbapool_sort_shape, sort_forward, sort_backward, SLIDE_ONLY, RANKS, true, false, false, 0},
    {"mixed, number", "a", numbapool_mixed_shape, mixed_forward, mixed_backward, SLIDE, NOTHING, false, false, false, 0},
    {"mixed, channels", "a", numbapool_mixed_shape, mixed_forward, mixed_backward, SLIDE, CHANNELS, true, false, false, 0},
    {"ada", "beta", numbapool_ada_shape, ada_forward, ada_backward, SLIDE_ONLY, NUMBER, true, false, false, 0},
    {"ada, positions", "beta", numbapool_ada_shape, ada_forward, ada_backward, SLIDE_ONLY, POSITIONS, true, false, false, 0},
    {"gated", "omega", numbapool_gated_shape, gated_forward, gated_backward, SLIDE_ONLY, KERNEL, true, false, false, 0},
    {"blur", NULL, numbapool_blur_shape, blur_forward, blur_backward, OWN, NOTHING, false, false, false, 13},
    {"blur, 5 taps", NULL, numbapool_blur_shape, blur_forward, blur_backward, OWN, NOTHING, false, false, false, 14},
    {"max_blur", NULL, numbapool_max_blur_shape, max_blur_forward, max_blur_backward, OWN, NOTHING, false, false, false, 15},
    {"dpp", "lam", numbapool_dpp_shape, dpp_forward, dpp_backward, OWN, LAMBDAS, true, false, false, 0},
    {"dpp, filter", "lam", numbapool_dpp_shape, dpp_forward, dpp_backward, OWN, LAMBDAS_FILTER, true, false, false, 16},
    {"stochastic", "samples", numbapool_stochastic_shape, stochastic_forward, stochastic_backward, SLIDE, NOTHING, false, true, false, 0},
    {"stochastic, samples", "samples", numbapool_stochastic_shape, stochastic_forward, stochastic_backward, SLIDE, AS_Y, false, true, false, 0},
    {"stochastic, mean", "samples", numbapool_stochastic_shape, stochastic_forward, stochastic_backward, SLIDE, NOTHING, false, false, false, 5},
    {"rank_stochastic", "samples", numbapool_rank_stochastic_shape, rank_stochastic_forward, rank_stochastic_backward, SLIDE, NOTHING, false, true,
     false, 10},
    {"rank_stochastic, mean", "samples", numbapool_rank_stochastic_shape, rank_stochastic_forward, rank_stochastic_backward, SLIDE, NOTHING, false,
     false, false, 5},
    {"sum", NULL, numbapool_sum_shape, sum_forward, sum_backward, SLIDE, NOTHING, false, false, false, 0},
    {"sum, known", NULL, numbapool_sum_shape, sum_forward, sum_backward, SLIDE, NOTHING, false, false, false, 11},
    {"avg, known", NULL, numbapool_avg_shape, avg_forward, avg_backward, SLIDE, NOTHING, false, false, false, 11},
    {"max, known", NULL, numbapool_max_shape, max_forward, max_backward, SLIDE, NOTHING, false, true, true, 11},
    {"std", NULL, numbapool_std_shape, std_forward, std_backward, SLIDE, NOTHING, false, false, false, 0},
    {"std, known", NULL, numbapool_std_shape, std_forward, std_backward, SLIDE, NOTHING, false, false, false, 11},
    {"idw", NULL, numbapool_idw_shape, idw_forward, idw_backward, SLIDE, NOTHING, false, false, false, 0},
    {"mode", NULL, numbapool_mode_shape, mode_forward, mode_backward, SLIDE, NOTHING, false, true, true, 0},
    {"median", NULL, numbapool_median_shape, median_forward, median_backward, SLIDE, NOTHING, false, false, false, 0},
    {"rank", NULL, numbapool_rank_shape, rank_forward, rank_backward, SLIDE, NOTHING, false, false, false, 12},
    {"ordinal", "weight", numbapool_ordinal_shape, ordinal_forward, ordinal_backward, SLIDE_ONLY, RANKS, true, false, false, 0},
    {"lse", "r", numbapool_lse_shape, lse_forward, lse_backward, SLIDE, CHANNELS, true, false, false, 0},
    {"auto", "alpha", numbapool_auto_shape, auto_forward, auto_backward, SLIDE, NUMBER, true, false, false, 0},
    {"s3", NULL, numbapool_s3_shape, s3_forward, s3_backward, OWN, NOTHING, false, false, true, 6},
    {"s3, mean", NULL, numbapool_s3_shape, s3_forward, s3_backward, OWN, NOTHING, false, false, false, 7},
    {"fractional_max", "samples", numbapool_fractional_max_shape, fractional_max_forward, fractional_max_backward, OWN, NOTHING, false, true,
     true, 8},
    {"fractional_max, kernel", "samples", numbapool_fractional_max_shape, fractional_max_forward, fractional_max_backward, OWN, DRAWS, false, true,
     true, 9},
    {"fractional_avg", NULL, numbapool_fractional_avg_shape, fractional_avg_forward, fractional_avg_backward, OWN, NOTHING, false, false, false, 8},
    {"max_unpool", NULL, numbapool_max_unpool_shape, max_unpool_forward, max_unpool_backward, UNPOOL, NOTHING, false, false, true, 0},
};

enum { POOLINGS = sizeof poolings / sizeof *poolings };

/* Windows, the same along every axis. */
typedef struct {
    int form, mode, ceil;
    int64_t kernel, stride, padding, after, dilation, outputs;
} window;

static const window windows[] = {
    {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 2, 2, 0, 0, 1, 0}, {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 3, 2, 1, 1, 1, 0},
    {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 3, 1, 1, 1, 1, 0}, {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 2, 1, 0, 0, 1, 0},
    {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 1, 1, 0, 0, 1, 0}, {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 1, 3, 0, 0, 1, 0},
    {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 1, 3, 3, 0, 0, 1, 0}, {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 1, 2, 3, 1, 0, 1, 0},
    {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 5, 3, 2, 1, 1, 0}, {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 2, 2, 1, 1, 2, 0},
    {NUMBAPOOL_SLIDING, NUMBAPOOL_SAME, 0, 3, 2, -1, -1, 1, 0},   {NUMBAPOOL_SLIDING, NUMBAPOOL_SAME_LOWER, 0, 2, 1, -1, -1, 1, 0},
    {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 4, 4, 3, 3, 1, 0}, {NUMBAPOOL_SLIDING, NUMBAPOOL_EXPLICIT, 0, 9, 1, 8, 8, 1, 0},
    {NUMBAPOOL_ADAPTIVE, NUMBAPOOL_EXPLICIT, 0, 0, 0, -1, -1, 1, 3}, {NUMBAPOOL_ADAPTIVE, NUMBAPOOL_EXPLICIT, 0, 0, 0, -1, -1, 1, 0},
    {NUMBAPOOL_GLOBAL, NUMBAPOOL_EXPLICIT, 0, 0, 0, -1, -1, 1, 0},
};

enum { WINDOWS = sizeof windows / sizeof *windows };

/* FIRST: (N, C, spatial...); LAST: (N, spatial..., C); MIXED: the shape of FIRST with the memory order of LAST. */
typedef enum { FIRST, LAST, MIXED, LAYOUTS } layout;

/* The input: batch 0 is none. */
typedef struct {
    int64_t batch, channels, spatial[3];
    int rank;
    layout layout;
    dtype dtype;
} input;

/* A call's tensors, all made; `data` holds what is to be freed. */
typedef struct {
    const pooling *pooling;
    numbapool_params params;
    tensor tensors[SLOTS];
    DLTensor *t[SLOTS]; /* those that take part, others NULL */
    bool failed;        /* the shape function refused it */
} operands;

typedef void *allocator(int slot, size_t bytes);

static inline void *plainly(int slot, size_t bytes)
{
    (void)slot;
    return allocate(bytes);
}

static inline void configure(numbapool_params *p, const pooling *of, const window *w, const input *in)
{
    if (numbapool_params_init(p, sizeof *p) != NUMBAPOOL_OK)
        CHECK(false, "numbapool_params_init failed");
    p->rank = in->rank;
    p->channels_last = in->layout == LAST;
    p->seed = 7;
    for (int i = 0; i < in->rank && of->windows != OWN; i++) {
        p->kernel_size[i] = w->kernel;
        p->stride[i] = w->stride;
        p->padding[i] = w->padding;
        p->padding_after[i] = of->windows == UNPOOL ? -1 : w->after;
        p->dilation[i] = w->dilation;
        p->output_size[i] = w->outputs;
    }
    if (of->windows != OWN && of->windows != UNPOOL) {
        p->form = w->form;
        p->padding_mode = w->mode;
        p->ceil_mode = w->ceil;
    }
    p->count_include_pad = of->variant != 1;
    p->norm_type = of->variant == 2 ? 2.0 : 3.5;
    p->norm = of->variant == 3;
    p->temperature = 0.75;
    p->gradient = of->variant == 4;
    p->training = of->variant != 5 && of->variant != 7;
    p->alpha = of->variant == 10 ? 0.375 : 0;
    p->ignore_nan = of->variant == 11;
    p->t = of->variant == 12 ? 2 : 0;
    p->a = p->beta = 0.375;
    p->symmetric = of->variant != 16;
    p->pad_mode = of->variant == 15 ? NUMBAPOOL_REPLICATE : of->variant == 14 ? NUMBAPOOL_ZEROS : NUMBAPOOL_REFLECT;
    for (int i = 0; i < in->rank && of->windows == OWN; i++) {
        p->kernel_size[i] = of->variant == 8 ? 0 : of->variant == 9 ? 3 : 2;
        p->grid_size[i] = of->variant == 6 ? 4 : 0;
        p->pooling_ratio[i] = of->variant == 8 ? 1.4142 : 0;
        p->output_size[i] = of->variant == 9 ? (in->spatial[i] + 1) / 2 : 0;
        p->filter_size[i] = of->variant == 14 ? 5 : 0;
        p->stride[i] = of->variant == 14;
    }
}

static inline DLTensor *add(operands *o, int slot, DLDataType type, int ndim, const int64_t *shape)
{
    return o->t[slot] = shaped(&o->tensors[slot], type, ndim, shape);
}

/* dpp's other parameters. */
static inline void add_dpp(operands *o, const input *in, DLDataType real)
{
    int64_t shape[4] = {in->channels, 3, 3, 3};
    add(o, ALPHA, real, 1, shape);
    add(o, GRAD_ALPHA, real, 1, shape);
    if (o->pooling->second == LAMBDAS_FILTER) {
        add(o, FILTER, real, 1 + in->rank, shape);
        add(o, GRAD_FILTER, real, 1 + in->rank, shape);
    }
}

/* The shape of p, logit, weight or samples, and other parameters. */
static inline void add_second(operands *o, const input *in, const int64_t *y_shape)
{
    DLTensor *x = o->t[X];
    DLDataType real = in->dtype == F64 ? dl(F64) : dl(F32);
    int64_t ranks = 1, draws[3] = {in->batch, in->channels, in->rank};
    for (int i = 0; i < in->rank; i++)
        ranks *= o->params.kernel_size[i];
    switch (o->pooling->second) {
    case NOTHING: break;
    case NUMBER: add(o, SECOND, real, 0, NULL); break;
    case CHANNELS: add(o, SECOND, real, 1, &in->channels); break;
    case RANKS: add(o, SECOND, real, 1, &ranks); break;
    case AS_X: add(o, SECOND, x->dtype, x->ndim, x->shape); break;
    case AS_Y: add(o, SECOND, real, x->ndim, y_shape); break;
    case POSITIONS: add(o, SECOND, real, in->rank, y_shape + (in->batch != 0) + (in->layout != LAST)); break;
    case KERNEL: add(o, SECOND, real, in->rank, o->params.kernel_size); break;
    case LAMBDAS:
    case LAMBDAS_FILTER:
        add(o, SECOND, real, 1, &in->channels);
        add_dpp(o, in, real);
        break;
    case DRAWS: add(o, SECOND, real, in->batch ? 3 : 2, draws + !in->batch); break;
    }
    if (o->t[SECOND] && o->pooling->second_learns)
        add(o, GRAD_SECOND, o->t[SECOND]->dtype, o->t[SECOND]->ndim, o->t[SECOND]->shape);
}

static inline void fill(operands *o)
{
    double low = o->pooling->variant == 2 || o->pooling->variant == 3 ? -2 : 0.125;
    fill_random(o->t[X], 1, low);
    bool floats = o->t[X]->dtype.code == kDLFloat || o->t[X]->dtype.code == kDLBfloat;
    for (int64_t i = 0, n = elements(o->t[X]); o->pooling->variant == 11 && floats && i < n; i += 3)
        memset(at(o->t[X], i), 0xFF, itemsize(o->t[X]->dtype)); /* NaN */
    fill_random(o->t[GRAD], 2, -2);
    if (o->t[SECOND])
        fill_random(o->t[SECOND], 3, 1);
    for (int slot = ALPHA; slot <= FILTER; slot++)
        if (o->t[slot])
            fill_random(o->t[slot], (uint64_t)slot, -0.5);
    if (o->t[SECOND] && (o->pooling->second == AS_Y || o->pooling->second == DRAWS))
        for (int64_t i = 0, n = elements(o->t[SECOND]); i < n; i++)
            put(at(o->t[SECOND], i), o->t[SECOND]->dtype, (value(o->t[SECOND], i) - 1) / 4);
    for (int slot = 0; slot < SLOTS; slot++)
        if (o->t[slot] && (slot == Y || slot == INDICES || slot == GRAD_X || slot == GRAD_SECOND || slot >= GRAD_ALPHA) && o->t[slot]->data)
            memset(o->t[slot]->data, 0xFF, bytes_of(o->t[slot])); /* NaN, or -1 */
}

static inline int64_t plane(const DLTensor *t, const input *in)
{
    return elements(t) / (in->batch ? in->batch : 1) / in->channels;
}

/* Valid, distinct indices for max_unpool: spread over the plane. */
static inline void fill_unpool_indices(operands *o, const input *in)
{
    int64_t from = plane(o->t[X], in), to = plane(o->t[Y], in);
    for (int64_t i = 0, n = elements(o->t[INDICES]); i < n; i++) {
        int64_t place = (in->layout == LAST ? i / in->channels : i) % from, index = place * to / from;
        memcpy(at(o->t[INDICES], i), &index, sizeof index);
    }
}

/* Give a tensor its memory order and memory. */
static inline void place(operands *o, int slot, const input *in, allocator *allocator)
{
    if (in->layout == MIXED && slot < ALPHA && ((slot != SECOND && slot != GRAD_SECOND) || o->pooling->second == AS_X))
        channels_last_memory(&o->tensors[slot], in->rank);
    o->t[slot]->data = allocator(slot, bytes_of(o->t[slot]));
}

static inline int input_shape(const input *in, int64_t *shape)
{
    int ndim = 0;
    if (in->batch)
        shape[ndim++] = in->batch;
    if (in->layout != LAST)
        shape[ndim++] = in->channels;
    for (int i = 0; i < in->rank; i++)
        shape[ndim++] = in->spatial[i];
    if (in->layout == LAST)
        shape[ndim++] = in->channels;
    return ndim;
}

/* All tensors but x. */
static inline void add_others(operands *o, const input *in, const int64_t *y_shape)
{
    const pooling *of = o->pooling;
    DLTensor *x = o->t[X];
    DLDataType gradient = in->dtype > F64 && of->windows != UNPOOL ? dl(F32) : x->dtype; /* integers have floating gradients */
    add(o, Y, x->dtype, x->ndim, y_shape);
    add(o, GRAD, gradient, x->ndim, y_shape);
    add(o, GRAD_X, gradient, x->ndim, x->shape);
    if (of->indexed || of->windows == UNPOOL)
        add(o, INDICES, dl(I64), x->ndim, of->windows == UNPOOL ? x->shape : y_shape);
    add_second(o, in, y_shape);
}

/* Make a call's tensors; false where the pooling does not take these windows or this dtype.  `discard` has to follow in any case. */
static inline bool prepare(operands *o, const pooling *of, const window *w, const input *in, allocator *allocator)
{
    int64_t shape[5], y_shape[5];
    memset(o, 0, sizeof *o);
    o->pooling = of;
    if ((in->dtype > F64 && !of->integers) || (w->form != NUMBAPOOL_SLIDING && of->windows != SLIDE))
        return false;
    configure(&o->params, of, w, in);
    add(o, X, dl(in->dtype), input_shape(in, shape), shape);
    place(o, X, in, allocator);
    o->failed = of->shape(o->t[X], &o->params, y_shape) != NUMBAPOOL_OK;
    if (o->failed)
        return false;
    add_others(o, in, y_shape);
    for (int slot = X + 1; slot < SLOTS; slot++)
        if (o->t[slot])
            place(o, slot, in, allocator);
    fill(o);
    if (of->windows == UNPOOL)
        fill_unpool_indices(o, in);
    return true;
}

/* Free what `plainly` allocated. */
static inline void discard(operands *o)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (o->t[slot])
            free(o->t[slot]->data);
}

/* Forward, then backward; the first status that is not NUMBAPOOL_OK. */
static inline int both(operands *o)
{
    int status = o->pooling->forward(o->t, &o->params);
    return status != NUMBAPOOL_OK ? status : o->pooling->backward(o->t, &o->params);
}

/* Whether a call was not made because the library was built without the kernel; all builds have those of float32. */
static inline bool lacking(int status, const operands *o)
{
    bool lacks = status == NUMBAPOOL_UNSUPPORTED && itemsize(o->t[X]->dtype) * 8 != 32;
    skipped += lacks;
    return lacks;
}

/* Whether a tensor is written by a direction. */
static inline bool is_output(int slot, const pooling *of, bool backward)
{
    if (backward)
        return slot == GRAD_X || slot == GRAD_SECOND || slot >= GRAD_ALPHA;
    return slot == Y || (slot == INDICES && of->indexed);
}

/* Whether the outputs of two calls are the same, to the last bit. */
static inline bool same_outputs(const operands *a, const operands *b)
{
    static const int outputs[] = {Y, INDICES, GRAD_X, GRAD_SECOND, GRAD_ALPHA, GRAD_FILTER};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        const DLTensor *s = a->t[outputs[i]], *t = b->t[outputs[i]];
        if (s && memcmp(s->data, t->data, bytes_of(s)) != 0)
            return false;
    }
    return true;
}

#endif
