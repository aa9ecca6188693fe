/* Plans of GPU calls: axes and distances become the words that a kernel is given, and tables in device memory.  numbapool/cuda/plan.py in C. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "plans.h"

/* ---------------------------------------------------------------- memory */

static struct program *program_of(context *c)
{
    if (!c->program)
        c->program = memset(take(c, sizeof *c->program), 0, sizeof *c->program);
    return c->program;
}

uint64_t cuda_space(call *k, int64_t items, int item)
{
    struct program *p = program_of(k->c);
    if (items < 0 || items > ((int64_t)1 << 52) / item)
        fail(k->c, NUMBAPOOL_MEMORY_ERROR, "the call needs more memory than there are addresses");
    size_t begin = p->work;
    p->work += ((size_t)items * (size_t)item + 255) & ~(size_t)255;
    return WORKSPACE + begin;
}

void cuda_drawn(call *k) { program_of(k->c)->drawn |= k->pooling->windows != REGULAR && k->pooling->windows != UNPOOLED; }

static void grow(context *c, struct program *p, size_t bytes)
{
    if (p->table_bytes + bytes <= p->table_room)
        return;
    size_t room = 2 * (p->table_bytes + bytes);
    unsigned char *more = take(c, room);
    if (p->table_bytes)
        memcpy(more, p->tables, p->table_bytes);
    p->tables = more;
    p->table_room = room;
}

/* Where a table is, if it has been placed. */
static bool placed(const struct program *p, const void *table, size_t *at)
{
    for (int i = 0; i < p->n_known; i++)
        if (p->known[i].table == table) {
            *at = p->known[i].at;
            return true;
        }
    return false;
}

size_t cuda_place(context *c, const void *table, const void *data, size_t bytes)
{
    struct program *p = program_of(c);
    size_t found;
    if (placed(p, table, &found))
        return found;
    size_t padded = (bytes + 15) & ~(size_t)15, at = p->table_bytes;
    if (p->n_known == CU_MOST_KNOWN)
        fail(c, NUMBAPOOL_UNSUPPORTED, "the call has too many tables");
    grow(c, p, padded);
    if (bytes)
        memcpy(p->tables + at, data, bytes);
    memset(p->tables + at + bytes, 0, padded - bytes);
    p->table_bytes += padded;
    p->known[p->n_known].table = table;
    p->known[p->n_known++].at = at;
    return at;
}

/* A table of an axis, as int32. */
static size_t place_short(context *c, const int64_t *table, int64_t n)
{
    size_t found;
    if (placed(program_of(c), table, &found))
        return found;
    int32_t *shorter = take(c, (size_t)n * sizeof *shorter);
    for (int64_t i = 0; i < n; i++)
        shorter[i] = (int32_t)table[i];
    return cuda_place(c, table, shorter, (size_t)n * sizeof *shorter);
}

/* ---------------------------------------------------------------- which outputs cover an input */

static int64_t last_of(const axis *a, int64_t o) { return a->first[o] + (a->count[o] - 1) * a->step; }

static bool ascends(const axis *a)
{
    for (int64_t o = 1; o < a->outputs; o++)
        if (a->first[o] < a->first[o - 1] || last_of(a, o) < last_of(a, o - 1))
            return false;
    return true;
}

/* Neighbours: no list but of all outputs. */
static void cover_by_order(context *c, const axis *a, int64_t size, int32_t *bounds, const int32_t **list)
{
    int64_t from = 0, to = 0;
    int32_t *all = take(c, (size_t)a->outputs * sizeof *all);
    for (int64_t o = 0; o < a->outputs; o++)
        all[o] = (int32_t)o;
    for (int64_t i = 0; i < size; i++) {
        while (from < a->outputs && last_of(a, from) < i)
            from++;
        while (to < a->outputs && a->first[to] <= i)
            to++;
        bounds[i] = (int32_t)from;
        bounds[size + i] = (int32_t)to;
    }
    *list = all;
}

