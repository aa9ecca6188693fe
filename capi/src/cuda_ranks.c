/* Poolings by rank on a GPU: where their weights come from, and their gradient.  numbapool/cuda/ranks.py in C. */
#include <string.h>

#include "cuda.h"
#include "plans.h"

/* A call's weights: a table that is known, or what is given for each rank and the table that the device makes of it. */
typedef struct {
    call *k;
    rank_weights t;
    int formula;       /* of what is given; 0: the table is known */
    operands given;    /* CU_PARAM */
    uint64_t table;
    const void *row_of, *counts;
} ranks;

static const int64_t none[5] = {0};

static const void *shorter(context *c, const int64_t *numbers, int64_t n)
{
    int32_t *found = take(c, (size_t)n * sizeof *found);
    for (int64_t i = 0; i < n; i++)
        found[i] = (int32_t)numbers[i];
    return found;
}

static ranks ranks_of(call *k)
{
    const DLTensor *w = k->r->weight;
    ranks r = {.k = k, .t = rank_weights_of(k)};
    r.row_of = shorter(k->c, r.t.row_of, r.t.n_rows);
    if (r.t.weights)
        return r;
    r.formula = k->r->pooling == POOLING_SORT ? FORMULA_SORT : FORMULA_ORDINAL;
    r.counts = shorter(k->c, r.t.counts, r.t.n_counts);
    int64_t last = w->strides ? w->strides[w->ndim - 1] : 1, channel = r.t.rows == 1 ? 0 : w->strides ? w->strides[0] : r.t.range;
    cuda_at(&r.given, CU_PARAM, (uint64_t)(uintptr_t)w->data + w->byte_offset, (const int64_t[]){0, channel, 0, 0, last});
    r.table = cuda_space(k, r.t.n_weights, real_bytes(k->dtype));
    return r;
}

static void set_fields(const ranks *r, cuda_task *t)
{
    t->words[CU_RANKS] = r->t.ranks;
    t->words[CU_RANK_CHANNEL] = r->t.channel;
}

/* A launch that reads the table. */
static void weigh_ranks(const ranks *r, int loop, const operands *o, unsigned slots, bool backward)
{
    call *k = r->k;
    cuda_head head = cuda_head_of(k, k->lanes);
    kernel_key key = {.formula = FORMULA_SORT, .loop = loop, .dtype = (int)k->dtype, .lanes = 1, .channel = k->lanes, .wide = cuda_wide(&head, o, slots)};
    const cuda_row *row = cuda_pick(k, &key, true);
    cuda_task *made = cuda_add(&head, &key, row, o, &(cuda_launch){.slots = slots, .over_inputs = backward, .covers = backward});
    set_fields(r, made);
    cuda_set_word(k->c, made, CU_RANK_ROW, cuda_place(k->c, r->row_of, r->row_of, (size_t)r->t.n_rows * sizeof(int32_t)));
    if (r->formula)
        made->words[CU_WEIGHTS] = (int64_t)r->table;
    else
        cuda_set_word(k->c, made, CU_WEIGHTS, cuda_place(k->c, r->t.weights, r->t.weights, (size_t)r->t.n_weights * (size_t)real_bytes(k->dtype)));
}

/* A launch over a few numbers, which belong to no plane. */
static cuda_task *of_no_plane(const ranks *r, int formula, int loop, operands *o, unsigned slots, int64_t items)
{
    call *k = r->k;
    cuda_head head = cuda_head_of(k, false);
    kernel_key key = {.formula = formula, .loop = loop, .dtype = (int)k->dtype, .lanes = 1};
    const cuda_row *row = cuda_pick(k, &key, false);
    cuda_at(o, CU_PARAM, r->given.address[CU_PARAM], r->given.strides[CU_PARAM]);
    cuda_task *made = cuda_add(&head, &key, row, o, &(cuda_launch){.slots = slots | BIT(CU_PARAM), .items = items, .of_no_plane = true});
    set_fields(r, made);
    made->words[CU_GROUPS] = r->t.n_counts;
    made->words[CU_RANK_RANGE] = r->t.range;
    cuda_set_word(k->c, made, CU_RANK_COUNT, cuda_place(k->c, r->counts, r->counts, (size_t)r->t.n_counts * sizeof(int32_t)));
    return made;
}

