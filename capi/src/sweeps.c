/* Plans of sweeps (numbapool/loops/cpu/sweep.py): which calls can take one, its chunks of columns, its rings of rows, its inverse tables. */
#include <string.h>

#include "plans.h"

bool differs(const geometry *g)
{
    return g->axes[0].planes || g->axes[1].planes || g->axes[2].planes;
}

static bool empty(const geometry *g)
{
    return !g->dims[0] || !g->dims[1] || !g->dims[2] || !g->dims[3] || !g->dims[4];
}

/* Whether a parameter varies within a plane of the output. */
static bool spread_parameter(const geometry *g)
{
    for (int k = AT_PARAM; k <= AT_PARAM2; k++)
        if (g->has[k] && (g->strides[k][2] || g->strides[k][3] || g->strides[k][4]))
            return true;
    return false;
}

/* ---------------------------------------------------------------- calls seen as others */

static int64_t *copied(context *c, int64_t value)
{
    int64_t *cell = take_words(c, 1);
    *cell = value;
    return cell;
}

static axis one_window(context *c, int64_t n, int64_t share)
{
    return (axis){.outputs = 1, .first = copied(c, 0), .count = copied(c, n), .share = copied(c, share), .step = 1, .regular = true, .stride = n,
                  .kernel = n};
}

/* Whether there is one window, over whole planes. */
static bool whole(const geometry *g)
{
    for (int i = 0; i < 3; i++)
        if (g->axes[i].outputs != 1 || g->axes[i].count[0] != g->dims[2 + i] || g->axes[i].step != 1)
            return false;
    return true;
}

/* The distance of neighbours in a plane. */
static int64_t step_of(const geometry *g, const int64_t s[5])
{
    return g->dims[4] > 1 ? s[4] : g->dims[3] > 1 ? s[3] : s[2];
}

static bool gapless(const geometry *g, const bool full[OPERANDS])
{
    int64_t d = g->dims[2], h = g->dims[3], w = g->dims[4], step = g->channel_lanes ? g->dims[1] : 1;
    for (int k = 0; k < OPERANDS; k++) {
        const int64_t *s = g->strides[k];
        if (full[k] && g->has[k] && (step_of(g, s) != step || (h != 1 && s[3] != w * step) || (d != 1 && s[2] != h * w * step)))
            return false;
    }
    return true;
}

/* One window over whole planes without gaps, seen as one of fewer and longer rows; any other call stays as it is.
 * full: the operands that have the input's size; cells: positions of a row at most; 1: every position is a row. */
void merged(context *c, geometry *g, const bool full[OPERANDS], int64_t cells)
{
    int64_t rows = g->dims[2] * g->dims[3], w = g->dims[4];
    if ((rows == 1 && (cells > 1 || w == 1)) || !whole(g) || !gapless(g, full))
        return;
    int64_t joined = most(least(rows, cells / w), 1);
    while (rows % joined)
        joined--;
    int64_t row = cells == 1 ? 1 : w * joined;
    for (int k = 0; k < OPERANDS; k++) {
        if (!full[k] || !g->has[k])
            continue;
        int64_t *s = g->strides[k], step = step_of(g, s);
        s[2] = 0;
        s[3] = step * row;
        s[4] = step;
    }
    int64_t share = g->axes[0].share[0] * g->axes[1].share[0] * g->axes[2].share[0];
    g->dims[2] = 1;
    g->dims[3] = rows * w / row;
    g->dims[4] = row;
    for (int i = 0; i < 3; i++)
        g->axes[i] = one_window(c, g->dims[2 + i], i == 2 ? share : 1);
}

/* How many windows of one long row make a row that three.py takes: a divisor of all, 0 where there is none. */
static int64_t windows_a_row(int64_t outputs, int64_t stride)
{
    int64_t each = SWEEP_THREE / stride;
    while (each >= VECTOR && outputs % each)
        each--;
    return each >= VECTOR ? each : 0;
}

static axis rows_of_one(context *c, int64_t rows, int64_t share)
{
    axis h = {.outputs = rows, .first = take_words(c, rows), .count = take_words(c, rows), .share = take_words(c, rows), .step = 1, .regular = true,
              .stride = 1, .kernel = 1};
    for (int64_t i = 0; i < rows; i++) {
        h.first[i] = i;
        h.count[i] = 1;
        h.share[i] = share;
    }
    return h;
}

/* One long row, whose windows lie side by side and all alike, seen as many rows that three.py takes; any other call stays as it is.
 * Only for formulas whose windows are all in reach: tasks are other rows than those of the general loops. */