/* Any windows: the outputs of each input one after the other. */
static void cover_by_list(context *c, const axis *a, int64_t size, int64_t n, int32_t *bounds, const int32_t **list)
{
    int32_t *found = take(c, (size_t)n * sizeof *found), *ends = bounds + size, sum = 0;
    memset(bounds, 0, (size_t)size * 2 * sizeof *bounds);
    for (int64_t o = 0; o < a->outputs; o++)
        for (int64_t t = 0; t < a->count[o]; t++)
            ends[a->first[o] + t * a->step]++;
    for (int64_t i = 0; i < size; i++) {
        int32_t own = ends[i];
        bounds[i] = ends[i] = sum;
        sum += own;
    }
    for (int64_t o = 0; o < a->outputs; o++)
        for (int64_t t = 0; t < a->count[o]; t++)
            found[ends[a->first[o] + t * a->step]++] = (int32_t)o;
    *list = found;
}

static void make_cover(cuda_head *h, int i)
{
    context *c = h->k->c;
    const axis *a = &h->k->axes[i];
    int64_t size = h->k->x.dims[2 + i], n = 0;
    int32_t *bounds = take(c, (size_t)size * 2 * sizeof *bounds);
    for (int64_t o = 0; o < a->outputs; o++)
        n += a->count[o];
    bool ordered = a->step == 1 && ascends(a);
    if (!ordered && n >= LIMIT)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%" PRId64 " elements of all windows along one axis are too many for a backward pass on a GPU", n);
    if (ordered)
        cover_by_order(c, a, size, bounds, &h->lists[i]);
    else
        cover_by_list(c, a, size, n, bounds, &h->lists[i]);
    h->list_sizes[i] = ordered ? a->outputs : n;
    h->bounds[i] = bounds;
}

/* ---------------------------------------------------------------- what tasks share */

static int64_t longest(const axis *a)
{
    int64_t found = 0;
    for (int64_t o = 0; o < a->outputs; o++)
        found = most(found, a->count[o]);
    return found;
}

/* The divisor of all windows of an axis, 0 where they differ. */
static int64_t share_of(const axis *a)
{
    for (int64_t o = 1; o < a->outputs; o++)
        if (a->share[o] != a->share[0])
            return 0;
    return a->outputs ? a->share[0] : 0;
}

cuda_head cuda_head_of(call *k, bool channel)
{
    cuda_head h = {.k = k, .channel = channel, .share = 1, .taps = 1, .across = 1, .along = 1};
    for (int i = 0; i < 3; i++) {
        if (k->x.dims[2 + i] > INT32_MAX || k->out_dims[2 + i] > INT32_MAX) /* tables hold 32 bits */
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "x must have spatial sizes below 2^31 on a CUDA device");
        if (__builtin_mul_overflow(h.share, share_of(&k->axes[i]), &h.share))
            h.share = 0;
        h.taps = times(h.taps, longest(&k->axes[i]));
    }
    return h;
}

void cuda_segments(cuda_head *h)
{
    int64_t w = longest(&h->k->axes[2]), rows = times(longest(&h->k->axes[0]), longest(&h->k->axes[1]));
    h->across = h->channel ? 1 : least(32, w);
    h->along = most(least(rows, up(h->taps, CU_PART * h->across)), 1);
}

bool cuda_cuts(const cuda_head *h)
{
    cuda_head cut = *h;
    cuda_segments(&cut);
    return h->taps >= CU_LARGE && times(product(h->k->out_dims, 5), times(cut.across, cut.along)) <= CU_MOST_PARTS;
}

static int64_t reach_of(const int64_t strides[5], const int64_t sizes[3], int64_t channels)
{
    int64_t reach = times(llabs(strides[1]), most(channels - 1, 0));
    for (int i = 0; i < 3; i++)
        reach += times(llabs(strides[2 + i]), most(sizes[i] - 1, 0));
    return reach;
}

