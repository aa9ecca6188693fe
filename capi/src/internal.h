/* What the C sources share.  The planners (windows.c, plan.c, sweeps.c, choices.c) say in C what the files of the same names in numbapool/ say in
 * NumPy: tests/test_capi_plans.py compares the plans of both, integer for integer.  layout.h is written by the build from loops/layout.py. */
#ifndef NUMBAPOOL_INTERNAL_H
#define NUMBAPOOL_INTERNAL_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"
#include "numbapool.h"

typedef enum { FLOAT16, BFLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, BOOL } dtype; /* numeric.DTYPES */

/* ---------------------------------------------------------------- memory and errors of one call (memory.c) */

typedef struct block block;

/* One call of a public function.  Memory is taken from the caller's workspace or from blocks of malloc, and given back at the end, all at once;
 * whatever is wrong leaves the call by one jump, as an exception would, so that no check needs a way back. */
typedef struct {
    jmp_buf out;
    const char *where; /* begins messages */
    char *next, *end;  /* what is left of the present block */
    block *blocks;     /* blocks of malloc, the newest first */
    size_t used, peak; /* bytes taken so far, each rounded up to 64, and the most at any time */
    bool fixed;        /* the caller's workspace is all there is */
    int status;
    int device;              /* the CUDA device of the call's tensors, -1: they are in the CPU's memory */
    const char *first;       /* the name of the tensor that tells so */
    const DLTensor *host; /* a tensor of a CUDA call that is in the CPU's memory */
    struct program *program; /* what a CUDA call has gathered (cuda.h) */
    size_t device_bytes;     /* of workspace that it needs */
} context;

/* Begin a call whose first block is `workspace`, which is all there is where `fixed`; and give back what was taken. */
void begin(context *c, const char *where, void *workspace, size_t size, bool fixed);
void end(context *c);

/* Where memory was, and to give back what was taken since. */
typedef struct {
    char *next, *end;
    block *blocks;
    size_t used;
} mark;

mark marked(const context *c);
void give_back(context *c, const mark *m);

/* Memory at a multiple of 64 bytes, not cleared; never NULL. */
void *take(context *c, size_t bytes);
int64_t *take_words(context *c, int64_t words);
int64_t *take_zeros(context *c, int64_t words);

/* End the call with a status and a message that begins with c->where and ": ". */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), noreturn))
#endif
void fail(context *c, int status, const char *format, ...);

/* ---------------------------------------------------------------- windows along one axis (windows.c) */

/* windows.py's Axis.  first: (outputs), or (planes, outputs) where planes > 0; count, share: (outputs). */
typedef struct {
    int64_t outputs, planes;
    int64_t *first, *count, *share;
    int64_t step;
    bool regular; /* whether there is a grid: */
    int64_t origin, stride, kernel;
} axis;

typedef enum { PADDED, INSIDE, ONE } share_rule;

#define LIMIT ((int64_t)1 << 31)

void missing(context *c, axis *a);
void padding_of(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int mode, int64_t *before, int64_t *after); /* NUMBAPOOL_SAME... */
void sliding(context *c, axis *a, int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation, bool ceil_mode,
             share_rule rule);                                                        /* fails as windows.sliding raises */
void adaptive(context *c, axis *a, int64_t size, int64_t outputs, share_rule rule);
void spans(context *c, axis *a, const int64_t *sequence, int64_t outputs, int64_t size, bool overlapping);
void windows_at(context *c, axis *a, int64_t *first, int64_t planes, int64_t outputs, int64_t kernel); /* keeps `first` */
void fractional(context *c, axis *a, int64_t size, int64_t kernel, int64_t outputs, const double *u, int64_t planes, bool single); /* single: in float */
void shared(context *c, axis *a, int64_t factor);                                     /* one divisor for all windows, in a new table */

/* ---------------------------------------------------------------- plans (plan.c, sweeps.c, choices.c) */

