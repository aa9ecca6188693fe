/* From params to windows: forms.py's regular kinds, and the random ones of pools/fractional.py and pools/s3.py with the generator of random.py. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "families.h"

/* ---------------------------------------------------------------- regular windows */

static bool same_on_all_axes(const call *k, const int64_t *numbers, int64_t value)
{
    for (int i = 0; i < k->ndim; i++)
        if (numbers[i] != value)
            return false;
    return true;
}

static void between(call *k, int64_t value, int64_t least, const char *name)
{
    if (value < least)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must %s, got %" PRId64, name, least == 1 ? "be positive" : "not be negative", value);
    if (value >= LIMIT)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must be below 2**31, got %" PRId64, name, value);
}

/* Kernel sizes, with a pooling's default where the caller left all at 0. */
static void kernel_sizes(call *k, int64_t *kernel)
{
    bool untouched = k->pooling->kernel_size && same_on_all_axes(k, k->p.kernel_size, 0);
    for (int i = 0; i < k->ndim; i++) {
        kernel[i] = untouched ? k->pooling->kernel_size : k->p.kernel_size[i];
        between(k, kernel[i], 1, "kernel_size");
    }
}

static int64_t stride_of_axis(call *k, int i, int64_t kernel)
{
    int64_t own = k->pooling->stride ? k->pooling->stride : kernel, stride = k->p.stride[i] ? k->p.stride[i] : own;
    between(k, stride, 1, "stride");
    return stride;
}

static void paddings(call *k, int i, int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int64_t *before, int64_t *after)
{
    if (k->p.padding_mode != NUMBAPOOL_EXPLICIT) {
        padding_of(size, kernel, stride, dilation, k->p.padding_mode, before, after);
    } else {
        *before = k->p.padding[i] == -1 ? k->pooling->padding : k->p.padding[i];
        *after = k->p.padding_after[i] == -1 ? *before : k->p.padding_after[i];
        between(k, *before, 0, "padding");
        between(k, *after, 0, "padding_after");
    }
    int64_t most = dilation * (kernel - 1);
    if (*before > most || *after > most)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "padding must be at most dilation * (kernel_size - 1) = %" PRId64 ", got %" PRId64, most,
             *before > *after ? *before : *after);
}

/* How windows count: the `share` of the pooling's file. */
static share_rule rule_of(const call *k)
{
    if (k->r->pooling == POOLING_AVG && k->p.form == NUMBAPOOL_SLIDING)
        return k->p.divisor_override ? ONE : k->p.count_include_pad ? PADDED : INSIDE;
    if (k->r->pooling == POOLING_SUM)
        return ONE;
    if (k->r->pooling == POOLING_LP && k->p.norm == NUMBAPOOL_SUM)
        return ONE;
    return INSIDE;
}

static void sliding_axis(call *k, int i, int64_t size, int64_t kernel, axis *a)
{
    int64_t stride = stride_of_axis(k, i, kernel), dilation = k->p.dilation[i], before, after;
    between(k, dilation, 1, "dilation");
    paddings(k, i, size, kernel, stride, dilation, &before, &after);
    sliding(k->c, a, size, kernel, stride, before, after, dilation, k->p.ceil_mode, rule_of(k));
}

static void adaptive_axis(call *k, int i, int64_t size, axis *a)
{
    int64_t outputs = k->p.form == NUMBAPOOL_GLOBAL ? 1 : k->p.output_size[i] ? k->p.output_size[i] : size;
    if (size == 0)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "x must not be empty along a spatial axis");
    between(k, outputs, 1, "output_size");
    adaptive(k->c, a, size, outputs, rule_of(k));
}

static void override_divisor(call *k)
{
    int64_t divisor = k->p.divisor_override, most = (int64_t)1 << 62;
    if (k->r->pooling != POOLING_AVG || k->p.form != NUMBAPOOL_SLIDING || !divisor)
        return;
    if (divisor >= most || divisor <= -most)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "divisor_override must be below 2**62, got %" PRId64, divisor);
    for (int i = 0; i < 3; i++)
        shared(k->c, &k->axes[i], i ? 1 : divisor);
}