/* Whether places in a plane, distances of elements or the number of planes need more than 32 bits. */
bool cuda_wide(const cuda_head *h, const operands *o, unsigned slots)
{
    const int64_t *dims = h->k->x.dims, *outputs = h->k->out_dims + 2;
    int64_t channels = h->channel ? dims[1] : 1;
    int64_t top = most(times(most(product(dims + 2, 3), product(outputs, 3)), channels), times(dims[0], dims[1]));
    for (int i = 0; i < CU_OPERANDS; i++)
        if (slots >> i & 1)
            top = most(top, most(reach_of(o->strides[i], dims + 2, channels), reach_of(o->strides[i], outputs, channels)));
    return top >= NUMBAPOOL_CUDA_REACH;
}

int64_t cuda_slices(int64_t threads, int64_t cells)
{
    return most(least(least(up(CU_SCATTERERS, most(threads, 1)), CU_MOST_SLICES), cells), 1);
}

/* ---------------------------------------------------------------- kernels */

const cuda_row *cuda_find(const kernel_key *wanted)
{
    uint64_t key = packed_key(wanted);
    int low = 0, high = cuda_row_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (cuda_rows[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < cuda_row_count && cuda_rows[low].key == key ? &cuda_rows[low] : NULL;
}

/* The same with a uniform divisor or without, summed row by row or not. */
static const cuda_row *alike(kernel_key *key)
{
    kernel_key asked = *key;
    for (int i = 0; i < 6; i++) {
        key->rows = i < 2 ? asked.rows : i < 4;
        key->uniform = i % 2 ? 0 : asked.uniform;
        const cuda_row *found = cuda_find(key);
        if (found)
            return found;
    }
    *key = asked;
    return NULL;
}

/* With fewer elements side by side, then with items along the rows, last with places of 64 bits. */
const cuda_row *cuda_nearest(kernel_key *key, bool widen)
{
    const cuda_row *found = alike(key);
    for (; !found && key->lanes > 1; found = alike(key))
        key->lanes /= 2;
    if (!found && key->channel) {
        key->channel = 0;
        found = alike(key);
    }
    if (!found && widen && !key->wide) {
        key->wide = 1;
        found = alike(key);
    }
    return found;
}

const cuda_row *cuda_pick(call *k, kernel_key *key, bool widen)
{
    const cuda_row *found = cuda_nearest(key, widen);
    if (!found)
        fail(k->c, NUMBAPOOL_UNSUPPORTED, "this build of the library has no CUDA kernel for it");
    return found;
}

/* ---------------------------------------------------------------- one launch */

static cuda_task *new_task(context *c)
{
    struct program *p = program_of(c);
    if (p->n_tasks == CU_MOST_TASKS)
        fail(c, NUMBAPOOL_UNSUPPORTED, "the call has too many launches");
    cuda_task *t = memset(take(c, sizeof *t), 0, sizeof *t);
    p->tasks[p->n_tasks++] = t;
    return t;
}

void cuda_fill(context *c, uint64_t at, uint32_t value, uint64_t count)
{
    cuda_task *t = new_task(c);
    t->at = at;
    t->value = value;
    t->count = count;
}

void cuda_set_word(context *c, cuda_task *t, int word, size_t place)
{
    if (t->n_tables == CU_MOST_TABLES)
        fail(c, NUMBAPOOL_UNSUPPORTED, "the call has too many tables");
    t->words[word] = (int64_t)place;
    t->tables[t->n_tables++] = (unsigned char)word;
}

static void axis_words(cuda_head *h, cuda_task *t, int i, bool covers)
{
    context *c = h->k->c;
    const axis *a = &h->k->axes[i];
    t->words[CU_D_STEP + i] = a->step;
    t->words[CU_D_PLANE + i] = a->planes ? 4 * a->outputs : 0;
    cuda_set_word(c, t, CU_D_FIRST + i, place_short(c, a->first, most(a->planes, 1) * a->outputs));
    cuda_set_word(c, t, CU_D_COUNT + i, place_short(c, a->count, a->outputs));
    cuda_set_word(c, t, CU_D_SHARE + i, place_short(c, a->share, a->outputs));
    if (!covers)
        return;
    if (!h->bounds[i])
        make_cover(h, i);
    cuda_set_word(c, t, CU_D_COVER + i, cuda_place(c, h->bounds[i], h->bounds[i], (size_t)h->k->x.dims[2 + i] * 8));
    cuda_set_word(c, t, CU_D_LIST + i, cuda_place(c, h->lists[i], h->lists[i], (size_t)h->list_sizes[i] * 4));
}

static void size_words(const cuda_head *h, cuda_task *t, const kernel_key *key, const cuda_launch *l)
{
    const call *k = h->k;
    int64_t *w = t->words, c = k->x.dims[1], parts = h->across * h->along;
    const int64_t *plane = l->over_inputs ? k->x.dims + 2 : k->out_dims + 2;
    int64_t groups = up(key->channel ? c : plane[2], key->lanes), rows = plane[0] * plane[1], lines = key->channel ? rows * plane[2] : rows;
    w[CU_PLANES] = l->of_no_plane ? 1 : k->x.dims[0] * (key->channel && !l->items ? 1 : c);
    w[CU_GROUPS] = groups;
    w[CU_ITEMS] = l->items ? l->items : groups * lines * (key->loop == CU_FOLD_PARTS || key->loop == CU_SELECT_PARTS ? parts : 1);
    memcpy(w + CU_N, k->x.dims, 5 * sizeof *w);
    memcpy(w + CU_OD, k->out_dims + 2, 3 * sizeof *w);
    w[CU_OUTPUTS] = product(k->out_dims, 5);
    w[CU_SHARE] = h->share;
    w[CU_ACROSS] = h->across;
    w[CU_ALONG] = h->along;
    w[CU_SEGMENTS] = parts;
}

static int bits_of(int64_t n)
{
    int bits = 0;
    for (; n > 0; n >>= 1)
        bits++;
    return bits;
}

static void grid_of(context *c, cuda_task *t)
{
    int64_t items = t->words[CU_ITEMS], bits = least(bits_of(items - 1), bits_of(CU_BLOCK) - 1);
    t->words[CU_ITEM_BITS] = bits;
    t->grid[0] = items ? ((items - 1) >> bits) + 1 : 0;
    t->grid[1] = most(least(up(t->words[CU_PLANES], CU_BLOCK >> bits), CU_MOST_BLOCKS), 1);
    if (t->grid[0] > INT32_MAX)
        fail(c, NUMBAPOOL_VALUE_ERROR, "the call is too large for a GPU");
}

/* A launch, unless there is nothing to do: header words, tables, operands; returns it for further words, or one that nobody runs. */
cuda_task *cuda_add(cuda_head *h, const kernel_key *key, const cuda_row *row, const operands *o, const cuda_launch *l)
{
    context *c = h->k->c;
    struct program *p = program_of(c);
    cuda_task *t = new_task(c);
    t->row = row;
    size_words(h, t, key, l);
    for (int i = 0; i < 3; i++)
        axis_words(h, t, i, l->covers);
    for (int i = 0; i < l->n_numbers; i++)
        memcpy(t->words + CU_NUMBER_1 + i, l->numbers + i, sizeof *l->numbers);
    for (int i = 0; i < CU_OPERANDS; i++)
        if (l->slots >> i & 1) {
            int64_t *record = t->words + CU_HEAD + CU_RECORD * i;
            record[0] = (int64_t)o->address[i];
            memcpy(record + 1, o->strides[i], 5 * sizeof *record);
        }
    grid_of(c, t);
    if (!t->words[CU_ITEMS] || !t->words[CU_PLANES])
        p->n_tasks--;
    return t;
}
