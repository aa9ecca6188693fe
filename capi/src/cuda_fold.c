/* Fold on a GPU: which kernels a call runs, and on what.  The class Fold of numbapool/cuda/families.py in C. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cuda.h"
#include "plans.h"

/* What the launches of a fold have in common. */
typedef struct {
    call *k;
    cuda_head head;
    operands o;
    int formula;
    bool backward, plain, apart, crowded, wide, vectors, cut, uniform, tiled;
    unsigned reads, seen, more; /* what is read; all that decides about lanes; what all launches see besides */
    int lanes;
    double numbers[4];
    int n_numbers;
} fold;

static bool has_kernels(int formula, dtype t, bool backward)
{
    for (int i = 0; i < 8; i++) {
        kernel_key key = {.formula = formula, .loop = backward ? CU_FOLD_GATHER : CU_FOLD_FORWARD, .backward = backward, .dtype = (int)t, .lanes = 1,
                          .uniform = i & 1, .wide = i >> 1 & 1, .rows = i >> 2 & 1};
        if (cuda_find(&key))
            return true;
    }
    return false;
}

bool cuda_has_formula(const call *k, int formula) { return has_kernels(formula, k->dtype, k->r->backward); }

/* By words of 32 bits. */
uint64_t cuda_number(call *k, double value)
{
    float single = (float)value;
    uint32_t words[2] = {0};
    int n = k->dtype == FLOAT64 ? 2 : 1;
    uint64_t address = cuda_space(k, 16, 1);
    memcpy(words, n == 2 ? (const void *)&value : (const void *)&single, (size_t)n * 4);
    for (int i = 0; i < n; i++)
        cuda_fill(k->c, address + 4 * (unsigned)i, words[i], 1);
    return address;
}

/* An array parameter: a tensor on the device, whose values nobody looks at, or the number in its place. */
static void array_operand(fold *f)
{
    call *k = f->k;
    const array_info *info = &k->pooling->array;
    const DLTensor *t = k->r->array;
    if (!info->name)
        return;
    f->more |= BIT(CU_PARAM);
    if (!t) {
        static const int64_t none[5] = {0};
        cuda_at(&f->o, CU_PARAM, cuda_number(k, array_number(k)), none);
        return;
    }
    real_tensor(k, t, info->name);
    if (t->ndim > 1 || (t->ndim == 1 && t->shape[0] != k->x.dims[1]))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must have shape () or (%" PRId64 ",)", info->name, k->x.dims[1]);
    int64_t strides[5] = {0, t->ndim == 1 && t->shape[0] > 1 ? (t->strides ? t->strides[0] : 1) : 0, 0, 0, 0};
    cuda_at(&f->o, CU_PARAM, (uint64_t)(uintptr_t)t->data + t->byte_offset, strides);
}

static kernel_key fold_key(const fold *f, int loop, bool cut_windows)
{
    bool outputs = loop == CU_FOLD_FORWARD || loop == CU_FOLD_TERMS || loop == CU_FOLD_DISJOINT, divides = outputs || f->plain;
    return (kernel_key){
        .formula = f->formula, .loop = loop, .backward = f->backward, .dtype = (int)f->k->dtype, .lanes = f->lanes, .channel = f->k->lanes,
        .apart = f->apart, .wide = f->wide, .uniform = f->uniform && divides && loop != CU_FOLD_PARTS, .cut = cut_windows,
        .rows = outputs && !cut_windows && f->head.taps >= CU_LARGE};
}

/* Whether windows are cut, for which this build must have the kernels, too. */
static bool fold_cuts(const fold *f)
{
    kernel_key parts = fold_key(f, CU_FOLD_PARTS, false), joined = fold_key(f, f->backward ? CU_FOLD_TERMS : CU_FOLD_FORWARD, true);
    if ((f->backward && f->plain) || f->apart || !cuda_cuts(&f->head))
        return false;
    parts.lanes = joined.lanes = 1;
    parts.channel = joined.channel = 0;
    joined.uniform = 0;
    return cuda_find(&parts) && (cuda_find(&joined) || (joined.uniform = f->uniform, cuda_find(&joined)));
}

/* One past the last element that belongs to a window where no two share one: those up to the next one are its, too. */
static int64_t tile_end(const fold *f, int i, int64_t o)
{
    const axis *a = &f->k->axes[i];
    return o + 1 < a->outputs ? a->first[o + 1] : f->k->x.dims[2 + i];
}

/* Whether no two windows share an element, none is empty, they and the gaps behind them are small, and this build has kernels that do such a
 * backward pass in one. */
static bool disjoint_windows(const fold *f)
{
    kernel_key key = fold_key(f, CU_FOLD_DISJOINT, false);
    int64_t tile = 1;
    for (int i = 0; i < 3; i++) {
        const axis *a = &f->k->axes[i];
        int64_t largest = 0;
        if (a->planes || !a->outputs)
            return false;
        for (int64_t o = 0; o < a->outputs; o++)
            if (a->count[o] == 0 || (a->step > 1 && a->count[o] > 1) || (o && a->first[o] < a->first[o - 1] + a->count[o - 1]))
                return false;
        for (int64_t o = 0; o < a->outputs; o++)
            largest = most(largest, tile_end(f, i, o) - (o ? a->first[o] : 0));
        tile = times(tile, largest);
    }
    return tile <= CU_MOST_TILE && cuda_nearest(&key, false);
}