void regular_windows(call *k)
{
    int64_t kernel[3];
    if (!(k->pooling->forms >> k->p.form & 1))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "form must be one that the pooling has (NUMBAPOOL_SLIDING), got %" PRId32, k->p.form);
    if (k->p.form == NUMBAPOOL_SLIDING)
        kernel_sizes(k, kernel);
    for (int i = 0; i < 3; i++) {
        int own = i - (3 - k->ndim);
        if (own < 0)
            missing(k->c, &k->axes[i]);
        else if (k->p.form == NUMBAPOOL_SLIDING)
            sliding_axis(k, own, k->x.dims[2 + i], kernel[own], &k->axes[i]);
        else
            adaptive_axis(k, own, k->x.dims[2 + i], &k->axes[i]);
    }
    override_divisor(k);
}

/* ---------------------------------------------------------------- windows of composed poolings */

static int64_t filter_size(call *k, int i)
{
    int64_t size = k->p.filter_size[i] ? k->p.filter_size[i] : k->pooling->filter_size;
    between(k, size, 1, "filter_size");
    return size;
}

/* The places of a binomial filter: over x, or (max_blur) over the maxima of its windows of kernel_size. */
void blurred_windows(call *k)
{
    int64_t kernel[3] = {1, 1, 1};
    if (k->pooling->windows == MAX_BLURRED)
        kernel_sizes(k, kernel);
    for (int i = 0; i < 3; i++) {
        int own = i - (3 - k->ndim);
        if (own < 0) {
            missing(k->c, &k->axes[i]);
            continue;
        }
        int64_t size = k->x.dims[2 + i], left = size - kernel[own] + 1;
        if (kernel[own] > 1 && left < 1)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "kernel_size must be at most x's spatial size, %" PRId64 ", got %" PRId64, size, kernel[own]);
        if (left < 1)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "x must not be empty along a spatial axis");
        int64_t filter = filter_size(k, own);
        sliding(k->c, &k->axes[i], left, filter, stride_of_axis(k, own, filter), (filter - 1) / 2, filter / 2, 1, false, INSIDE);
    }
}

/* Windows of 2 elements an axis, side by side. */
void halved_windows(call *k)
{
    for (int i = 0; i < 3; i++) {
        int64_t size = k->x.dims[2 + i];
        if (i < 3 - k->ndim)
            missing(k->c, &k->axes[i]);
        else if (size < 2)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "x must have 2 elements along every spatial axis, got %" PRId64, size);
        else
            sliding(k->c, &k->axes[i], size, 2, 2, 0, 0, 1, false, INSIDE);
    }
}

/* ---------------------------------------------------------------- the generator */

/* Philox4x32-10, as random.py's: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.3. */
static void philox(uint64_t seed, uint64_t block, uint64_t plane, uint32_t words[4])
{
    uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)plane, (uint32_t)(plane >> 32)};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int turn = 0; turn < 10; turn++) {
        uint64_t p0 = (uint64_t)c[0] * 0xD2511F53U, p1 = (uint64_t)c[2] * 0xCD9E8D57U;
        uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c[3] ^ k1, (uint32_t)p0};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    memcpy(words, c, sizeof c);
}

void uniforms(uint64_t seed, int64_t planes, int64_t size, uint64_t stream, double *numbers)
{
    for (int64_t plane = 0; plane < planes; plane++)
        for (int64_t i = 0; i < size; i += 4) {
            uint32_t words[4];
            philox(seed, (uint64_t)i / 4, (uint64_t)plane + (stream << 48), words);
            for (int64_t j = i; j < i + 4 && j < size; j++)
                numbers[plane * size + j] = (double)(words[j - i] >> 8) * 0x1p-24;
        }
}