void cut(context *c, geometry *g)
{
    axis *w = &g->axes[2];
    int64_t n = g->dims[4];
    if (g->dims[2] * g->dims[3] > 1 || n <= SWEEP_THREE || !w->regular || g->axes[0].outputs > 1 || g->axes[1].outputs > 1)
        return;
    if (w->origin || (w->kernel - 1) * w->step >= w->stride || w->outputs * w->stride != n)
        return;
    bool like = smallest(w->count, w->outputs) == w->kernel && smallest(w->share, w->outputs) == largest(w->share, w->outputs);
    int64_t each = like ? windows_a_row(w->outputs, w->stride) : 0;
    if (!each)
        return;
    int64_t rows = w->outputs / each;
    g->axes[1] = rows_of_one(c, rows, g->axes[1].share[0]);
    w->outputs = each;
    g->dims[2] = 1;
    g->dims[3] = rows;
    g->dims[4] = each * w->stride;
    for (int k = 0; k < OPERANDS; k++)
        if (g->has[k])
            g->strides[k][3] = (k == AT_Y ? each : each * w->stride) * g->strides[k][4];
}

/* How many channels as lanes to take at once of windows that are whole planes: LANES or more, which divide all; 0 for any others.
 * So many that tasks are enough for threads: SWEEP_TASKS, where these are not fewer than LANES each. */
int64_t many_channels(const geometry *g)
{
    static const bool full[OPERANDS] = {[AT_X] = true};
    int64_t channels = g->dims[1];
    if (!g->channel_lanes || channels <= LANES || empty(g) || differs(g) || !whole(g) || !gapless(g, full))
        return 0;
    int64_t found = 0;
    for (int64_t parts = 1; parts <= channels / LANES; parts++) {
        if (channels % parts || channels / parts > CELLS)
            continue;
        found = channels / parts;
        if (times(g->dims[0], parts) >= SWEEP_TASKS)
            break;
    }
    return found;
}

/* Windows that are whole planes of many channels as lanes, seen as rows of channels, one below the other, that join; any others stay as they are.
 * gradient: whether there is one of x.  Only for formulas whose windows are all in reach, as `cut`. */
void as_channels(context *c, geometry *g, bool gradient)
{
    int64_t each = many_channels(g), channels = g->dims[1], rows = product(g->dims + 2, 3);
    if (!each)
        return;
    if (gradient) {
        g->has[AT_GRAD_X] = true;
        dense(g->dims, true, g->strides[AT_GRAD_X]);
    }
    for (int k = 0; k < OPERANDS; k++) {
        int64_t *s = g->strides[k], moved[5] = {s[0], each * s[1], 0, k == AT_X || k == AT_GRAD_X ? channels : 0, s[1]};
        if (g->has[k])
            memcpy(s, moved, sizeof moved);
    }
    int64_t share = g->axes[0].share[0] * g->axes[1].share[0] * g->axes[2].share[0];
    g->axes[0] = rows_of_one(c, 1, 1);
    g->axes[1] = one_window(c, rows, share);
    g->axes[2] = rows_of_one(c, each, 1);
    g->dims[1] = channels / each;
    g->dims[2] = 1;
    g->dims[3] = rows;
    g->dims[4] = each;
    g->channel_lanes = false;
}

/* ---------------------------------------------------------------- chunks and slices */

/* The windows of an axis: the first index of each, and one past its last element, over all planes. */
typedef struct {
    const axis *a;
    const int64_t *low, *high; /* tables of first indices */
} extent;

static extent extent_of(context *c, const axis *a)
{
    extent e = {a, a->first, a->first};
    if (a->planes < 2)
        return e;
    int64_t *low = take_words(c, a->outputs), *high = take_words(c, a->outputs);
    memcpy(low, a->first, (size_t)a->outputs * sizeof *low);
    memcpy(high, a->first, (size_t)a->outputs * sizeof *high);
    for (int64_t p = 1; p < a->planes; p++) {
        const int64_t *first = a->first + p * a->outputs;
        for (int64_t o = 0; o < a->outputs; o++) {
            low[o] = least(low[o], first[o]);
            high[o] = most(high[o], first[o]);
        }
    }
    return (extent){a, low, high};
}

/* The record of windows [lo, hi); from, to: the positions whose gradient they make, with `inputs`, else 0. */
static void chunk(int64_t *record, const extent *e, int64_t size, int64_t lo, int64_t hi, bool inputs, int64_t from, int64_t to)
{
    const axis *a = e->a;
    int64_t start = from, stop = to;
    if (a->regular) {
        start = a->origin + lo * a->stride;
        stop = a->origin + (hi - 1) * a->stride + (a->kernel - 1) * a->step + 1;
    } else if (hi > lo) {
        start = e->low[lo];
        stop = reach(a, e->high, lo);
        for (int64_t o = lo + 1; o < hi; o++) {
            start = least(start, e->low[o]);
            stop = most(stop, reach(a, e->high, o));
        }
        start = inputs ? least(start, from) : start;
    }
    stop = most(stop, to);
    record[AT_C_OUT] = lo;
    record[AT_C_LANES] = hi - lo;
    record[AT_C_START] = start;
    record[AT_C_LENGTH] = stop - start;
    record[AT_C_LO] = most(start, 0);
    record[AT_C_HI] = least(stop, size);
    record[AT_C_FROM] = from;
    record[AT_C_TO] = to;
}

