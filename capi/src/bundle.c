/* Bundles: small planes, which a kernel takes side by side as channels.  What bundles.py does in Python. */
#include <string.h>

#include "families.h"
#include "plans.h"

static bool of_input(int slot) { return slot == AT_X || slot == AT_LOGIT || slot == AT_GRAD_X || slot == AT_GRAD_LOGIT; }

static bool is_result(int slot, bool backward)
{
    return backward ? slot == AT_GRAD_X || slot == AT_GRAD_LOGIT || slot == AT_GRAD_PARAM : slot == AT_Y || slot == AT_INDEX;
}

/* Bytes of an operand's element. */
static int64_t item_of(const call *k, int slot)
{
    if (slot == AT_INDEX)
        return 8;
    return slot == AT_PARAM || slot == AT_PARAM2 || slot == AT_GRAD_PARAM ? real_bytes(k->dtype) : item_bytes(k->dtype);
}

/* An operand's distances as lanes, and its positions; false: planes share it, and it stays where it is. */
static bool inside(const call *k, int slot, const int64_t given[5], int64_t strides[5], int64_t size[3])
{
    const int64_t *dims = of_input(slot) ? k->x.dims + 2 : k->out_dims + 2;
    memcpy(strides, given, 5 * sizeof *strides);
    if (!given[0] && !given[1])
        return false;
    for (int i = 0; i < 3; i++)
        size[i] = given[2 + i] ? dims[i] : 1;
    const int64_t own[3] = {size[1] * size[2] * BUNDLE_LANES, size[2] * BUNDLE_LANES, BUNDLE_LANES};
    strides[0] = 0;
    strides[1] = 1;
    for (int i = 0; i < 3; i++)
        strides[2 + i] = given[2 + i] ? own[i] : 0;
    return true;
}

call *in_bundles(bundle *b, call *k, geometry *g, int64_t widest, bool gradient)
{
    int64_t planes = times(k->x.dims[0], k->x.dims[1]), size = product(k->x.dims + 2, 3), outputs = product(k->out_dims + 2, 3), unused[3];
    if (is_half(k->dtype)) /* which have few kernels here: all but the loops for 2x2 windows side by side are float32's, on copies */
        return k;
    if (k->x.dims[4] >= widest || planes < BUNDLE_LANES || k->lanes || k->memory_last || differs(g) || !size)
        return k;
    if (times(BUNDLE_LANES * real_bytes(k->dtype), (1 + gradient) * size + outputs) > BUNDLE_ROOM ||
        !find_kernel(FORMULA_INDEX, false, FLOAT32, LOOP_BUNDLE))
        return k;
    *b = (bundle){.seen = *k, .whole = k, .given = *g};
    call *seen = &b->seen;
    seen->x.dims[0] = seen->out_dims[0] = 1;
    seen->x.dims[1] = seen->out_dims[1] = BUNDLE_LANES;
    seen->lanes = seen->memory_last = true;
    seen->bundle = b;
    g->channel_lanes = true;
    memcpy(g->dims, seen->x.dims, sizeof g->dims);
    for (int slot = 0; slot < OPERANDS; slot++)
        if (g->has[slot])
            inside(k, slot, b->given.strides[slot], g->strides[slot], unused);
    memcpy(seen->x.strides, g->strides[AT_X], sizeof seen->x.strides);
    return seen;
}

/* The distance of planes that have no gaps and lie at equal distances; else 0. */
static int64_t pitch_of(const int64_t strides[5], const int64_t size[3], int64_t batch, int64_t channels)
{
    const int64_t own[3] = {size[1] * size[2], size[2], 1};
    for (int i = 0; i < 3; i++)
        if (size[i] != 1 && strides[2 + i] != own[i])
            return 0;
    if (channels == 1)
        return strides[0];
    return batch == 1 || strides[0] == strides[1] * channels ? strides[1] : 0;
}

/* Put the record of an operand at `record`, its lanes at `end` in scratch memory; returns where these end, or `end` where it stays where it is. */
static int64_t put_operand(const bundle *b, int slot, const int64_t given[5], bool result, int64_t *record, int64_t end)
{
    const call *k = b->whole;
    int64_t strides[5], size[3];
    if (!inside(k, slot, given, strides, size))
        return end;
    record[AT_B_SLOT] = slot;
    record[AT_B_ITEM] = item_of(k, slot);
    record[AT_B_AT] = end;
    record[AT_B_PITCH] = pitch_of(given, size, k->x.dims[0], k->x.dims[1]);
    memcpy(record + AT_B_SIZE, size, sizeof size);
    memcpy(record + AT_B_STEP, given, sizeof strides);
    int64_t cells = product(size, 3), held = record[AT_B_ITEM] * BUNDLE_LANES * cells;
    end = rounded(end + held, 64);
    if (result && record[AT_B_PITCH] == cells && past_cache(record[AT_B_ITEM] * k->x.dims[0] * k->x.dims[1] * cells)) {
        record[AT_B_PAST] = end;
        end = rounded(end + held, 64);
    }
    return end;
}

/* Whether an operand takes part; of gradients of elements geometries say nothing. */
static bool takes_part(const bundle *b, int slot, bool backward)
{
    return b->given.has[slot] || (backward && (slot == AT_GRAD_X || (slot == AT_GRAD_LOGIT && b->given.has[AT_LOGIT])));
}

plan plan_bundles(const bundle *b, const plan *inner, bool backward, bool leaves)
{
    const call *k = b->whole;
    int64_t tasks = backward ? inner->planes : inner->rows, planes = k->x.dims[0] * k->x.dims[1], count = up(planes, BUNDLE_LANES), gradient[5];
    int64_t head[AT_B_RECORDS + AT_B_RECORD * OPERANDS] = {0}, *record = head + AT_B_RECORDS;
    dense(k->x.dims, false, gradient);
    head[AT_B_MASK] = 8 * (AT_DATA + FAULTS);
    head[AT_B_SCRATCH] = rounded(head[AT_B_MASK] + tasks, 64);
    int64_t end = head[AT_B_SCRATCH] + inner->work;
    for (int results = 0; results < 2; results++)
        for (int slot = 0; slot < OPERANDS; slot++) {
            if (is_result(slot, backward) != results || !takes_part(b, slot, backward))
                continue;
            int64_t next = put_operand(b, slot, b->given.has[slot] ? b->given.strides[slot] : gradient, results, record, end);
            if (next == end)
                continue;
            end = next;
            record += AT_B_RECORD;
            head[AT_B_OPERANDS]++;
            head[AT_B_INPUTS] += !results;
        }
    head[AT_B_PLANES] = planes;
    head[AT_B_CHANNELS] = k->x.dims[1];
    head[AT_B_LANES] = BUNDLE_LANES;
    head[AT_B_TASKS] = tasks;
    head[AT_B_MARKS] = backward ? 1 : k->out_dims[2] * k->out_dims[3];
    head[AT_B_PLAN] = record - head;
    head[AT_B_WORK] = end;
    head[AT_B_ASK] = product(k->x.dims, 5) >= ASK_FROM;
    plan made = {.size = head[AT_B_PLAN] + inner->size, .rows = count, .planes = count, .work = end, .taps = times(count, inner->taps),
                 .left = leaves ? planes * head[AT_B_MARKS] : 0};
    made.integers = take_words(k->c, made.size);
    memcpy(made.integers, head, (size_t)head[AT_B_PLAN] * sizeof *head);
    memcpy(made.integers + head[AT_B_PLAN], inner->integers, (size_t)inner->size * sizeof *head);
    return made;
}