static uint64_t seed_key(const call *k) { return (uint64_t)k->p.seed & 0x7FFFFFFFFFFFFFFF; }

static bool before(const ranked *p, const ranked *q) { return p->value < q->value || (p->value == q->value && p->place < q->place); }

static void sink(ranked *heap, int64_t top, int64_t n)
{
    ranked moved = heap[top];
    for (int64_t child; (child = 2 * top + 1) < n; top = child) {
        child += child + 1 < n && before(&heap[child], &heap[child + 1]);
        if (!before(&moved, &heap[child]))
            break;
        heap[top] = heap[child];
    }
    heap[top] = moved;
}

/* Heapsort: the C library's qsort may call malloc. */
void sort_ranked(ranked *items, int64_t n)
{
    for (int64_t i = n / 2; i-- > 0;)
        sink(items, i, n);
    for (int64_t end = n; end-- > 1;) {
        ranked last = items[0];
        items[0] = items[end];
        items[end] = last;
        sink(items, 0, end);
    }
}

/* Numbers in ascending order with their places, the first of equal ones before the others. */
static ranked *in_order(call *k, const double *numbers, int64_t size)
{
    ranked *sorted = take(k->c, (size_t)size * sizeof *sorted);
    for (int64_t i = 0; i < size; i++)
        sorted[i] = (ranked){numbers[i], i};
    sort_ranked(sorted, size);
    return sorted;
}

/* ---------------------------------------------------------------- fractional windows */

/* TensorFlow's sequence of one axis, into `sequence`, if there is one; returns how many outputs. */
static int64_t boundaries(call *k, int64_t size, double ratio, int i, int64_t *sequence)
{
    int64_t outputs = ratio <= (double)size ? (int64_t)floorf((float)size / (float)ratio) : 0;
    if (outputs < 1)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "a pooling_ratio of %g leaves no output of %" PRId64 " elements", ratio, size);
    if (!sequence)
        return outputs;
    double alpha = (double)size / (double)outputs;
    int64_t whole = (int64_t)alpha;
    if (k->p.pseudo_random) {
        double first = ((double)whole + 2) / alpha - 1, second = ((double)(size + 1) - (double)whole) / alpha - (double)(outputs - 1), u;
        uniforms(seed_key(k), 1, 1, (uint64_t)i + 1, &u);
        u *= first < second ? first : second;
        for (int64_t o = 0; o <= outputs; o++)
            sequence[o] = (int64_t)ceil(alpha * ((double)o + u)) - 1;
        sequence[0] = 0;
        sequence[outputs] = size;
        return outputs;
    }
    double *u = take(k->c, (size_t)outputs * sizeof *u);
    uniforms(seed_key(k), 1, outputs, (uint64_t)i + 1, u);
    ranked *sorted = in_order(k, u, outputs);
    for (int64_t o = 0; o < outputs; o++)
        sequence[1 + o] = whole;
    for (int64_t o = 0; o < size % outputs; o++)
        sequence[1 + sorted[o].place]++;
    sequence[0] = 0;
    for (int64_t o = 0; o < outputs; o++)
        sequence[1 + o] += sequence[o];
    return outputs;
}

static double ratio_of(call *k, int i)
{
    double ratio = k->p.pooling_ratio[i];
    if (!(ratio >= 1) || !isfinite(ratio))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "pooling_ratio must be at least 1, got %g", ratio);
    return ratio;
}

static void check_sequence(call *k, const int64_t *sequence, int64_t n, int64_t size)
{
    bool fits = n >= 2 && sequence[0] == 0 && sequence[n - 1] == size;
    for (int64_t i = 1; fits && i < n; i++)
        fits = sequence[i] > sequence[i - 1];
    if (!fits)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "sequences must ascend from 0 to the input's size %" PRId64, size);
}

static bool given(const call *k)
{
    for (int i = 0; i < k->ndim; i++)
        if (k->p.sequences[i])
            return true;
    return false;
}

