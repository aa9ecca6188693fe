/* What a call is asked for, what poolings are (tables written by capi/tables.py), and the families that run them. */
#ifndef NUMBAPOOL_FAMILIES_H
#define NUMBAPOOL_FAMILIES_H

#include "internal.h"
#include "kernels.h"

/* ---------------------------------------------------------------- tables */

typedef int32_t (*kernel_function)(void **result, void **exception, int64_t plan, int64_t data, int64_t slot, int64_t lo, int64_t hi);

typedef struct {
    int key;
    kernel_function on[PROCESSORS]; /* NULL where this build has none */
} kernel_row;

typedef enum { FAMILY_FOLD, FAMILY_SELECT, FAMILY_VOTE, FAMILY_DRAW, FAMILY_ORDER, FAMILY_UNPOOL, FAMILY_COMPOSED } family;
typedef enum { REGULAR, FRACTIONAL, FIXED_OR_FRACTIONAL, SAMPLED, UNPOOLED, BLURRED, MAX_BLURRED, HALVED } windows_kind;

/* Numbers of accumulators and of terms, forward and backward. */
typedef struct {
    struct {
        int accumulators, terms;
    } way[2];
    bool plain_sum; /* gradients need nothing of the elements */
    bool common;    /* there is a common reference, and so fast loops for all windows */
    int dtypes;     /* bits: those that have kernels */
} formula_info;

typedef struct {
    const char *name;
    size_t offset; /* in numbapool_params */
    bool positive;
} number_info;

typedef enum { ONE_NUMBER, BY_CHANNEL, BY_POSITION, BY_CHANNEL_AND_POSITION, ARRAY_SHAPES } array_shape;

typedef struct {
    const char *name;
    size_t offset; /* of the number that stands for it; 0: none does */
    double above;
    int shapes; /* which it may have, by bits of array_shape */
} array_info;

/* A formula that takes the place of the general one where a field has a value: a number, for speed, or an option, which computes something else. */
typedef struct {
    size_t offset;
    bool is_double; /* else int32_t */
    double value;
    int formula;
    bool only_backward;
} variant_info;

typedef struct {
    const char *name;
    family family;
    windows_kind windows;
    int forms; /* bits: sliding, adaptive, global */
    int64_t kernel_size, stride, padding, filter_size;
    bool integers;
    int formula, chooses;           /* of its fold, or of its mean by rank; of its choice, vote, draw or order */
    int ignoring, ignoring_divided; /* what takes its place where NaN is left out, and the divisor is given; 0: nothing */
    int elements, n_numbers, n_variants;
    bool learns, fixed;
    number_info numbers[4];
    double constants[4]; /* in place of numbers, where they are fixed */
    array_info array, second;
    const char *weight; /* what the tensor of weights is called, else "weight" */
    variant_info variants[8];
} pooling_info;

extern const kernel_row kernel_rows[];
extern const int kernel_count;
extern const char *const processor_names[PROCESSORS];
extern const formula_info formula_infos[FORMULA_COUNT];
extern const pooling_info pooling_infos[POOLING_COUNT];

/* The kernel of a formula for this processor, or NULL. */
kernel_function find_kernel(int formula, bool backward, dtype t, int loop);

/* ---------------------------------------------------------------- calls */

/* The arguments of a public function, by name. */
typedef struct {
    int pooling;
    bool backward, shape_only;
    bool sliced; /* part of a call that goes by batch entries (slices.c) */
    const char *where;
    const DLTensor *grad, *x, *logit, *array, *second, *samples, *weight, *indices_in;
    DLTensor *y, *indices, *grad_x, *grad_logit, *grad_array, *grad_second, *grad_weight;
    const numbapool_params *params;
    int64_t *shape;
} request;

int run(const request *r);

/* A tensor as (N, C, D, H, W), with distances in elements. */
typedef struct {
    char *data;
    dtype dtype;
    int64_t dims[5], strides[5];
} view;