/* Where the elements begin that belong to each of disjoint windows, with those up to the next one; and where they end. */
static void tiles(const fold *f, cuda_task *t, int i)
{
    const axis *a = &f->k->axes[i];
    int32_t *bounds = take(f->k->c, (size_t)a->outputs * 2 * sizeof *bounds);
    for (int64_t o = 0; o < a->outputs; o++) {
        bounds[o] = o ? (int32_t)a->first[o] : 0;
        bounds[a->outputs + o] = (int32_t)tile_end(f, i, o);
    }
    cuda_set_word(f->k->c, t, CU_D_COVER + i, cuda_place(f->k->c, bounds, bounds, (size_t)a->outputs * 8));
}

/* Divisors lie in tables of 32 bits, but for one that all windows have. */
static void check_divisor(const fold *f, const kernel_key *key)
{
    if (f->uniform && !key->uniform && f->plain && (f->head.share > INT32_MAX || f->head.share < INT32_MIN))
        fail(f->k->c, NUMBAPOOL_UNSUPPORTED, "this build of the library has no CUDA kernel for such a divisor");
}

static void fold_launch(fold *f, int loop, unsigned slots, bool cut_windows)
{
    kernel_key key = fold_key(f, loop, cut_windows);
    cuda_launch l = {.slots = slots | f->more, .over_inputs = loop == CU_FOLD_GATHER, .covers = loop == CU_FOLD_GATHER, .n_numbers = f->n_numbers,
                     .numbers = f->numbers};
    const cuda_row *row = NULL;
    if (loop == CU_FOLD_FORWARD && !cut_windows)
        row = cuda_strip(f->k, f->vectors, f->crowded, &f->o, f->reads & ~BIT(CU_Y), BIT(CU_Y), &key);
    if (loop == CU_FOLD_DISJOINT && f->k->x.dims[4] == 2 * f->k->out_dims[4])
        row = cuda_strip(f->k, f->vectors, f->crowded, &f->o, f->seen & ~BIT(CU_Y), BIT(CU_Y), &key);
    if (!row)
        row = cuda_pick(f->k, &key, true);
    check_divisor(f, &key);
    cuda_task *t = cuda_add(&f->head, &key, row, &f->o, &l);
    for (int i = 0; i < 3 && loop == CU_FOLD_DISJOINT; i++)
        tiles(f, t, i);
}

/* The kernels of a pass: of parts of large windows; of windows; and of inputs. */
static void fold_run(fold *f, unsigned work)
{
    unsigned cut = f->cut ? BIT(CU_PARTS) : 0;
    if (cut) {
        int64_t accumulators = formula_infos[f->formula].way[f->backward].accumulators;
        cuda_segments(&f->head);
        cuda_in_space(f->k, &f->o, CU_PARTS, times(times(f->head.across, f->head.along), accumulators), real_bytes(f->k->dtype));
        fold_launch(f, CU_FOLD_PARTS, f->reads | cut, false);
    }
    if (!f->backward) {
        fold_launch(f, CU_FOLD_FORWARD, f->seen | cut, f->cut);
        return;
    }
    if (f->tiled) {
        fold_launch(f, CU_FOLD_DISJOINT, f->seen | work, false);
        return;
    }
    if (!f->plain)
        fold_launch(f, CU_FOLD_TERMS, f->reads | work | cut, f->cut);
    fold_launch(f, CU_FOLD_GATHER, f->seen | (work & BIT(CU_WORK)), false);
}

static fold fold_of(call *k)
{
    cuda_drawn(k);
    fold f = {.k = k, .head = cuda_head_of(k, k->lanes), .backward = k->r->backward, .plain = formula_infos[cuda_formula_of(k)].plain_sum};
    f.formula = cuda_formula_of(k);
    f.crowded = cuda_crowded[f.formula];
    f.apart = cuda_apart[f.formula];
    f.uniform = f.head.share != 0;
    f.n_numbers = k->pooling->n_numbers;
    read_numbers(k, f.numbers);
    cuda_view(&f.o, CU_X, &k->x);
    f.reads = BIT(CU_X) | BIT(CU_Y);
    if (k->pooling->elements == 2) {
        view logit = tensor_view(k, k->r->logit, "logit", k->x.dims, k->dtype);
        cuda_view(&f.o, CU_LOGIT, &logit);
        f.reads |= BIT(CU_LOGIT);
    }
    array_operand(&f);
    return f;
}

/* What is decided by all operands, once they are known. */
static void fold_decide(fold *f)
{
    f->vectors = cuda_aligned(&f->o, f->seen);
    f->lanes = cuda_lanes(f->k, f->vectors, f->crowded, f->k->dtype, &f->o, f->seen);
    f->wide = cuda_wide(&f->head, &f->o, f->seen);
    f->cut = fold_cuts(f);
}