static const int64_t *given_sequence(call *k, int i, int64_t *n)
{
    if (!k->p.sequences[i])
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "sequences must be given for every axis or for none");
    *n = k->p.sequence_sizes[i];
    if (*n < 1)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "sequence_sizes must be positive, got %" PRId64, *n);
    return k->p.sequences[i];
}

static void span_windows(call *k)
{
    for (int i = 0; i < 3; i++) {
        int own = i - (3 - k->ndim);
        int64_t size = k->x.dims[2 + i], n, *drawn;
        const int64_t *sequence;
        if (own < 0) {
            missing(k->c, &k->axes[i]);
            continue;
        }
        if (given(k)) {
            sequence = given_sequence(k, own, &n);
            check_sequence(k, sequence, n, size);
        } else {
            double ratio = ratio_of(k, own);
            n = boundaries(k, size, ratio, own, NULL) + 1;
            sequence = drawn = take_words(k->c, n);
            boundaries(k, size, ratio, own, drawn);
        }
        spans(k->c, &k->axes[i], sequence, n - 1, size, k->p.overlapping);
    }
}

/* torch's uniforms: from samples (N, C, d) or (C, d), or from the seed; rounded to float but for float64. */
static double *fixed_uniforms(call *k)
{
    int64_t planes = k->x.dims[0] * k->x.dims[1], d = k->ndim;
    double *u = take(k->c, (size_t)(planes * d) * sizeof *u);
    const DLTensor *t = k->r->samples;
    if (!t) {
        uniforms(seed_key(k), planes, d, 0, u);
        return u;
    }
    parameter_tensor(k, t, "samples");
    bool batched = t->ndim == 3, alone = t->ndim == 2 && !k->batched;
    if (!(batched || alone) || t->shape[t->ndim - 1] != d || t->shape[t->ndim - 2] != k->x.dims[1] || (batched && t->shape[0] != k->x.dims[0]))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "samples must have shape (N, C, %d)%s", (int)d, k->batched ? "" : " or (C, d)");
    for (int64_t i = 0; i < planes; i++)
        for (int64_t j = 0; j < d; j++) {
            int64_t index[3] = {i / k->x.dims[1], i % k->x.dims[1], j};
            double value = parameter_value(t, batched ? index : index + 1);
            value = k->dtype == FLOAT64 ? value : (double)(float)value;
            if (!(value >= 0 && value < 1))
                fail(k->c, NUMBAPOOL_VALUE_ERROR, "samples must lie in [0, 1)");
            u[i * d + j] = value;
        }
    return u;
}

static int64_t fixed_outputs(call *k, int i, int64_t size)
{
    double ratio = k->p.output_ratio[i];
    int64_t outputs = k->p.output_size[i];
    if ((outputs != 0) == (ratio != 0))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "give either output_size or output_ratio with kernel_size");
    if (outputs == 0) {
        if (!(ratio > 0 && ratio < 1))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "output_ratio must lie between 0 and 1, got %g", ratio);
        outputs = (int64_t)((double)size * ratio);
        if (outputs == 0)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "an output_ratio of %g leaves no output of %" PRId64 " elements", ratio, size);
    }
    between(k, outputs, 1, "output_size");
    return outputs;
}

static void fixed_windows(call *k)
{
    int64_t kernel[3], planes = k->x.dims[0] * k->x.dims[1], d = k->ndim;
    kernel_sizes(k, kernel);
    double *u = fixed_uniforms(k), *column = take(k->c, (size_t)planes * sizeof *column);
    for (int i = 0; i < 3; i++) {
        int own = i - (3 - k->ndim);
        if (own < 0) {
            missing(k->c, &k->axes[i]);
            continue;
        }
        int64_t size = k->x.dims[2 + i], outputs = fixed_outputs(k, own, size);
        if (outputs + kernel[own] - 1 > size)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "output_size + kernel_size - 1 must be at most the input's size %" PRId64 ", got %" PRId64
                 " + %" PRId64 " - 1", size, outputs, kernel[own]);
        for (int64_t p = 0; p < planes; p++)
            column[p] = u[p * d + (d == 2 ? 1 - own : own)]; /* torch's 2d samples hold the width first */
        fractional(k->c, &k->axes[i], size, kernel[own], outputs, column, planes, k->dtype != FLOAT64);
    }
}