/* Whether the windows in so many chunks of like size fit; where `cells` is given, they are written there. */
static bool chunks_fit(const extent *e, int64_t size, int64_t positions, int64_t parts, int64_t *cells)
{
    int64_t outputs = e->a->outputs, tried[AT_CHUNK];
    for (int64_t i = 0; i < parts; i++) {
        int64_t *record = cells ? cells + i * AT_CHUNK : tried;
        chunk(record, e, size, outputs * i / parts, outputs * (i + 1) / parts, false, 0, 0);
        if (most(record[AT_C_LENGTH], record[AT_C_LANES]) > positions)
            return false;
    }
    return true;
}

/* The windows in as few chunks of at most so many positions as can be, of like size; false where one window has more. */
bool chunks(context *c, const axis *a, int64_t size, int64_t positions, table *found)
{
    extent e = extent_of(c, a);
    for (int64_t parts = 1; parts <= a->outputs; parts = most(parts + 1, least(2 * parts, a->outputs))) {
        if (chunks_fit(&e, size, positions, parts, NULL)) {
            *found = (table){take_words(c, parts * AT_CHUNK), parts};
            return chunks_fit(&e, size, positions, parts, found->cells);
        }
    }
    return false;
}

/* Every window in a chunk of its own. */
table chunks_of_one(context *c, const axis *a, int64_t size)
{
    extent e = extent_of(c, a);
    table found = {take_words(c, a->outputs * AT_CHUNK), a->outputs};
    for (int64_t o = 0; o < a->outputs; o++)
        chunk(found.cells + o * AT_CHUNK, &e, size, o, o + 1, false, 0, 0);
    return found;
}

/* The inputs [lo, hi) with the windows that cover them. */
static void slice(int64_t *record, const axis *a, int64_t size, const int64_t *cover, int64_t lo, int64_t hi)
{
    int64_t first = 0, last = 0;
    if (cover[hi] > cover[lo]) {
        first = smallest(cover + cover[lo], cover[hi] - cover[lo]);
        last = largest(cover + cover[lo], cover[hi] - cover[lo]) + 1;
        if (a->regular && a->origin + first * a->stride > lo)
            first--;
    } else if (a->regular) {
        first = most(0, least(down(lo - a->origin, a->stride), a->outputs - 1));
        last = first + 1;
    }
    extent e = {a, a->first, a->first};
    chunk(record, &e, size, first, last, true, lo, hi);
}

static bool slices_fit(const axis *a, int64_t size, int64_t positions, const int64_t *cover, int64_t parts, int64_t *cells)
{
    int64_t tried[AT_CHUNK];
    for (int64_t i = 0; i < parts; i++) {
        int64_t lo = size * i / parts, hi = size * (i + 1) / parts;
        if (lo == hi)
            continue;
        int64_t *record = cells ? cells : tried;
        slice(record, a, size, cover, lo, hi);
        if (most(most(record[AT_C_LENGTH], record[AT_C_LANES]), record[AT_C_HI] - record[AT_C_LO]) > positions)
            return false;
        cells = cells ? cells + AT_CHUNK : NULL;
    }
    return true;
}

/* The inputs in parts, each with the windows that cover it; false where that takes more positions. */
static bool slices(context *c, const axis *a, int64_t size, int64_t positions, const int64_t *cover, table *found)
{
    for (int64_t parts = 1; parts / 2 <= size; parts *= 2) {
        if (slices_fit(a, size, positions, cover, parts, NULL)) {
            *found = (table){take_words(c, least(parts, size) * AT_CHUNK), least(parts, size)};
            return slices_fit(a, size, positions, cover, parts, found->cells);
        }
    }
    return false;
}

/* ---------------------------------------------------------------- inverse tables */

/* The inverse table: size + 1 places where the lists begin, then for each input the outputs that cover it, ascending.
 * Lists are filled from their ends, so that the places of their ends become those of their beginnings. */
table covering(context *c, const axis *a, int64_t size)
{
    int64_t taps = 0;
    for (int64_t o = 0; o < a->outputs; o++)
        taps += a->count[o];
    table found = {take_words(c, size + 1 + taps), size + 1 + taps};
    int64_t *cover = found.cells;
    memset(cover, 0, (size_t)(size + 1) * sizeof *cover);
    for (int64_t o = 0; o < a->outputs; o++)
        for (int64_t i = 0; i < a->count[o]; i++)
            cover[a->first[o] + i * a->step]++;
    cover[0] += size + 1;
    for (int64_t i = 1; i <= size; i++)
        cover[i] += cover[i - 1];
    for (int64_t o = a->outputs - 1; o >= 0; o--)
        for (int64_t i = 0; i < a->count[o]; i++)
            cover[--cover[a->first[o] + i * a->step]] = o;
    return found;
}

