/* WHERE the windows are: one table an axis.  This is the only place with window arithmetic; kernels just read tables. */
#include <inttypes.h>

#include "plans.h"

static void tables(context *c, axis *a, int64_t outputs, int64_t step)
{
    *a = (axis){.outputs = outputs, .step = step};
    a->first = take_words(c, outputs);
    a->share = a->count = take_words(c, outputs);
}

static void grid(axis *a, int64_t origin, int64_t stride, int64_t kernel)
{
    a->regular = true;
    a->origin = origin;
    a->stride = stride;
    a->kernel = kernel;
}

static int64_t *full(context *c, int64_t size, int64_t value)
{
    int64_t *found = take_words(c, size);
    for (int64_t i = 0; i < size; i++)
        found[i] = value;
    return found;
}

void shared(context *c, axis *a, int64_t factor)
{
    a->share = full(c, a->outputs, factor);
}

/* An axis that the input does not have: one window of one element. */
void missing(context *c, axis *a)
{
    tables(c, a, 1, 1);
    a->first[0] = 0;
    a->count[0] = 1;
    grid(a, 0, 1, 1);
}

/* The padding of a mode that makes ceil(size / stride) outputs; NUMBAPOOL_EXPLICIT leaves the caller's. */
void padding_of(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int mode, int64_t *before, int64_t *after)
{
    if (mode == NUMBAPOOL_EXPLICIT)
        return;
    int64_t total = most((up(size, stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0);
    int64_t half = total / 2;
    *before = mode == NUMBAPOOL_SAME ? half : total - half;
    *after = total - *before;
}

static int64_t sliding_outputs(context *c, int64_t size, int64_t span, int64_t stride, int64_t before, int64_t after, bool ceil_mode)
{
    int64_t room = size + before + after - span;
    int64_t outputs = down(room + (ceil_mode ? stride - 1 : 0), stride) + 1;
    if (ceil_mode && (outputs - 1) * stride >= size + before)
        outputs--;
    if (outputs < 1)
        fail(c, NUMBAPOOL_VALUE_ERROR, "a window of %" PRId64 " does not fit into %" PRId64 " elements padded by (%" PRId64 ", %" PRId64 ")",
             span, size, before, after);
    if (outputs > (int64_t)1 << 40)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%" PRId64 " outputs along one axis are too many", outputs);
    return outputs;
}

/* Windows at a regular distance, as torch.nn.MaxPool1d's; all arguments are checked numbers below LIMIT. */
void sliding(context *c, axis *a, int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation, bool ceil_mode,
             share_rule rule)
{
    int64_t outputs = sliding_outputs(c, size, dilation * (kernel - 1) + 1, stride, before, after, ceil_mode);
    tables(c, a, outputs, dilation);
    grid(a, -before, stride, kernel);
    if (rule == PADDED)
        a->share = take_words(c, outputs);
    int64_t worst = 0;
    for (int64_t o = 0; o < outputs; o++) {
        int64_t origin = o * stride - before;
        int64_t skipped = most(up(-origin, dilation), 0);
        int64_t inside = least(up(size - origin, dilation), kernel) - skipped;
        a->first[o] = origin + skipped * dilation;
        a->count[o] = inside;
        if (rule == PADDED)
            a->share[o] = least(up(size + after - origin, dilation), kernel);
        if (inside < a->count[worst])
            worst = o;
    }
    if (a->count[worst] < 1)
        fail(c, NUMBAPOOL_VALUE_ERROR, "window %" PRId64 " has no element inside the %" PRId64 " elements of its axis", worst, size);
    if (rule == ONE)
        shared(c, a, 1);
}

/* `outputs` near-equal spans that cover the axis, as torch.nn.AdaptiveAvgPool1d's: floor(o size / outputs) to ceil((o + 1) size / outputs),
 * with the quotient taken out so that no product overflows. */
void adaptive(context *c, axis *a, int64_t size, int64_t outputs, share_rule rule)
{
    int64_t each = size / outputs, rest = size % outputs;
    tables(c, a, outputs, 1);
    for (int64_t o = 0; o < outputs; o++) {
        a->first[o] = o * each + (rest ? o * rest / outputs : 0);
        a->count[o] = (o + 1) * each + (rest ? up((o + 1) * rest, outputs) : 0) - a->first[o];
    }
    if (rest == 0)
        grid(a, 0, each, each);
    if (rule == ONE)
        shared(c, a, 1);
}

/* TensorFlow's fractional windows: from one boundary to the next, or (overlapping) up to and with the next one. */
void spans(context *c, axis *a, const int64_t *sequence, int64_t outputs, int64_t size, bool overlapping)
{
    tables(c, a, outputs, 1);
    for (int64_t o = 0; o < outputs; o++) {
        int64_t last = overlapping ? least(sequence[o + 1], size - 1) : sequence[o + 1] - 1;
        a->first[o] = sequence[o];
        a->count[o] = last - sequence[o] + 1;
    }
}

/* Windows of `kernel` elements that begin at the given indices; one table, or one a plane. */
void windows_at(context *c, axis *a, int64_t *first, int64_t planes, int64_t outputs, int64_t kernel)
{
    *a = (axis){.outputs = outputs, .planes = planes, .first = first, .step = 1};
    a->share = a->count = full(c, outputs, kernel);
}

/* The places of one plane; each sum and product is rounded as torch's. */
static void places(int64_t *first, int64_t room, int64_t outputs, double u)
{
    double alpha = (double)room / (double)(outputs - 1);
    int64_t begin = (int64_t)(u * alpha);
    for (int64_t o = 0; o < outputs - 1; o++)
        first[o] = (int64_t)(((double)o + u) * alpha) - begin;
}

static void places_single(int64_t *first, int64_t room, int64_t outputs, float u)
{
    float alpha = (float)room / (float)(outputs - 1);
    int64_t begin = (int64_t)(u * alpha);
    for (int64_t o = 0; o < outputs - 1; o++)
        first[o] = (int64_t)(((float)o + u) * alpha) - begin;
}

/* torch's fractional windows of one axis; u: one uniform in [0, 1) a plane.  Without planes, in an empty batch, one table that nothing reads.
 * Source: torch's FractionalMaxPooling.h; Graham, "Fractional max-pooling", arXiv:1412.6071, section 2. */
void fractional(context *c, axis *a, int64_t size, int64_t kernel, int64_t outputs, const double *u, int64_t planes, bool single)
{
    int64_t *first = full(c, most(planes, 1) * outputs, planes ? size - kernel : 0);
    for (int64_t p = 0; p < planes && outputs > 1; p++) {
        if (single)
            places_single(first + p * outputs, size - kernel, outputs, (float)u[p]);
        else
            places(first + p * outputs, size - kernel, outputs, u[p]);
    }
    windows_at(c, a, first, planes, outputs, kernel);
}