/* call.py's Call: what is known of a call when its family takes over. */
typedef struct call {
    context *c;
    const request *r;
    const pooling_info *pooling;
    numbapool_params p; /* complete, with a caller's older struct filled up */
    view x;
    axis axes[3];
    int64_t out_dims[5];
    int ndim;
    bool batched, last; /* x has a batch; shapes have the channels last */
    bool lanes;         /* lanes are channels */
    bool memory_last;   /* x, and so the memory of gradients, lies in channels-last order */
    int chooses;        /* the formula of its choice */
    dtype dtype;        /* of x */
    dtype grad_dtype;   /* of gradients: another one where x are integers */
    bool dry;           /* nothing is computed: what memory a call needs is asked for */
    const struct bundle *bundle; /* NULL: planes are taken as they lie */
} call;

/* A call as kernels see it that take some of its planes side by side for all there are (bundles.py): what is launched for it goes over all planes. */
typedef struct bundle {
    call seen;
    const call *whole;
    geometry given; /* of all planes */
} bundle;

enum { FAULTS = 2 };

/* Whether elements are drawn by their ranks. */
static inline bool by_rank(const call *k) { return k->pooling->family == FAMILY_DRAW && k->pooling->formula == FORMULA_SORT; }

/* Addresses of operands and constants by their slots in the data that kernels read. */
typedef struct {
    int64_t words[AT_DATA + FAULTS];
} addresses;

/* call.c */
void on_device(context *c, const DLTensor *x, const char *name); /* x tells where all tensors of the call are */
void in_context(context *c, const request *r, bool dry);
void prepare(call *k, context *c, const request *r, bool dry); /* checks x and params, makes the windows */
int item_bytes(dtype t);
bool is_half(dtype t);
bool is_float(dtype t);
dtype real_of(dtype t);          /* what a dtype is computed in */
int real_bytes(dtype t);
view tensor_view(call *k, const DLTensor *t, const char *name, const int64_t dims[5], dtype wanted); /* of a known shape and dtype */
view result_view(call *k, const DLTensor *t, const char *name, const int64_t dims[5], dtype wanted); /* the same, to be written: overlaps nothing */
/* Whether lanes should be channels, and whether elements lie in channels-last order: call.py's order_of. */
void order_in_memory(const view *x, bool *lanes, bool *memory_last);
view fresh_view(call *k, const int64_t dims[5], dtype t, bool channels_last); /* memory in between */
void copy_view(const view *from, const view *to);
DLTensor tensor_of(const call *k, const view *v, int64_t *shape, int64_t *strides); /* a view as a tensor with the axes of x */
view gradient_view(call *k, const DLTensor *t, const char *name);  /* where a gradient is computed: the tensor, or memory in between */
void settle_gradient(call *k, const DLTensor *t, const char *name, const view *made); /* copied to the tensor, if it is not that */
void checked_shape(call *k, const DLTensor *t, const char *name, const int64_t dims[5]); /* fails where it has another */
void disjoint(call *k, const DLTensor *out, const char *name); /* fails where `out` overlaps a tensor of the request */
void parameter_tensor(call *k, const DLTensor *t, const char *name); /* checks memory, device and dtype (float32 or float64) */
void real_tensor(call *k, const DLTensor *t, const char *name); /* the same, of the dtype that x is computed in: kernels read or write it */
double parameter_value(const DLTensor *t, const int64_t *index); /* an element of it */
void parameter_store(const DLTensor *t, const int64_t *index, double value);
const char *weight_name(const call *k); /* of the tensor of weights, for messages */

/* slices.c */
bool needs_slices(call *k);
void run_slices(call *k);