void fractional_windows(call *k)
{
    bool ratio = !same_on_all_axes(k, k->p.sequence_sizes, 0) || given(k) || k->p.overlapping || k->p.pseudo_random;
    for (int i = 0; i < k->ndim; i++)
        ratio |= k->p.pooling_ratio[i] != 0;
    bool fixed = k->pooling->windows == FIXED_OR_FRACTIONAL && !same_on_all_axes(k, k->p.kernel_size, 0);
    if (fixed && ratio)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "kernel_size goes with output_size or output_ratio, not with pooling_ratio, overlapping, pseudo_random or sequences");
    if (!fixed && k->r->samples)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "samples go with kernel_size");
    if (fixed)
        fixed_windows(k);
    else
        span_windows(k);
}

/* ---------------------------------------------------------------- S3's windows */

/* The drawn first positions of one axis' windows, ascending, into `chosen`, which has room for size / kernel of them. */
static void positions(call *k, int64_t size, int64_t kernel, int64_t grid, int i, int64_t *chosen)
{
    int64_t room = size - kernel + 1, wanted = size / kernel, found = 0;
    double *u = take(k->c, (size_t)room * sizeof *u);
    uniforms(seed_key(k), 1, room, (uint64_t)i + 1, u);
    for (int64_t lo = 0; lo < room; lo += grid) {
        int64_t strip = room - lo < grid ? room - lo : grid, n = grid / kernel;
        n = n < wanted - found ? n : wanted - found;
        n = n < strip ? n : strip;
        ranked *sorted = in_order(k, u + lo, strip);
        bool *kept = take(k->c, (size_t)strip);
        for (int64_t j = 0; j < strip; j++)
            kept[j] = false;
        for (int64_t j = 0; j < n; j++)
            kept[sorted[j].place] = true;
        for (int64_t j = 0; j < strip; j++)
            if (kept[j])
                chosen[found++] = lo + j;
    }
}

static int64_t s3_kernel(call *k, int i, int64_t size, int64_t *grid)
{
    int64_t kernel = k->p.kernel_size[i];
    between(k, kernel, 1, "kernel_size");
    *grid = k->p.grid_size[i] ? k->p.grid_size[i] : kernel;
    between(k, *grid, 1, "grid_size");
    if (kernel > size)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "kernel_size must be at most the input's size %" PRId64 ", got %" PRId64, size, kernel);
    if (*grid % kernel)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "grid_size must be a multiple of kernel_size %" PRId64 ", got %" PRId64, kernel, *grid);
    return kernel;
}

static int64_t *s3_first(call *k, int i, int64_t size, int64_t kernel, int64_t grid, int64_t *n)
{
    if (given(k) && k->p.training) {
        const int64_t *sequence = given_sequence(k, i, n);
        for (int64_t j = 0; j < *n; j++)
            if (sequence[j] < 0 || sequence[j] > size - kernel)
                fail(k->c, NUMBAPOOL_VALUE_ERROR, "sequences must be vectors of positions from 0 to %" PRId64, size - kernel);
        return memcpy(take_words(k->c, *n), sequence, (size_t)*n * sizeof *sequence);
    }
    *n = size / kernel;
    int64_t *first = take_words(k->c, *n);
    if (k->p.training)
        positions(k, size, kernel, grid, i, first);
    for (int64_t j = 0; j < *n && !k->p.training; j++)
        first[j] = j * kernel; /* inference has as many outputs; its windows are those of run_s3_inference */
    return first;
}