/* Whether an input's list is that of the one before. */
static int64_t *repeats(context *c, const int64_t *cover, int64_t size)
{
    int64_t *same = take_words(c, size);
    same[0] = 0;
    for (int64_t i = 1; i < size; i++) {
        int64_t n = cover[i + 1] - cover[i];
        same[i] = n == cover[i] - cover[i - 1] && memcmp(cover + cover[i - 1], cover + cover[i], (size_t)n * sizeof *cover) == 0;
    }
    return same;
}

/* The first of the outputs that cover an input, and how many they are; where none does, the first of its slice. */
static void runs_over(context *c, const int64_t *cover, const table *parts, int64_t size, int64_t **first, int64_t **count)
{
    *first = take_words(c, size);
    *count = take_words(c, size);
    for (int64_t p = 0; p < parts->rows; p++) {
        const int64_t *part = parts->cells + p * AT_CHUNK;
        for (int64_t i = part[AT_C_FROM]; i < part[AT_C_TO]; i++) {
            (*count)[i] = cover[i + 1] - cover[i];
            (*first)[i] = (*count)[i] ? cover[cover[i]] : part[AT_C_OUT];
        }
    }
}

/* ---------------------------------------------------------------- rings */

/* The smallest one that is at least n. */
int64_t power_of_two(int64_t n)
{
    int64_t power = 1;
    while (power < n)
        power *= 2;
    return power;
}

/* Whether a window begins before the one in front of it ends. */
static bool overlap(const axis *a)
{
    const int64_t *first = a->first;
    for (int64_t p = 0; p < most(a->planes, 1); p++, first += a->outputs)
        for (int64_t o = 1; o < a->outputs; o++)
            if (first[o] < reach(a, first, o - 1))
                return true;
    return false;
}

/* How many planes and rows of lifted elements are kept, of `row` bytes each: those of a window where the next needs some of them, too, and
 * `together` ones; where planes are needed again, and that fits, all `lines` of theirs. */
static void ring(const axis axes[3], int64_t row, bool backward, int64_t together, int64_t lines, int64_t sizes[2])
{
    int64_t few[2];
    bool again[2];
    for (int i = 0; i < 2; i++) {
        const axis *a = &axes[i];
        int64_t span = power_of_two((largest(a->count, a->outputs) - 1) * a->step + 1 + (i ? together : 0));
        few[i] = least(span, power_of_two(2 * a->step + 1)); /* three rows of a window side by side */
        again[i] = backward || overlap(a);
        sizes[i] = again[i] ? span : few[i];
    }
    int64_t whole = most(sizes[1], power_of_two(lines));
    if (lines && again[0] && times(times(sizes[0], whole), row) <= SWEEP_RING)
        sizes[1] = whole;
    else if (times(times(sizes[0], sizes[1]), row) > SWEEP_RING)
        memcpy(sizes, few, sizeof few);
}

/* The most outputs from the first to the last that cover so many inputs side by side, those that the same ones cover counting once: as a power
 * of two. */
static int64_t held_rows(context *c, const int64_t *cover, int64_t size, int64_t together)
{
    int64_t longest = 1, *same = repeats(c, cover, size);
    for (int64_t i = 0; i < size; i++) {
        int64_t end = i, groups = 0;
        for (; !same[i] && end < size && (same[end] || groups < together); end++)
            groups += !same[end];
        if (cover[end] > cover[i])
            longest = most(longest, cover[cover[end] - 1] - cover[cover[i]] + 1);
    }
    return power_of_two(longest);
}

/* The most outputs that cover one input. */
static int64_t most_over(const int64_t *cover, int64_t size)
{
    int64_t found = 0;
    for (int64_t i = 0; i < size; i++)
        found = most(found, cover[i + 1] - cover[i]);
    return found;
}

/* How many planes and rows of terms are kept, of `row` bytes each: those over one input, or so many; in 3d whole planes, where they fit. */
static void held(context *c, const table *cover, const geometry *g, int64_t row, int64_t together, int64_t sizes[2])
{
    for (int i = 0; i < 2; i++)
        sizes[i] = held_rows(c, cover[i].cells, g->dims[2 + i], i ? most(together, 1) : 1);
    int64_t all = power_of_two(g->axes[1].outputs);
    if (g->dims[2] > 1 && times(times(sizes[0], all), row) <= SWEEP_RING)
        sizes[1] = all;
}

static int64_t longest_of(const table *parts, int field)
{
    int64_t found = 0;
    for (int64_t p = 0; p < parts->rows; p++)
        found = most(found, parts->cells[p * AT_CHUNK + field]);
    return found;
}

/* How the columns of terms spread over the inputs (layout.py, W_SPREAD), and the padding that this needs. */
static void place_columns(buffer *b, const axis *a, int64_t positions, const table *parts)
{
    if (!a->regular || a->outputs == 1)
        return;
    int how = a->stride == 1 ? 1 : a->stride == 2 && a->step == 1 ? 2 : 0;
    int64_t lead = (a->kernel - 1) * a->step + 1;
    if (!how || longest_of(parts, AT_C_LANES) + 2 * lead > positions)
        return;
    b->head[AT_W_SPREAD] = how;
    b->head[AT_W_LEAD] = lead;
}

