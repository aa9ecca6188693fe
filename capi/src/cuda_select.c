/* Choices, votes, draws and indices on a GPU: which kernels a call runs, and on what.  numbapool/cuda/families.py from Select on, in C. */
#include <inttypes.h>
#include <string.h>

#include "cuda.h"
#include "plans.h"

/* ---------------------------------------------------------------- indices */

static int place_bytes(bool wide) { return wide ? 8 : 4; }

static bool differs_by_plane(const call *k) { return k->axes[0].planes || k->axes[1].planes || k->axes[2].planes; }

/* Where chosen elements are: the caller's indices, which are of 64 bits, or places in work memory. */
typedef struct {
    bool given, wide; /* of 64 bits */
} index_kind;

/* A kernel over some operands, with nothing side by side but what the key says. */
static cuda_task *run_index(call *k, cuda_head *head, int loop, const operands *o, unsigned slots, index_kind index, bool adding, dtype t, int lanes,
                            bool channel, const cuda_launch *l)
{
    kernel_key key = {.formula = FORMULA_INDEX, .loop = loop, .dtype = (int)t, .lanes = lanes, .channel = channel, .long_index = index.given,
                      .adding = adding, .wide = index.given ? cuda_wide(head, o, slots) : index.wide};
    const cuda_row *row = cuda_pick(k, &key, index.given);
    return cuda_add(head, &key, row, o, l);
}

/* grad_x from the places that the windows over each input have chosen. */
static void gather(call *k, const operands *o, index_kind index)
{
    unsigned slots = BIT(CU_Y) | BIT(CU_INDEX) | BIT(CU_GRAD_X), sides = BIT(CU_Y) | BIT(CU_GRAD_X);
    cuda_head head = cuda_head_of(k, k->lanes);
    bool vectors = cuda_aligned(o, BIT(CU_X) | (index.given ? slots : sides));
    int lanes = cuda_lanes(k, vectors, false, k->grad_dtype, o, sides);
    run_index(k, &head, CU_INDEX_GATHER, o, slots, index, false, k->grad_dtype, lanes, k->lanes,
              &(cuda_launch){.slots = slots, .over_inputs = true, .covers = true});
}

/* A plane-shaped result that is 0 but where indices put values: slices of planes, in which the order of the values is kept. */
static void scatter_slices(call *k, const operands *o, index_kind index, bool adding, dtype t)
{
    unsigned slots = BIT(CU_Y) | BIT(CU_INDEX) | BIT(CU_GRAD_X);
    cuda_head head = cuda_head_of(k, false);
    int64_t slices = cuda_slices(product(k->x.dims, 2), product(k->x.dims + 2, 3));
    cuda_task *made = run_index(k, &head, CU_INDEX_SCATTER, o, slots, index, adding, t, 1, false,
                                &(cuda_launch){.slots = slots, .over_inputs = true, .items = slices});
    made->words[CU_SLICES] = slices;
}

/* ---------------------------------------------------------------- choices, votes and draws */

typedef struct {
    call *k;
    cuda_head head;
    operands o;
    bool values, indexed, long_index, wide, vectors;
    unsigned results;
} choice;

/* Parts of large windows: their best elements and places; false where they are not cut. */
static bool choose_parts(choice *ch, const kernel_key *like)
{
    call *k = ch->k;
    kernel_key key = *like, joined = *like;
    key.loop = CU_SELECT_PARTS;
    key.values = key.indexed = key.long_index = 0;
    joined.cut = 1;
    joined.lanes = 1;
    joined.channel = 0;
    kernel_key first = key;
    first.lanes = 1;
    first.channel = 0;
    if (!cuda_cuts(&ch->head) || !cuda_find(&first) || !cuda_find(&joined))
        return false;
    cuda_segments(&ch->head);
    int64_t parts = ch->head.across * ch->head.along;
    cuda_in_space(k, &ch->o, CU_PARTS, parts, real_bytes(k->dtype));
    cuda_in_space(k, &ch->o, CU_WORK, parts, place_bytes(ch->wide));
    const cuda_row *row = cuda_pick(k, &key, false);
    cuda_add(&ch->head, &key, row, &ch->o, &(cuda_launch){.slots = BIT(CU_X) | BIT(CU_PARTS) | BIT(CU_WORK)});
    return true;
}