/* Whether an array parameter is given channel by channel. */
static bool by_channel(const call *k) { return k->r->array && k->r->array->ndim; }

static void check_array_gradient(call *k, const DLTensor *t)
{
    char name[64];
    snprintf(name, sizeof name, "grad_%s", k->pooling->array.name);
    real_tensor(k, t, name);
    if (t->ndim > 1 || (t->ndim == 1 && t->shape[0] != (by_channel(k) ? k->out_dims[1] : 1)) || (t->ndim == 0 && by_channel(k)))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must have the shape of %s", name, k->pooling->array.name);
    disjoint(k, t, name);
}

static int64_t first_stride(const DLTensor *t) { return t->ndim == 0 ? 0 : t->strides ? t->strides[0] : 1; }

/* The sum of an empty batch. */
static void no_gradient(call *k, const DLTensor *t)
{
    int item = real_bytes(k->dtype);
    for (int64_t c = 0; c < (by_channel(k) ? k->out_dims[1] : 1); c++)
        cuda_fill(k->c, (uint64_t)(uintptr_t)t->data + t->byte_offset + (uint64_t)(c * first_stride(t) * item), 0, (uint64_t)item / 4);
}

/* The gradient of an array parameter, the sum of what all outputs contribute: a pooling of their memory with a divisor of one. */
static void array_gradient(fold *f, const DLTensor *t)
{
    call *k = f->k;
    const int64_t *d = k->out_dims;
    int64_t plane = product(d + 2, 3), channels = by_channel(k) ? d[1] : 1, rows = by_channel(k) ? d[0] : d[0] * d[1];
    bool across = k->lanes && by_channel(k); /* (N, plane, C) in memory */
    check_array_gradient(k, t);
    if (!product(d, 5)) {
        no_gradient(k, t);
        return;
    }
    cuda_add_up(k, &(cuda_sums){f->o.address[CU_GRAD_PARAM], {channels, rows, plane}, {across ? 1 : plane, channels * plane, across ? channels : 1}, t,
                                first_stride(t)});
}

void cuda_add_up(call *k, const cuda_sums *s)
{
    int64_t x_shape[3], x_strides[3], y_shape[] = {s->sizes[0], 1, 1}, y_strides[] = {s->step, 1, 1};
    memcpy(x_shape, s->sizes, sizeof x_shape);
    memcpy(x_strides, s->strides, sizeof x_strides);
    DLDataType type = {kDLFloat, (uint8_t)(8 * real_bytes(k->dtype)), 1};
    DLTensor x = {(void *)(uintptr_t)s->from, s->to->device, 3, type, x_shape, x_strides, 0};
    DLTensor y = {s->to->data, s->to->device, 3, type, y_shape, y_strides, s->to->byte_offset};
    numbapool_params params;
    numbapool_params_init(&params, sizeof params);
    params.kernel_size[0] = s->sizes[1];
    params.kernel_size[1] = s->sizes[2];
    params.divisor_override = 1;
    in_context(k->c, &(request){.pooling = POOLING_AVG, .where = k->r->where, .x = &x, .y = &y, .params = &params}, k->dry);
}

static void fold_backward(fold *f)
{
    call *k = f->k;
    const request *r = k->r;
    view grad = tensor_view(k, r->grad, "grad", k->out_dims, k->dtype), grad_x = result_view(k, r->grad_x, "grad_x", k->x.dims, k->dtype);
    unsigned work = 0;
    cuda_view(&f->o, CU_Y, &grad);
    cuda_view(&f->o, CU_GRAD_X, &grad_x);
    f->seen = f->reads | BIT(CU_GRAD_X);
    if (k->pooling->elements == 2) {
        view grad_logit = result_view(k, r->grad_logit, "grad_logit", k->x.dims, k->dtype);
        cuda_view(&f->o, CU_GRAD_LOGIT, &grad_logit);
        f->seen |= BIT(CU_GRAD_LOGIT);
    }
    fold_decide(f);
    f->tiled = !f->plain && disjoint_windows(f);
    if (!f->plain && !f->tiled) {
        cuda_in_space(k, &f->o, CU_WORK, formula_infos[f->formula].way[1].terms + 1, real_bytes(k->dtype));
        work |= BIT(CU_WORK);
    }
    if (k->pooling->learns) {
        cuda_in_space(k, &f->o, CU_GRAD_PARAM, 1, real_bytes(k->dtype));
        work |= BIT(CU_GRAD_PARAM);
    }
    fold_run(f, work);
    if (k->pooling->learns && r->grad_array)
        array_gradient(f, r->grad_array);
}

void cuda_fold(call *k)
{
    fold f = fold_of(k);
    if (k->r->backward) {
        fold_backward(&f);
        return;
    }
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    cuda_view(&f.o, CU_Y, &y);
    f.seen = f.reads;
    fold_decide(&f);
    fold_run(&f, 0);
}