/* Whether the rows of an operand are rows of cells as they lie in memory. */
bool straight(const geometry *g, const int64_t strides[5])
{
    if (g->channel_lanes)
        return strides[1] == 1 && (strides[4] == g->dims[1] || g->dims[4] == 1) && g->dims[1] <= LANES;
    return strides[4] == 1 || g->dims[4] == 1;
}

/* ---------------------------------------------------------------- small windows */

static bool unit_strides(const geometry *g)
{
    static const int wanted[] = {AT_X, AT_LOGIT, AT_Y};
    for (int i = 0; i < 3; i++)
        if (g->has[wanted[i]] && g->strides[wanted[i]][g->channel_lanes ? 1 : 4] != 1)
            return false;
    return true;
}

/* Which of the loops for 2x2 windows does a call whose windows are whole. */
static shape small_quad(const geometry *g, bool backward)
{
    const axis *d = &g->axes[0], *h = &g->axes[1], *w = &g->axes[2];
    bool beside = h->stride == 2 && w->stride == 2 && h->origin == 0 && w->origin == 0 && h->step == 1 && w->step == 1 && d->outputs == g->dims[2];
    return beside || !backward ? QUAD : NO_SHAPE;
}

/* Whether the windows of an axis are pairs of elements, of a gradient side by side. */
static bool pairs(const axis *a, bool backward)
{
    return a->regular && a->kernel == 2 && smallest(a->count, a->outputs) == 2 && (!backward || (a->origin == 0 && a->stride == 2 && a->step == 1));
}

/* Whether the loops for 2x2x2 windows do a call. */
static shape small_eight(const geometry *g, bool backward)
{
    const axis *w = &g->axes[2];
    for (int i = 0; i < 3; i++)
        if (!pairs(&g->axes[i], backward))
            return NO_SHAPE;
    return w->stride == 2 && w->step == 1 && !g->channel_lanes && w->outputs >= VECTOR ? EIGHT : NO_SHAPE;
}

/* How many planes of rows three.py keeps for windows of several, a plane apart; farther apart they share too little; 0: not for these. */
static int64_t kept_planes(const geometry *g)
{
    const axis *d = &g->axes[0];
    int64_t planes = largest(d->count, d->outputs);
    bool suits = planes > 1 && planes <= 3 && d->regular && d->stride == 1 && d->step == 1;
    return suits && times(g->axes[1].outputs, g->dims[4]) <= SWEEP_PLANES ? power_of_two(planes) : 0;
}

/* Whether three.py does a call. */
static shape small_three(const geometry *g, bool backward)
{
    const axis *d = &g->axes[0], *h = &g->axes[1], *w = &g->axes[2];
    bool narrow = w->step <= (w->stride == 1 ? 4 : 1) && h->step <= 4 && g->dims[4] <= SWEEP_THREE;
    bool wide = least(w->outputs, g->dims[4] / w->stride) >= VECTOR;
    bool every = largest(d->count, d->outputs) > 1 ? kept_planes(g) > 0 : !backward || d->outputs == g->dims[2];
    return most(h->kernel, w->kernel) <= 3 && w->stride <= 2 && !g->channel_lanes && narrow && wide && every ? THREE : NO_SHAPE;
}

/* Whether windows are whole planes that planes.py or whole.py takes; full: as in merged. */
bool in_planes(const geometry *g, const bool full[OPERANDS])
{
    return !empty(g) && !differs(g) && !g->channel_lanes && whole(g) && gapless(g, full);
}

/* Whether rows of what 3x3 windows of channels hand out have room in nine.py, and those at both ends that give nothing. */
static bool kept_rows(const geometry *g)
{
    const axis *d = &g->axes[0], *h = &g->axes[1], *w = &g->axes[2];
    int64_t beyond = (g->dims[4] - 1 - w->origin) / w->stride - w->outputs + 1;
    bool fits = times(most(g->dims[4], w->outputs + 2 * SIDES), g->dims[1]) <= CELLS - VECTOR && g->dims[1] <= LANES && beyond <= SIDES;
    return fits && d->outputs == g->dims[2] && h->step == 1 && w->step == 1;
}

/* Which of the loops for some windows can do a call: QUAD of direct.py, PLANES, NINE, EIGHT, THREE of the files of these names, or none. */
shape small(const geometry *g, bool backward)
{
    static const bool read[OPERANDS] = {[AT_X] = true, [AT_LOGIT] = true};
    const axis *d = &g->axes[0], *h = &g->axes[1], *w = &g->axes[2];
    if (empty(g) || differs(g) || spread_parameter(g))
        return NO_SHAPE;
    if (in_planes(g, read))
        return PLANES;
    if (!unit_strides(g))
        return NO_SHAPE;
    bool single = largest(d->count, d->outputs) == 1;
    if (!single && small_eight(g, backward) == EIGHT)
        return EIGHT;
    if (!h->regular || !w->regular || (!g->channel_lanes && w->step > 1))
        return NO_SHAPE;
    if (h->kernel == 2 && w->kernel == 2 && single && (g->channel_lanes || w->stride == 2) && smallest(h->count, h->outputs) == 2 &&
        smallest(w->count, w->outputs) == 2)
        return small_quad(g, backward);
    if (h->kernel == 3 && w->kernel == 3 && g->channel_lanes && single && (!backward || kept_rows(g)))
        return NINE;
    return small_three(g, backward);
}