/* What plans are made of: x as (N, C, D, H, W), its windows, the distances of every operand that takes part, whether lanes are channels. */
typedef struct {
    int64_t dims[5];
    axis axes[3];
    bool has[OPERANDS];
    int64_t strides[OPERANDS][5];
    bool channel_lanes;
} geometry;

/* plan.py's Plan. */
typedef struct {
    int64_t *integers;
    int64_t size; /* of them */
    int64_t rows, planes, work, taps;
    int64_t left; /* tasks that it may leave to another kernel; 0: as many as its own */
} plan;

/* Further fields of a general plan (plan.py's `extra`): a number, or a table where there is one. */
typedef struct {
    int field;
    int64_t number;
    const int64_t *table;
    int64_t size;
} extra;

typedef enum { NO_SHAPE, PLANES, QUAD, NINE, THREE, SHORT, OWN, WHOLE, EIGHT, SEPARATE } shape;

enum { NO_GRADIENT = -1, CHANNELS_FIRST = 0, CHANNELS_LAST = 1 }; /* the memory order of the gradient that a plan is for */

void dense(const int64_t dims[5], bool channels_last, int64_t strides[5]);
int64_t product(const int64_t *numbers, int n);

/* plan.build; width: channels as lanes at most; scratch_planes, itemsize, sort, extras: as there. */
plan plan_general(context *c, const geometry *g, int64_t width, int gradient, int scratch_planes, int itemsize, bool sort, const extra *extras, int n_extras);

void without_windows(context *c, axis *a, int64_t outputs); /* windows.fake_axis */
void in_a_row(context *c, geometry *g);                /* plan.in_a_row, in place */
void cut(context *c, geometry *g);                     /* sweeps.cut, in place */
void as_channels(context *c, geometry *g, bool gradient); /* sweeps.as_channels, in place */
bool straight(const geometry *g, const int64_t strides[5]); /* sweeps.straight of an operand */
shape small(const geometry *g, bool backward);         /* sweeps.small */
plan plan_small(context *c, const geometry *g, int gradient, bool past_cache);
plan plan_three(context *c, const geometry *g, int lifts, int terms, int itemsize, bool past_cache);
bool plan_sweep(context *c, const geometry *g, int lifts, int terms, int itemsize, int gradient, bool past_cache, plan *made); /* false: none */
shape plan_choices(context *c, const geometry *g, int64_t width, int gradient, int scratch_planes, int itemsize, int past_cache, plan *made);

/* ---------------------------------------------------------------- weighing sums (weigh.c) */

/* What the results along an axis are made of, weigh.py's Taps seen from one side: result o has the pairs (element, weight) from starts[o] to
 * starts[o + 1]; those `step` apart may be a run. */
typedef struct {
    int64_t results, step;
    const int64_t *starts, *pairs;
} taps;

/* The taps of windows of a grid over `size` elements, with a border by numbapool_pad_mode; transposed: seen from the elements. */
taps taps_of_windows(context *c, const axis *a, int64_t size, int pad_mode, bool transposed);
taps taps_of_one(context *c, int64_t size, bool own); /* an axis along which nothing is summed; own: each element has weights of its own */

typedef struct {
    int64_t *integers;
    int64_t size, work;
} weighing;

/* weigh.plan: distances of x and y along the batch and four axes, of weights along four; sums: of a gradient of weights, a row of tasks. */
weighing plan_weighing(context *c, const taps axes[4], int64_t batch, const int64_t x[5], const int64_t y[5], const int64_t w[4], int64_t sums);

/* ---------------------------------------------------------------- threads (threads.c) */

/* How many threads a call may use: params->num_threads, or the library's number. */
int threads_for(const numbapool_params *params);

/* body(argument, i) for every i of [0, n), on the host's threads, the library's, or one after the other; returns when all are done. */
void run_parallel(const numbapool_params *params, int64_t n, numbapool_body body, void *argument);

#endif
