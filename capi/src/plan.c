/* Plans: axes and memory distances become the one integer buffer that a kernel reads (its layout: numbapool/loops/layout.py). */
#include <string.h>

#include "plans.h"

int64_t product(const int64_t *numbers, int n)
{
    int64_t found = 1;
    for (int i = 0; i < n; i++)
        found *= numbers[i];
    return found;
}

/* ---------------------------------------------------------------- units */

/* Where the run of windows from o on ends: at most LANES of one count and one divisor. */
static int64_t run_end(const axis *a, int64_t o)
{
    int64_t end = least(o + LANES, a->outputs), i = o + 1;
    while (i < end && a->count[i] == a->count[o] && a->share[i] == a->share[o])
        i++;
    return i;
}

/* The distance of the windows [lo, hi), 0 where they have none. */
static int64_t distance(const axis *a, int64_t lo, int64_t hi)
{
    if (hi - lo == 1)
        return 1;
    if (a->planes)
        return 0;
    int64_t gap = a->first[lo + 1] - a->first[lo];
    for (int64_t o = lo + 2; o < hi; o++)
        if (a->first[o] - a->first[o - 1] != gap)
            return 0;
    return gap;
}

static int64_t *put_unit(int64_t *unit, const axis *a, int64_t o, int64_t lanes, int64_t step)
{
    unit[AT_U_FIRST] = o;
    unit[AT_U_LANES] = lanes;
    unit[AT_U_STEP] = step;
    unit[AT_U_COUNT] = a->count[o];
    unit[AT_U_SHARE] = a->share[o];
    return unit + AT_UNIT;
}

/* Few long windows: each on its own, with its taps as lanes. */
static bool apart(const axis *a, int64_t lo, int64_t hi)
{
    return 4 * (hi - lo) <= a->count[lo];
}

/* The windows along the last axis in runs of at most LANES with one count, one divisor and, if they can, one distance. */
static table units_across(context *c, const axis *a)
{
    table found = {NULL, 0};
    for (int64_t o = 0, end; o < a->outputs; o = end) {
        end = run_end(a, o);
        found.rows += apart(a, o, end) ? end - o : 1;
    }
    int64_t *unit = found.cells = take_words(c, found.rows * AT_UNIT);
    for (int64_t o = 0, end; o < a->outputs; o = end) {
        end = run_end(a, o);
        if (apart(a, o, end))
            for (int64_t i = o; i < end; i++)
                unit = put_unit(unit, a, i, 1, 1);
        else
            unit = put_unit(unit, a, o, end - o, distance(a, o, end));
    }
    return found;
}

/* Every window along the last axis on its own, with channels as lanes. */
static table units_of_channels(context *c, const axis *a, int64_t width)
{
    table found = {take_words(c, a->outputs * AT_UNIT), a->outputs};
    int64_t *unit = found.cells;
    for (int64_t o = 0; o < a->outputs; o++)
        unit = put_unit(unit, a, o, width, 1);
    return found;
}

/* ---------------------------------------------------------------- the buffer */

/* The distances of memory that holds (N, C, D, H, W) without gaps in channels-first or channels-last order. */
void dense(const int64_t dims[5], bool channels_last, int64_t strides[5])
{
    int64_t each = channels_last ? dims[1] : 1;
    strides[4] = each;
    strides[3] = dims[4] * each;
    strides[2] = dims[3] * strides[3];
    strides[1] = channels_last ? 1 : dims[2] * strides[2];
    strides[0] = channels_last ? dims[2] * strides[2] : dims[1] * strides[1];
}

static void place_windows(buffer *b, const geometry *g)
{
    for (int i = 0; i < 3; i++) {
        const axis *a = &g->axes[i];
        b->head[AT_D_STEP + i] = a->step;
        place(b, AT_D_FIRST + i, a->first, most(a->planes, 1) * a->outputs);
        b->head[AT_D_PLANE + i] = a->planes ? a->outputs : 0;
    }
    for (int i = 0; i < 2; i++) {
        place(b, AT_D_COUNT + i, g->axes[i].count, g->axes[i].outputs);
        place(b, AT_D_SHARE + i, g->axes[i].share, g->axes[i].outputs);
    }
}