/* The distances of the gradients' memory. */
static void record_gradients(buffer *b, const int64_t dims[5], bool channels_last)
{
    int64_t strides[5];
    dense(dims, channels_last, strides);
    record(b, AT_GRAD_X, strides);
    record(b, AT_GRAD_LOGIT, strides);
}

/* The plan of a call that `small` has named; past_cache: whether the result is written past the caches. */
plan plan_small(context *c, const geometry *g, int gradient, bool past_cache)
{
    buffer b;
    open_buffer(&b, g, LANES);
    if (gradient != NO_GRADIENT)
        record_gradients(&b, g->dims, gradient == CHANNELS_LAST);
    b.head[AT_PAST_CACHE] = past_cache;
    place(&b, AT_W_COUNT, g->axes[2].count, g->axes[2].outputs);
    place(&b, AT_W_SHARE, g->axes[2].share, g->axes[2].outputs);
    int64_t rows = b.planes * g->axes[0].outputs * g->axes[1].outputs;
    const axis *w = &g->axes[2];
    if (gradient == NO_GRADIENT || !g->channel_lanes || !w->regular || w->kernel != 3)
        return close_buffer(c, &b, 0, rows, rows);
    b.head[AT_W_LEAD] = -w->origin;
    b.head[AT_W_STRIDE] = w->stride;
    table cover = covering(c, &g->axes[1], g->dims[3]);
    place(&b, AT_H_COVER, cover.cells, cover.rows);
    return close_buffer(c, &b, 0, rows, b.planes * g->dims[2] * g->dims[3]);
}

/* Lay out so many rows and their tags from `begin` on; returns where the memory ends. */
static int64_t place_rows(buffer *b, int tags, int64_t rows, int64_t row, int64_t begin)
{
    b->head[tags] = begin + rounded(times(rows, row), 64);
    return b->head[tags] + rounded(times(8, rows), 64);
}

/* The rows that three.py works in; returns their bytes. */
static int64_t place_three(buffer *b, const geometry *g, int lifts, int terms, int itemsize)
{
    const axis *h = &g->axes[1], *w = &g->axes[2];
    int64_t stride = w->stride;
    int64_t row = rounded(stride * (up(g->dims[4], stride) + 3 * VECTOR), VECTOR), kept = rounded(w->outputs + 4 * VECTOR, VECTOR);
    int64_t lines = least(power_of_two(2 * h->step + 1 + (terms > 0 ? (BAND + 2) * h->stride : 0)), 64);
    int64_t planes = most(kept_planes(g), 1);
    b->head[AT_ROW_CELLS] = row;
    b->head[AT_RING_D] = planes - 1;
    b->head[AT_RING_H] = lines - 1;
    b->head[AT_HELD_CELLS] = kept;
    int64_t rows = (planes * lines + BAND) * lifts + 2 * BAND * terms + (lifts > terms ? lifts : terms);
    int64_t work = place_rows(b, AT_TAGS_AT, planes * lines, 0, itemsize * (rows * row + BAND * terms * kept + w->outputs));
    if (planes == 1)
        return work;
    int64_t lasting = planes * h->outputs, begin = rounded(work, 64);
    b->head[AT_HELD_AT] = begin;
    return place_rows(b, AT_HELD_TAGS_AT, 2 * lasting, 0, begin + itemsize * lasting * (lifts + terms) * row);
}

/* The plan of a call that `small` has named THREE; lifts, terms, itemsize: as those of plan_sweep. */
plan plan_three(context *c, const geometry *g, int lifts, int terms, int itemsize, bool past_cache)
{
    buffer b;
    const axis *w = &g->axes[2];
    open_buffer(&b, g, LANES);
    b.head[AT_PAST_CACHE] = past_cache;
    b.head[AT_W_LEAD] = -w->origin;
    b.head[AT_W_STRIDE] = w->stride;
    b.head[AT_W_TAPS] = w->kernel;
    place(&b, AT_W_SHARE, w->share, w->outputs);
    int64_t work = place_three(&b, g, lifts, terms, itemsize);
    if (terms > 0) {
        record_gradients(&b, g->dims, false);
        if (b.head[AT_RING_D]) {
            table deep = covering(c, &g->axes[0], g->dims[2]);
            place(&b, AT_D_COVER, deep.cells, deep.rows);
        }
        table cover = covering(c, &g->axes[1], g->dims[3]);
        place(&b, AT_H_COVER, cover.cells, cover.rows);
    }
    return close_buffer(c, &b, work, b.planes * g->axes[0].outputs * g->axes[1].outputs, b.planes * g->dims[2] * g->dims[3]);
}

