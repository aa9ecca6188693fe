/* Plans of selecting loops (numbapool/loops/cpu/select.py): chunks of columns, and the parts that windows are made of. */
#include "plans.h"

/* The chunks of a row of windows; where one has more positions than fit, one a window. */
static table chunks_of(context *c, const axis *a, int64_t size, int64_t positions)
{
    table found;
    return chunks(c, a, size, positions, &found) ? found : chunks_of_one(c, a, size);
}

/* How many channels are lanes: so many that a row of cells holds twice the longest window, but 16 at least. */
static int64_t width_of(const axis *a, int64_t channels, int64_t width)
{
    int64_t span = (largest(a->count, a->outputs) - 1) * a->step + 1;
    while (width > 16 && CELLS / most(1, least(width, channels)) < 2 * span)
        width /= 2;
    return width;
}

/* W_STRIDE (1 or 2: windows at that distance, side by side; 0: at any places), W_TAPS, W_POWER and W_PARTS. */
static void place_parts(buffer *b, const axis *a)
{
    bool suits = a->regular && (a->stride == 1 || (a->stride == 2 && a->step == 1 && !b->channel_lanes));
    int64_t power = 1;
    if (suits) {
        while (3 * power < (a->stride == 2 ? a->kernel >> 1 : a->kernel))
            power *= 2;
    } else {
        while (2 * power <= smallest(a->count, a->outputs))
            power *= 2;
        b->head[AT_W_PARTS] = up(largest(a->count, a->outputs), power);
    }
    b->head[AT_W_STRIDE] = suits ? a->stride : 0;
    b->head[AT_W_TAPS] = a->regular ? a->kernel : 0;
    b->head[AT_W_POWER] = power;
}

static bool single(const table *chunks)
{
    for (int64_t i = 0; i < chunks->rows; i++)
        if (chunks->cells[i * AT_CHUNK + AT_C_LANES] == 1)
            return true;
    return false;
}

/* Whether the windows are 2x2 ones side by side, all inside. */
static bool whole_pairs(const axis *a)
{
    return a->stride == 2 && a->kernel == 2 && smallest(a->count, a->outputs) == 2;
}

/* Whether the windows of an axis are its places one by one. */
static bool single_places(const axis *a) { return a->regular && a->origin == 0 && a->stride == 1 && a->kernel == 1; }

/* How many planes of joined rows short.py keeps for windows of several; 0 for windows that it does not take. */
static int64_t held_planes(const geometry *g)
{
    int64_t planes = largest(g->axes[0].count, g->axes[0].outputs);
    return planes > 1 && planes <= 3 && !differs(g) && g->axes[0].step == 1 ? power_of_two(planes) : 0;
}

/* Cells of a row of the windows of any of these chunks, to the end of a vector. */
static int64_t row_of(const table *chunks, int64_t width)
{
    int64_t lanes = 0;
    for (int64_t i = 0; i < chunks->rows; i++)
        lanes = most(lanes, chunks->cells[i * AT_CHUNK + AT_C_LANES]);
    return rounded(lanes * width, VECTOR);
}

/* Which of the loops of short.py suits the windows: QUAD, NINE, SHORT or none; OWN: QUAD of a gradient, for one row of two columns. */
static shape shape_of(const geometry *g, const table *chunks, bool deep)
{
    const axis *d = &g->axes[0], *h = &g->axes[1], *w = &g->axes[2];
    if (differs(g) || !h->regular || !w->regular || h->step > 1 || w->step > 1)
        return NO_SHAPE;
    if (most(h->kernel, w->kernel) > 3 || (w->stride > 2 && !g->channel_lanes) || single(chunks))
        return NO_SHAPE;
    bool unit = g->strides[AT_X][g->channel_lanes ? 1 : 4] == 1, several = largest(d->count, d->outputs) > 1;
    if (whole_pairs(w) && unit && ((whole_pairs(h) && (deep || !several)) || (single_places(h) && !several)))
        return whole_pairs(h) ? QUAD : OWN;
    if (several) /* of windows two columns apart there are too few */
        return held_planes(g) && w->stride == 1 && !g->channel_lanes ? SHORT : NO_SHAPE;
    return !g->channel_lanes ? SHORT : unit ? NINE : NO_SHAPE; /* which reads channels side by side */
}

static bool ascending(const axis *a)
{
    for (int64_t o = 1; o < a->outputs; o++)
        if (a->first[o] <= a->first[o - 1])
            return false;
    return true;
}

/* Cells of a row for separate.py, or 0 (choices.separable). */
static int64_t separable(const geometry *g, int64_t lanes, int itemsize)
{
    const axis *a = &g->axes[2];
    if (product(g->dims, 5) == 0 || !a->regular || a->stride != 1 || !ascending(&g->axes[0]) || largest(g->axes[0].count, g->axes[0].outputs) > 1 || 2 * lanes > SEPARATE_MARGIN)
        return 0;
    int64_t pitch = most(most(a->outputs + a->kernel - 1, g->dims[4] - a->origin), up(rounded(a->outputs * lanes, VECTOR), lanes));
    return times(SEPARATE_LEAST * lanes * itemsize, pitch) <= SEPARATE_ROOM ? pitch * lanes : 0;
}

/* Lay out rows of cells that are held, from `begin` on, behind so many bytes of state; returns where the memory ends. */
static int64_t place_held(buffer *b, int64_t begin, int64_t state, int64_t row, int64_t rows, int itemsize)
{
    b->head[AT_JOIN_AT] = begin;
    b->head[AT_TAGS_AT] = state;
    b->head[AT_ROW_CELLS] = row;
    b->head[AT_HELD_CELLS] = rows * row;
    return begin + state + rounded(rows * row * (itemsize + CHOICES_PLACE), 64);
}