static void choose(choice *ch)
{
    call *k = ch->k;
    unsigned slots = BIT(CU_X) | ch->results, views = BIT(CU_X) | (ch->values ? BIT(CU_Y) : 0);
    int lanes = cuda_lanes(k, ch->vectors, false, k->dtype, &ch->o, views);
    kernel_key key = {.formula = k->chooses, .loop = CU_SELECT_FORWARD, .dtype = (int)k->dtype, .lanes = lanes, .channel = k->lanes,
                      .wide = ch->wide, .values = ch->values, .indexed = ch->indexed, .long_index = ch->indexed && ch->long_index,
                      .per_plane = differs_by_plane(k)};
    const cuda_row *row = NULL;
    bool cut = choose_parts(ch, &key);
    if (!cut && !key.per_plane)
        row = cuda_strip(k, ch->vectors, false, &ch->o, BIT(CU_X), ch->long_index ? ch->results : 0, &key);
    key.cut = cut;
    if (!row)
        row = cuda_pick(k, &key, ch->long_index && !cut);
    cuda_add(&ch->head, &key, row, &ch->o, &(cuda_launch){.slots = slots | (cut ? BIT(CU_PARTS) | BIT(CU_WORK) : 0)});
}

/* A kernel that takes elements of a window one by one. */
static kernel_key one_by_one(const choice *ch, int loop)
{
    return (kernel_key){.formula = ch->k->chooses, .loop = loop, .dtype = (int)ch->k->dtype, .lanes = 1, .channel = ch->k->lanes, .wide = ch->wide,
                        .values = ch->values, .indexed = ch->indexed, .long_index = ch->indexed && ch->long_index};
}

static void count_votes(choice *ch)
{
    kernel_key key = one_by_one(ch, CU_VOTE_FORWARD);
    const cuda_row *row = cuda_pick(ch->k, &key, ch->long_index);
    cuda_add(&ch->head, &key, row, &ch->o, &(cuda_launch){.slots = BIT(CU_X) | ch->results});
}

static void draw(choice *ch)
{
    call *k = ch->k;
    const DLTensor *t = k->r->samples;
    unsigned slots = BIT(CU_X) | ch->results;
    double share = by_rank(k) ? rank_share(k) : 0;
    if (t) {
        real_tensor(k, t, "samples");
        view samples = tensor_view(k, t, "samples", k->out_dims, real_of(k->dtype));
        cuda_view(&ch->o, CU_PARAM, &samples);
        slots |= BIT(CU_PARAM);
    }
    kernel_key key = one_by_one(ch, by_rank(k) ? CU_DRAW_RANKED : CU_DRAW_FORWARD);
    key.sampled = t != NULL;
    const cuda_row *row = cuda_pick(k, &key, ch->long_index);
    cuda_task *made = cuda_add(&ch->head, &key, row, &ch->o, &(cuda_launch){.slots = slots, .numbers = &share, .n_numbers = by_rank(k)});
    if (!t)
        made->words[CU_SEED] = k->p.seed & 0x7FFFFFFFFFFFFFFF;
}

static void choose_or_draw(choice *ch)
{
    if (ch->k->pooling->family == FAMILY_DRAW)
        draw(ch);
    else if (ch->k->pooling->family == FAMILY_VOTE)
        count_votes(ch);
    else
        choose(ch);
}