/* ---------------------------------------------------------------- sweeps */

/* Rows of the tallest window, or `over`, how many windows cover a row, unless it is 0, if slide_down (numbapool/loops/cpu/cells.py) joins them in
 * fewer steps; else 0.  least: from how many rows on it pays where windows are a row apart; for each row more that they are apart two more. */
int64_t tall(const geometry *g, int64_t over, int64_t least_rows)
{
    const axis *d = &g->axes[0], *h = &g->axes[1];
    if (!h->regular || h->step > 1 || largest(d->count, d->outputs) > 1)
        return 0;
    int64_t rows = over ? over : largest(h->count, h->outputs), apart = over ? 1 : h->stride;
    return least_rows + 2 * (apart - 1) <= rows && rows <= SWEEP_TALL ? rows : 0;
}

/* Lay out what slide_down holds for so many rows, if it is for these windows, from `begin` on, rows of so many bytes; returns where the memory ends. */
static int64_t place_ends(buffer *b, int field, int64_t rows, int64_t row, int64_t begin)
{
    b->head[field] = rows;
    b->head[field + 1] = begin;
    return begin + (rows ? SWEEP_STATE + rounded((rows + 1) * row, 64) : 0);
}

/* How many rows are turned together to join columns as lanes do: where windows along the last axis lie at any places, or more than two apart. */
int64_t turned(const geometry *g)
{
    const axis *h = &g->axes[1], *w = &g->axes[2];
    bool apart = !g->channel_lanes && (!w->regular || w->stride > 2) && w->step == 1;
    return apart && w->outputs > 1 && largest(w->count, w->outputs) < SWEEP_LONG && h->outputs >= SWEEP_TURN ? VECTOR : 0;
}

/* Whether the input's planes lie side by side position by position: rows of all of them then take turns, if they are no lanes. */
bool interleaved(const geometry *g) { return g->dims[1] > 1 && g->strides[AT_X][1] < g->strides[AT_X][4]; }

/* Whether no window begins or ends before the one in front of it: those over an input are then neighbours, and new ones
 * come last. */
static bool ordered(const axis *a)
{
    for (int64_t o = 1; o < a->outputs; o++)
        if (a->first[o] < a->first[o - 1] || reach(a, a->first, o) < reach(a, a->first, o - 1))
            return false;
    return true;
}

/* A sweep as it is planned. */
typedef struct {
    buffer b;
    geometry g;
    table forward, parts, cover[3];
    int64_t width, positions, turn;
} sweep;

/* The chunks and slices of columns of at most so many positions; false where they do not fit. */
static bool cut_columns(context *c, sweep *s, bool backward, int64_t positions)
{
    if (!chunks(c, &s->g.axes[2], s->g.dims[4], positions, &s->forward))
        return false;
    s->parts = s->forward;
    s->positions = positions;
    return !backward || slices(c, &s->g.axes[2], s->g.dims[4], positions, s->cover[2].cells, &s->parts);
}

/* The call as a sweep sees it, in chunks and slices of columns; false where they do not fit. */
static bool open_sweep(context *c, sweep *s, int lifts, bool backward, bool channels_last)
{
    static const bool full[OPERANDS] = {[AT_X] = true, [AT_LOGIT] = true, [AT_GRAD_X] = true, [AT_GRAD_LOGIT] = true};
    geometry *g = &s->g;
    if (backward)
        for (int k = AT_GRAD_X; k <= AT_GRAD_LOGIT; k++) {
            if (!g->has[k])
                dense(g->dims, channels_last, g->strides[k]);
            g->has[k] = true;
        }
    s->width = g->channel_lanes ? least(LANES, g->dims[1]) : 1;
    int64_t positions = CELLS / s->width;
    merged(c, g, full, lifts ? most(1, SWEEP_SHORT / s->width) : positions);
    if (backward)
        for (int i = 0; i < 3; i++)
            s->cover[i] = covering(c, &g->axes[i], g->dims[2 + i]);
    s->turn = turned(g);
    if (s->turn && cut_columns(c, s, backward, positions / s->turn))
        return true;
    s->turn = 0;
    return cut_columns(c, s, backward, positions);
}

/* What a sweep does along the last axis. */
static void place_last_axis(context *c, sweep *s, bool backward)
{
    buffer *b = &s->b;
    const axis *w = &s->g.axes[2];
    place(b, AT_CHUNK_TABLE, s->forward.cells, s->forward.rows * AT_CHUNK);
    place(b, AT_SLICE_TABLE, s->parts.cells, s->parts.rows * AT_CHUNK);
    b->head[AT_CHUNKS] = s->forward.rows;
    b->head[AT_SLICES] = s->parts.rows;
    b->head[AT_TURN] = s->turn;
    if (backward)
        place_columns(b, w, CELLS / s->width, &s->parts);
    if (backward && s->turn) {
        int64_t *first, *count;
        runs_over(c, s->cover[2].cells, &s->parts, s->g.dims[4], &first, &count);
        place(b, AT_COVER_FIRST, first, s->g.dims[4]);
        place(b, AT_COVER_COUNT, count, s->g.dims[4]);
    }
    if (w->regular && w->outputs > 1) {
        b->head[AT_W_STRIDE] = w->stride;
        b->head[AT_W_TAPS] = w->kernel;
    }
    place(b, AT_W_COUNT, w->count, w->outputs);
    place(b, AT_W_SHARE, w->share, w->outputs);
}