/* Begin with the sizes, the windows and the distances of every operand. */
void open_buffer(buffer *b, const geometry *g, int64_t width)
{
    memset(b->head, 0, sizeof b->head);
    b->n_tables = 0;
    b->end = HEAD;
    b->channel_lanes = g->channel_lanes;
    b->width = g->channel_lanes ? least(width, g->dims[1]) : 0;
    int64_t groups = b->width ? up(g->dims[1], b->width) : g->dims[1];
    b->head[AT_N] = g->dims[0];
    b->head[AT_G] = groups;
    b->head[AT_WIDTH] = b->width;
    b->head[AT_CHANNELS] = g->dims[1];
    b->head[AT_CHANNEL_LANES] = g->channel_lanes;
    b->planes = g->dims[0] * groups;
    b->taps = times(g->dims[0], g->dims[1]);
    for (int i = 0; i < 3; i++) {
        b->head[AT_D + i] = g->dims[2 + i];
        b->head[AT_OD + i] = g->axes[i].outputs;
        int64_t taps = 0;
        for (int64_t o = 0; o < g->axes[i].outputs; o++)
            taps += g->axes[i].count[o];
        b->taps = times(b->taps, taps);
    }
    place_windows(b, g);
    for (int k = 0; k < OPERANDS; k++)
        if (g->has[k])
            record(b, k, g->strides[k]);
}

/* Append a table, and write where it begins. */
void place(buffer *b, int field, const int64_t *cells, int64_t size)
{
    b->head[field] = b->end;
    b->tables[b->n_tables] = cells;
    b->sizes[b->n_tables++] = size;
    b->end += size;
}

static void record_six(buffer *b, int operand, int64_t n, int64_t g, int64_t d, int64_t h, int64_t w, int64_t lane)
{
    int64_t *r = b->head + AT_RECORDS + AT_RECORD * operand;
    r[0] = n;
    r[1] = g;
    r[2] = d;
    r[3] = h;
    r[4] = w;
    r[5] = lane;
}

void record(buffer *b, int operand, const int64_t s[5])
{
    if (b->channel_lanes)
        record_six(b, operand, s[0], s[1] * most(b->width, 1), s[2], s[3], s[4], s[1]);
    else
        record_six(b, operand, s[0], s[1], s[2], s[3], s[4], s[4]);
}

plan close_buffer(context *c, buffer *b, int64_t work, int64_t rows, int64_t planes)
{
    const int64_t dims[5] = {b->head[AT_N], b->head[AT_CHANNELS], b->head[AT_D], b->head[AT_H], b->head[AT_W]};
    int64_t two_rows = 2 * b->head[AT_RECORDS + AT_RECORD * AT_X + 3];
    b->head[AT_ASK] = product(dims, 5) < ASK_FROM ? 0 : two_rows > ASK_LEAST && two_rows <= ASK_MOST ? two_rows : ASK_LEAST;
    b->head[AT_WORK_SIZE] = work;
    plan made = {.integers = take_words(c, b->end), .size = b->end, .rows = rows, .planes = planes, .work = work, .taps = b->taps};
    memcpy(made.integers, b->head, sizeof b->head);
    int64_t *to = made.integers + HEAD;
    for (int i = 0; i < b->n_tables; i++) {
        memcpy(to, b->tables[i], (size_t)b->sizes[i] * sizeof *to);
        to += b->sizes[i];
    }
    return made;
}

/* ---------------------------------------------------------------- the general plan */

/* Where a slot holds a window's elements for sorting; returns the scratch bytes with them. */
static int64_t place_sort(buffer *b, const geometry *g, int64_t work)
{
    int64_t taps = 1;
    for (int i = 0; i < 3; i++)
        taps = times(taps, largest(g->axes[i].count, g->axes[i].outputs));
    b->head[AT_SORT_SIZE] = taps;
    return work + times(32, taps);
}