/* launch.c */
bool past_cache(int64_t bytes);
int64_t slots_for(const call *k, int64_t tasks, int64_t taps); /* how many threads share so many tasks that read so many elements */
geometry geometry_of(const call *k);
void operand(geometry *g, int slot, const int64_t strides[5]);
plan planned(call *k, const geometry *g, bool gradient, int planes, bool scatter, bool sort, const extra *extras, int n_extras);
shape small_of(call *k, const geometry *g, bool gradient, bool plain, geometry *cut_one); /* call.py's `small`, without the plan */
plan small_plan(call *k, const geometry *g, shape s, bool gradient, int lifts, int terms);
bool sweep_plan(call *k, const geometry *g, int lifts, int terms, bool gradient, bool as_rows, plan *made);
shape choices_plan(call *k, const geometry *g, bool gradient, bool indexed, plan *made);
kernel_function needed_kernel(call *k, int formula, bool backward, int loop); /* fails where this build has none */
/* Run a kernel over all tasks of its plan, or over those that `mask` marks; tells whether it has left some, which `left` then marks. */
bool launch(call *k, kernel_function f, const plan *made, bool backward, addresses *a, bool indexed, const uint8_t *mask, uint8_t **left);

/* bundle.c */
/* The call in bundles where the rows of its planes are narrower than `widest` positions, and in place of its operands their lanes; else itself. */
call *in_bundles(bundle *b, call *k, geometry *g, int64_t widest, bool gradient);
plan plan_bundles(const bundle *b, const plan *inner, bool backward, bool leaves); /* of the kernel that calls one of the plan `inner` */

/* The parts of [0, tasks) on as many threads as `work` elements are worth. */
void share_out(call *k, void (*part)(void *argument, int64_t slot, int64_t lo, int64_t hi), void *argument, int64_t tasks, int64_t work);
void launch_tasks(call *k, kernel_function f, const int64_t *integers, const int64_t *data, int64_t tasks, int64_t work); /* that leaves none */

/* elementwise.c: poolings' results combined, one row of elements at a time */
enum { ROW_OPERANDS = 10 };

/* n elements of every operand, which begin at `at` and are `step` elements apart; NULL: there is none. */
typedef void (*row_function)(int64_t n, void *const *at, const int64_t *step);

typedef enum { BLEND, SPLIT, TIMES_DISTANCE, ADD, CLEAR, THROUGH_SIGMOID, ROW_FUNCTIONS } row_kind;

/* Over all elements of the first view; strides of 0 broadcast. */
void each_row(call *k, row_kind kind, const view *const *operands, int n_operands);

/* families.c */
int main_formula(const call *k); /* but for variants of the fold */
double array_number(call *k);               /* the number that stands for an array parameter, checked */
void read_numbers(call *k, double *numbers); /* the number parameters, checked */
int cuda_formula_of(const call *k);
double rank_share(call *k);                  /* the probability of the largest element, by_rank, checked */

/* The weights by rank of a call, in the kernel's arithmetic. */
typedef struct {
    int64_t ranks, channel, n_rows, n_weights; /* channel: distance of two channels' weights */
    int64_t rows, range, n_counts;             /* of what is given: channels, ranks; how many numbers of elements windows have */
    const int64_t *row_of, *counts;            /* the row of weights for a number of elements, n_rows of them; and these numbers */
    const char *weights;                       /* NULL: nobody knows what is on a device */
} rank_weights;

rank_weights rank_weights_of(call *k);
void run_fold(call *k);
void run_select(call *k);
void run_vote(call *k);
void run_draw(call *k);
void run_order(call *k);
void run_unpool(call *k);
void run_s3_inference(call *k);
void run_composed(call *k); /* composed.c; x is float32 or float64 */
void fake_axes(call *k);    /* outputs without windows: for loops that follow indices */
void scatter(call *k, const view *values, const view *index, const view *result, bool add, const axis *windows);

/* cuda_fold.c and others: what the functions above are on a CUDA device. */
bool cuda_has_formula(const call *k, int formula);

/* windows of poolings that draw them (draws.c) */
typedef struct {
    double value;
    int64_t place;
} ranked;

void sort_ranked(ranked *items, int64_t n); /* by value, then by place */
void uniforms(uint64_t seed, int64_t planes, int64_t size, uint64_t stream, double *numbers);
void regular_windows(call *k);
void blurred_windows(call *k);
void halved_windows(call *k);
void fractional_windows(call *k);
void sampled_windows(call *k);
void unpooled_size(call *k, int64_t size[3]);

#endif