/* The gradient with the elements chosen again. */
static void choose_again(choice *ch)
{
    call *k = ch->k;
    operands o = ch->o;
    ch->wide = cuda_wide(&ch->head, &ch->o, BIT(CU_X) | BIT(CU_Y));
    ch->vectors = cuda_aligned(&ch->o, BIT(CU_X) | BIT(CU_Y) | BIT(CU_GRAD_X));
    ch->indexed = true;
    ch->results = BIT(CU_INDEX);
    cuda_in_space(k, &ch->o, CU_INDEX, 1, place_bytes(ch->wide));
    cuda_at(&o, CU_INDEX, ch->o.address[CU_INDEX], ch->o.strides[CU_INDEX]);
    choose_or_draw(ch);
    if (differs_by_plane(k))
        scatter_slices(k, &o, (index_kind){false, ch->wide}, true, k->grad_dtype);
    else
        gather(k, &o, (index_kind){false, ch->wide});
}

static void select_backward(choice *ch)
{
    call *k = ch->k;
    const request *r = k->r;
    view grad = tensor_view(k, r->grad, "grad", k->out_dims, k->grad_dtype), grad_x = result_view(k, r->grad_x, "grad_x", k->x.dims, k->grad_dtype);
    cuda_view(&ch->o, CU_Y, &grad);
    cuda_view(&ch->o, CU_GRAD_X, &grad_x);
    if (!r->indices_in) {
        choose_again(ch);
        return;
    }
    view index = tensor_view(k, r->indices_in, "indices", k->out_dims, INT64);
    cuda_view(&ch->o, CU_INDEX, &index);
    if (k->pooling->windows == REGULAR)
        gather(k, &ch->o, (index_kind){true, false});
    else /* windows that were drawn for the forward pass: only the indices tell of them */
        scatter_slices(k, &ch->o, (index_kind){true, false}, true, k->grad_dtype);
}

void cuda_select(call *k)
{
    choice ch = {.k = k, .head = cuda_head_of(k, k->lanes)};
    cuda_drawn(k);
    cuda_view(&ch.o, CU_X, &k->x);
    if (k->r->backward) {
        select_backward(&ch);
        return;
    }
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    cuda_view(&ch.o, CU_Y, &y);
    ch.values = ch.long_index = true;
    ch.results = BIT(CU_Y);
    if (k->r->indices) {
        view index = result_view(k, k->r->indices, "indices", k->out_dims, INT64);
        cuda_view(&ch.o, CU_INDEX, &index);
        ch.indexed = true;
        ch.results |= BIT(CU_INDEX);
    }
    ch.wide = cuda_wide(&ch.head, &ch.o, BIT(CU_X) | ch.results);
    ch.vectors = cuda_aligned(&ch.o, BIT(CU_X) | ch.results);
    choose_or_draw(&ch);
}

/* ---------------------------------------------------------------- unpool */

/* x is y's plane, as for run_unpool; what an index names that is no place of the plane is left out, for nobody waits to hear of it. */
void cuda_unpool(call *k, const view *values)
{
    const request *r = k->r;
    operands o = {0};
    view index = tensor_view(k, r->indices_in, "indices", k->out_dims, INT64);
    cuda_view(&o, CU_INDEX, &index);
    if (!r->backward) {
        view y = result_view(k, r->y, "y", k->x.dims, k->dtype);
        cuda_view(&o, CU_Y, values);
        cuda_view(&o, CU_GRAD_X, &y);
        scatter_slices(k, &o, (index_kind){true, false}, false, k->dtype);
        return;
    }
    unsigned slots = BIT(CU_X) | BIT(CU_Y) | BIT(CU_INDEX);
    cuda_head head = cuda_head_of(k, k->lanes);
    view grad = tensor_view(k, r->grad, "grad", k->x.dims, k->dtype), grad_x = result_view(k, r->grad_x, "grad_x", k->out_dims, k->dtype);
    cuda_view(&o, CU_X, &grad);
    cuda_view(&o, CU_Y, &grad_x);
    run_index(k, &head, CU_INDEX_READ, &o, slots, (index_kind){true, false}, false, k->dtype, 1, k->lanes, &(cuda_launch){.slots = slots});
}