void sampled_windows(call *k)
{
    for (int i = 0; i < 3; i++) {
        int own = i - (3 - k->ndim);
        int64_t grid, n;
        if (own < 0) {
            missing(k->c, &k->axes[i]);
            continue;
        }
        int64_t size = k->x.dims[2 + i], kernel = s3_kernel(k, own, size, &grid);
        int64_t *first = s3_first(k, own, size, kernel, grid, &n);
        windows_at(k->c, &k->axes[i], first, 0, n, kernel);
    }
}

/* ---------------------------------------------------------------- unpooling's size */

void unpooled_size(call *k, int64_t size[3])
{
    int64_t elements = k->x.dims[0] * k->x.dims[1];
    for (int i = 0; i < 3; i++) {
        int own = i - (3 - k->ndim);
        size[i] = 1;
        if (own < 0)
            continue;
        int64_t kernel = k->p.kernel_size[own], stride = k->p.stride[own] ? k->p.stride[own] : kernel;
        int64_t padding = k->p.padding[own] == -1 ? 0 : k->p.padding[own];
        between(k, kernel, 1, "kernel_size");
        between(k, stride, 1, "stride");
        between(k, padding, 0, "padding");
        if (k->x.dims[2 + i] > LIMIT)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "x must have sizes up to 2^31 to be unpooled");
        int64_t usual = (k->x.dims[2 + i] - 1) * stride - 2 * padding + kernel, asked = k->p.output_size[own];
        if (!asked && usual < 1)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "kernel_size, stride and padding make no output, but %" PRId64, usual);
        if (asked && (asked < 1 || asked <= usual - stride || asked >= usual + stride))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "output_size must lie less than stride %" PRId64 " from %" PRId64 ", got %" PRId64, stride, usual, asked);
        size[i] = asked ? asked : usual;
        if (elements && size[i] > ((int64_t)1 << 48) / elements)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "kernel_size, stride and padding make an output that is too large");
        elements *= size[i];
    }
}

/* ---------------------------------------------------------------- what is drawn, for the caller */

typedef struct {
    const DLTensor *x;
    const numbapool_params *params;
    int64_t *const *out;
    int pooling;
    const char *name;
} drawing;

static void copy_drawn(context *c, const drawing *d)
{
    call k;
    request r = {.pooling = d->pooling, .where = c->where, .x = d->x, .params = d->params};
    prepare(&k, c, &r, true);
    if (!d->out)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%s must not be NULL", d->name);
    for (int i = 0; i < k.ndim; i++) {
        int64_t size = k.x.dims[5 - k.ndim + i], grid;
        if (!d->out[i])
            fail(c, NUMBAPOOL_VALUE_ERROR, "%s must not hold NULL", d->name);
        if (d->pooling == POOLING_S3) {
            int64_t kernel = s3_kernel(&k, i, size, &grid);
            positions(&k, size, kernel, grid, i, d->out[i]);
        } else {
            boundaries(&k, size, ratio_of(&k, i), i, d->out[i]);
        }
    }
}

static void guarded(context *c, const drawing *d)
{
    if (setjmp(c->out) == 0)
        copy_drawn(c, d);
}

static int draw(const char *where, const drawing *d)
{
    context c;
    begin(&c, where, NULL, 0, false);
    on_device(&c, d->x, "x");
    guarded(&c, d);
    end(&c);
    return c.status;
}

int numbapool_fractional_sequences(const DLTensor *x, const numbapool_params *params, int64_t *const *sequences)
{
    return draw("numbapool_fractional_sequences", &(drawing){x, params, sequences, POOLING_FRACTIONAL_MAX, "sequences"});
}

int numbapool_s3_positions(const DLTensor *x, const numbapool_params *params, int64_t *const *positions_out)
{
    return draw("numbapool_s3_positions", &(drawing){x, params, positions_out, POOLING_S3, "positions"});
}