/* The rows that tall.py holds, where windows suit it, from `begin` on; returns where the memory ends. */
static int64_t place_tall(buffer *b, const geometry *g, const table *chunks, int itemsize, int64_t begin)
{
    int64_t length = 0, width = most(b->width, 1), rows = tall(g, 0, CHOICES_LEAST);
    if (!rows || b->head[AT_W_STRIDE] != 1 || (g->channel_lanes && chunks->rows != 1))
        return begin;
    for (int64_t i = 0; i < chunks->rows; i++)
        length = most(length, chunks->cells[i * AT_CHUNK + AT_C_LENGTH]);
    if (length * width > CELLS)
        return begin;
    b->head[AT_JOIN_TALL] = rows;
    return place_held(b, begin, SWEEP_STATE, row_of(chunks, width), rows + 3, itemsize);
}

/* How to choose, and the plan of a call; the arguments are those of plan_general.  WHOLE, SEPARATE: by whole.py, separate.py. */
shape plan_choices(context *c, const geometry *given, int64_t width, int gradient, int scratch_planes, int itemsize, int past_cache, plan *made)
{
    static const bool full[OPERANDS] = {[AT_X] = true};
    geometry seen = *given, *g = &seen;
    const int64_t *size = given->dims;
    bool fits = gradient == NO_GRADIENT || product(size + 2, 3) <= SWEEP_PLANE;
    bool planes = gradient != CHANNELS_LAST && fits && in_planes(g, full);
    int64_t many = width == LANES ? many_channels(g) : 0;
    if (size[0] && size[1] && size[2] && size[3] && size[4] && !differs(g))
        merged(c, g, full, !g->channel_lanes ? CELLS : size[1] <= width ? CELLS / size[1] : 1); /* 1: lanes of neighbours lie apart */
    const axis *d = &g->axes[0], *w = &g->axes[2];
    buffer b;
    open_buffer(&b, g, many ? many : g->channel_lanes ? width_of(w, size[1], width) : 1);
    int64_t cells = CELLS / most(b.width, 1);
    table found = chunks_of(c, w, g->dims[4], cells);
    bool deep = gradient != NO_GRADIENT && d->regular && d->origin == 0 && d->step == 1 && whole_pairs(d);
    shape how = shape_of(g, &found, deep);
    if (deep && how == QUAD && (gradient == CHANNELS_LAST) != g->channel_lanes)
        how = NO_SHAPE;
    bool every_plane = deep || (d->outputs == g->dims[2] && single_places(d));
    if ((how == QUAD || how == OWN) && gradient != NO_GRADIENT && (gradient == CHANNELS_LAST) == g->channel_lanes && every_plane)
        how = OWN;
    else if (how == OWN)
        how = g->channel_lanes ? NINE : SHORT;
    table narrow;
    int64_t kept = how == SHORT ? held_planes(g) : 0, lines = kept * g->axes[1].outputs;
    if (how == SHORT) {
        narrow = chunks_of(c, w, g->dims[4], cells / 2);
        if (!kept || row_of(&narrow, 1) <= SWEEP_RING / (itemsize + CHOICES_PLACE) / most(lines, 1))
            found = narrow;
        else
            how = NO_SHAPE;
    }
    if (how == NO_SHAPE && turned(g) && !interleaved(g) && chunks(c, w, g->dims[4], CELLS / VECTOR, &narrow)) {
        found = narrow;
        b.head[AT_TURN] = VECTOR;
    }
    place(&b, AT_CHUNK_TABLE, found.cells, found.rows * AT_CHUNK);
    bool together = (how == SHORT || how == NINE) && gradient != NO_GRADIENT && (gradient == CHANNELS_LAST) == g->channel_lanes;
    int64_t row = together && (!b.width || b.width == size[1]) ? separable(g, most(b.width, 1), itemsize) : 0;
    if (row) {
        how = SEPARATE;
        b.head[AT_ROW_CELLS] = row;
        table cover = covering(c, d, g->dims[2]);
        place(&b, AT_D_COVER, cover.cells, cover.rows);
        b.head[AT_W_LEAD] = -w->origin;
    }
    place(&b, AT_W_COUNT, w->count, w->outputs);
    b.head[AT_CHUNKS] = found.rows;
    b.head[AT_PAST_CACHE] = past_cache;
    place_parts(&b, w);
    int64_t work = 0;
    if (gradient != NO_GRADIENT)
        work = place_gradient(&b, size, gradient == CHANNELS_LAST, scratch_planes, itemsize);
    work = rounded(work, 64);
    if (how == NO_SHAPE)
        work = place_tall(&b, g, &found, itemsize, work);
    if (how == SHORT && kept) {
        b.head[AT_RING_D] = kept - 1;
        work = place_held(&b, work, rounded(8 * lines, 64), row_of(&found, 1), lines, itemsize);
    }
    if (row) {
        int64_t room = least(most(SEPARATE_LEAST, SEPARATE_NEAR / row), g->dims[3]) * row + 2 * most(b.width, 1) + VECTOR;
        b.head[AT_JOIN_AT] = work;
        b.head[AT_HELD_CELLS] = room;
        work += rounded((4 * room + 2 * (row + 2 * VECTOR)) * itemsize, 64) + 4 * room;
    }
    int64_t rows = size[2] && size[3] && size[4] ? b.planes * d->outputs * g->axes[1].outputs : 0;
    *made = close_buffer(c, &b, work, rows, b.planes);
    return planes ? WHOLE : how;
}