/* What makes a table that is not known. */
static void filling(const ranks *r)
{
    operands o = {0};
    cuda_at(&o, CU_WORK, r->table, none);
    if (r->formula)
        of_no_plane(r, r->formula, CU_ORDER_WEIGHTS, &o, BIT(CU_WORK), r->t.rows * r->t.n_counts);
}

static void check_weight_gradient(const ranks *r)
{
    call *k = r->k;
    const DLTensor *t = k->r->grad_weight, *weight = k->r->weight;
    real_tensor(k, t, "grad_weight");
    if (t->ndim != weight->ndim || memcmp(t->shape, weight->shape, (size_t)t->ndim * sizeof *t->shape))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "grad_weight must have the shape of weight");
    disjoint(k, t, "grad_weight");
}

/* The gradient of what is given: sums of g times the element of each rank, over slices of the planes; over the batch; and back to the logits. */
static void learning(const ranks *r, const operands *sides)
{
    call *k = r->k;
    const DLTensor *t = k->r->grad_weight;
    int64_t block = r->t.n_counts * r->t.ranks, planes = product(k->out_dims, 2);
    int64_t slices = cuda_slices(times(planes, block), product(k->out_dims + 2, 3));
    int64_t last = t->strides ? t->strides[t->ndim - 1] : 1, channel = r->t.rows == 1 ? 0 : t->strides ? t->strides[0] : r->t.range;
    operands first = *sides, second = {0}, third = {0};
    unsigned slots = BIT(CU_X) | BIT(CU_Y);
    cuda_head flat = cuda_head_of(k, false);
    check_weight_gradient(r);
    cuda_at(&first, CU_WORK, cuda_space(k, times(times(planes, slices), block), 8), none);
    cuda_at(&second, CU_WORK, first.address[CU_WORK], none);
    cuda_at(&second, CU_PARTS, cuda_space(k, r->t.rows * block, 8), none);
    cuda_at(&third, CU_PARTS, second.address[CU_PARTS], none);
    cuda_at(&third, CU_GRAD_PARAM, (uint64_t)(uintptr_t)t->data + t->byte_offset, (const int64_t[]){0, channel, 0, 0, last});
    kernel_key key = {.formula = FORMULA_SORT, .loop = CU_ORDER_SUMS, .dtype = (int)k->dtype, .lanes = 1, .channel = k->lanes,
                      .wide = cuda_wide(&flat, sides, slots)};
    const cuda_row *row = cuda_pick(k, &key, true);
    cuda_task *made = cuda_add(&flat, &key, row, &first, &(cuda_launch){.slots = slots | BIT(CU_WORK), .items = slices * block});
    set_fields(r, made);
    made->words[CU_SLICES] = slices;
    made->words[CU_GROUPS] = r->t.n_counts;
    cuda_set_word(k->c, made, CU_RANK_ROW, cuda_place(k->c, r->row_of, r->row_of, (size_t)r->t.n_rows * sizeof(int32_t)));
    of_no_plane(r, FORMULA_SORT, CU_ORDER_TOTALS, &second, BIT(CU_WORK) | BIT(CU_PARTS), r->t.rows * block)->words[CU_SLICES] = slices;
    of_no_plane(r, r->formula, CU_ORDER_LEARN, &third, BIT(CU_PARTS) | BIT(CU_GRAD_PARAM), r->t.rows * r->t.range);
}

void cuda_order(call *k)
{
    const request *r = k->r;
    operands o = {0};
    unsigned slots = BIT(CU_X) | BIT(CU_Y) | (r->backward ? BIT(CU_GRAD_X) : 0);
    view y = r->backward ? tensor_view(k, r->grad, "grad", k->out_dims, k->dtype) : result_view(k, r->y, "y", k->out_dims, k->dtype);
    cuda_view(&o, CU_X, &k->x);
    cuda_view(&o, CU_Y, &y);
    if (r->backward) {
        view grad_x = result_view(k, r->grad_x, "grad_x", k->x.dims, k->dtype);
        cuda_view(&o, CU_GRAD_X, &grad_x);
    }
    ranks weights = ranks_of(k);
    filling(&weights);
    weigh_ranks(&weights, r->backward ? CU_ORDER_GATHER : CU_ORDER_FORWARD, &o, slots, r->backward);
    if (r->backward && r->grad_weight)
        learning(&weights, &o);
}