/* The plan of one call.
 *
 * gradient: the order of the gradient's memory; scratch_planes: how many planes a slot holds, of numbers of itemsize bytes, that are summed before
 * they go to the gradient (0: summed there); sort: whether a slot holds a window's elements for sorting. */
plan plan_general(context *c, const geometry *g, int64_t width, int gradient, int scratch_planes, int itemsize, bool sort, const extra *extras,
                  int n_extras)
{
    buffer b;
    open_buffer(&b, g, width);
    const axis *w = &g->axes[2];
    table units = g->channel_lanes ? units_of_channels(c, w, b.width) : units_across(c, w);
    place(&b, AT_UNIT_TABLE, units.cells, units.rows * AT_UNIT);
    b.head[AT_UNITS] = units.rows;
    int64_t work = gradient == NO_GRADIENT ? 0 : place_gradient(&b, g->dims, gradient == CHANNELS_LAST, scratch_planes, itemsize);
    b.head[AT_SORT_AT] = work;
    if (sort)
        work = place_sort(&b, g, work);
    for (int i = 0; i < n_extras; i++) {
        if (extras[i].table)
            place(&b, extras[i].field, extras[i].table, extras[i].size);
        else
            b.head[extras[i].field] = extras[i].number;
    }
    int64_t rows = g->dims[2] && g->dims[3] && g->dims[4] ? b.planes * g->axes[0].outputs * g->axes[1].outputs : 0;
    return close_buffer(c, &b, rounded(work, 64), rows, b.planes);
}

void without_windows(context *c, axis *a, int64_t outputs)
{
    memset(a, 0, sizeof *a);
    a->outputs = outputs;
    a->step = 1;
    a->first = take_zeros(c, outputs);
    a->count = take_words(c, outputs);
    for (int64_t o = 0; o < outputs; o++)
        a->count[o] = 1;
    a->share = a->count;
}

void in_a_row(context *c, geometry *g)
{
    int64_t d = g->axes[0].outputs, h = g->axes[1].outputs, w = g->axes[2].outputs, outputs = times(times(d, h), w);
    if (g->channel_lanes || w >= SHORT_ROW || outputs > SHORT_ROW * SHORT_ROW)
        return;
    for (int slot = 0; slot < OPERANDS; slot++) {
        const int64_t *s = g->strides[slot];
        if (g->has[slot] && slot != AT_X && (s[4] != 1 || (h > 1 && s[3] != w) || (d > 1 && s[2] != h * w)))
            return;
    }
    for (int slot = 0; slot < OPERANDS; slot++)
        if (g->has[slot] && slot != AT_X) {
            g->strides[slot][2] = g->strides[slot][3] = 0;
            g->strides[slot][4] = 1;
        }
    for (int i = 0; i < 3; i++)
        without_windows(c, &g->axes[i], i == 2 ? outputs : 1);
}

/* The fields of a gradient's plane and of the memory that contributions are added to; returns scratch bytes a slot. */
int64_t place_gradient(buffer *b, const int64_t dims[5], bool channels_last, int scratch_planes, int itemsize)
{
    int64_t channels = dims[1], d = dims[2], h = dims[3], w = dims[4], strides[5];
    bool across = channels_last && !b->channel_lanes; /* planes lie interleaved: a run of one element each */
    dense(dims, channels_last, strides);
    record(b, AT_GRAD_X, strides);
    b->head[AT_ROWS] = channels_last ? d * h * w : 1;
    b->head[AT_RUN] = across ? 1 : b->channel_lanes ? b->width : d * h * w;
    b->head[AT_GAP] = channels_last ? channels : 0;
    b->head[AT_SCRATCH_PLANE] = scratch_planes > 0;
    if (!scratch_planes) {
        record(b, AT_TARGET, strides);
        return 0;
    }
    int64_t each = b->channel_lanes ? b->width : 1;
    record_six(b, AT_TARGET, 0, 0, h * w * each, w * each, each, 1);
    return times(times(scratch_planes, d * h * w), times(each, itemsize));
}