/* The ring of lifted rows; returns the bytes it takes. */
static int64_t place_ring(sweep *s, int lifts, bool backward, int itemsize)
{
    int64_t cells = 0, rows[2] = {1, 1};
    for (int64_t p = 0; p < s->parts.rows; p++) {
        const int64_t *part = s->parts.cells + p * AT_CHUNK;
        cells = most(cells, part[AT_C_HI] - part[AT_C_LO]);
    }
    cells = rounded(cells * s->width, 16);
    int64_t lines = s->g.dims[2] > 1 && s->parts.rows == 1 ? s->g.dims[3] : 0;
    if (lifts)
        ring(s->g.axes, lifts * cells * itemsize, backward, backward ? s->turn : 0, lines, rows);
    s->b.head[AT_ROW_CELLS] = cells;
    s->b.head[AT_RING_D] = rows[0] - 1;
    s->b.head[AT_RING_H] = rows[1] - 1;
    return place_rows(&s->b, AT_TAGS_AT, times(rows[0], rows[1]), lifts * cells * itemsize, 0);
}

/* What slide_down holds of rows of elements; returns where the memory ends. */
static int64_t place_join(sweep *s, int lifts, bool backward, int itemsize, int64_t begin)
{
    int64_t rows = tall(&s->g, 0, SWEEP_LEAST);
    bool kept = !lifts || s->b.head[AT_RING_H] + 1 >= rows + (backward ? s->turn : 0);
    return place_ends(&s->b, AT_JOIN_TALL, kept ? rows : 0, (lifts ? lifts : 1) * s->b.head[AT_ROW_CELLS] * itemsize, begin);
}

/* The rows of terms and the inverse tables; false where they take too much memory. */
static bool place_held(context *c, sweep *s, int terms, int itemsize, int64_t *work)
{
    buffer *b = &s->b;
    int64_t across = rounded(longest_of(&s->parts, AT_C_LANES) * s->width, 16), row = terms * across * itemsize, kept[2];
    held(c, s->cover, &s->g, row, s->turn, kept);
    if (times(times(kept[0], kept[1]), row) > SWEEP_HELD)
        return false;
    b->head[AT_HELD_CELLS] = across;
    b->head[AT_HELD_D] = kept[0] - 1;
    b->head[AT_HELD_H] = kept[1] - 1;
    b->head[AT_HELD_AT] = *work;
    b->head[AT_TODO_AT] = place_rows(b, AT_HELD_TAGS_AT, kept[0] * kept[1], row, *work);
    *work = b->head[AT_TODO_AT] + rounded(16 * kept[0] * kept[1], 64);
    for (int i = 0; i < 3; i++)
        place(b, AT_D_COVER + i, s->cover[i].cells, s->cover[i].rows);
    place(b, AT_H_SAME, repeats(c, s->cover[1].cells, s->g.dims[3]), s->g.dims[3]);
    *work = place_ends(b, AT_COVER_TALL, tall(&s->g, most_over(s->cover[1].cells, s->g.dims[3]), SWEEP_LEAST), row, *work);
    return true;
}

/* The plan of a sweep; false where the windows or the memory do not suit one.
 *
 * lifts: components of a lifted row, 0 where rows are taken as they are; terms: rows of terms (backward), else 0; itemsize: bytes of a cell;
 * gradient: the order of the gradient's memory; past_cache: as in plan_small. */
bool plan_sweep(context *c, const geometry *g, int lifts, int terms, int itemsize, int gradient, bool past_cache, plan *made)
{
    bool backward = terms > 0;
    if (empty(g) || spread_parameter(g) || (differs(g) && (backward || interleaved(g))))
        return false;
    if (backward && !(ordered(&g->axes[0]) && ordered(&g->axes[1]) && ordered(&g->axes[2])))
        return false;
    sweep s;
    s.g = *g;
    if (!open_sweep(c, &s, lifts, backward, gradient == CHANNELS_LAST))
        return false;
    open_buffer(&s.b, &s.g, LANES);
    s.b.head[AT_PAST_CACHE] = past_cache;
    place_last_axis(c, &s, backward);
    int64_t work = place_ring(&s, lifts, backward, itemsize);
    if (backward && !place_held(c, &s, terms, itemsize, &work))
        return false;
    work = place_join(&s, lifts, backward, itemsize, work);
    const int64_t *dims = s.g.dims;
    *made = close_buffer(c, &s.b, work, s.b.planes * s.g.axes[0].outputs * s.g.axes[1].outputs, s.b.planes * dims[2] * dims[3]);
    return true;
}
