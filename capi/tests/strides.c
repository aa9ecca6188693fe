/* Strides: reversed axes, gaps, axes in any order, repeated inputs, byte_offset.  Results are those of dense tensors, up to rounding, and nothing
 * between and around an output's elements is written. */
#include "poolings.h"

enum { MARGIN = 128, MARK = 0xC3 };

/* How one tensor lies: the axes from the outermost to the innermost, what to multiply the innermost strides with, rows' surplus, what is reversed. */
typedef struct {
    const char *name;
    int order[4];
    int64_t step, surplus;
    bool reversed[4];
} pattern;

static const pattern patterns[] = {
    {"row-major", {0, 1, 2, 3}, 1, 0, {false, false, false, false}},
    {"gaps", {0, 1, 2, 3}, 2, 3, {false, false, false, false}},
    {"long rows", {0, 1, 2, 3}, 1, 5, {false, false, false, false}},
    {"reversed rows", {0, 1, 2, 3}, 1, 0, {false, false, false, true}},
    {"all reversed", {0, 1, 2, 3}, 1, 1, {true, true, true, true}},
    {"channels last", {0, 2, 3, 1}, 1, 0, {false, false, false, false}},
    {"channels last, gaps", {0, 2, 3, 1}, 3, 2, {false, true, false, false}},
    {"columns first", {3, 0, 2, 1}, 1, 1, {false, false, true, false}},
    {"planes innermost", {2, 3, 1, 0}, 1, 0, {false, false, false, false}},
};

enum { PATTERNS = sizeof patterns / sizeof *patterns };

/* A copy of a tensor with other strides, and which bytes of its memory are elements. */
typedef struct {
    tensor t;
    char *memory;
    unsigned char *used;
    size_t bytes;
} strided;

static void lay(strided *s, const DLTensor *from, const pattern *p)
{
    size_t item = itemsize(from->dtype);
    int64_t stride = p->step, low = 0, high = 0;
    shaped(&s->t, from->dtype, from->ndim, from->shape);
    for (int i = from->ndim - 1; i >= 0; i--) {
        int axis = p->order[i];
        s->t.strides[axis] = p->reversed[axis] ? -stride : stride;
        *(p->reversed[axis] ? &low : &high) += s->t.strides[axis] * (from->shape[axis] - 1);
        stride = stride * from->shape[axis] + (i == from->ndim - 1 ? p->surplus * p->step : 0);
    }
    s->t.t.strides = s->t.strides;
    s->bytes = (size_t)(high - low + 1) * item + 2 * MARGIN;
    s->memory = allocate(s->bytes);
    s->used = allocate(s->bytes);
    memset(s->memory, MARK, s->bytes);
    memset(s->used, 0, s->bytes);
    s->t.t.data = s->memory + MARGIN;
    s->t.t.byte_offset = (uint64_t)(-low) * item;
    for (int64_t i = 0, n = elements(from); i < n; i++) {
        memcpy(at(&s->t.t, i), at(from, i), item);
        memset(s->used + (at(&s->t.t, i) - s->memory), 1, item);
    }
}

static bool gaps_kept(const strided *s)
{
    for (size_t i = 0; i < s->bytes; i++)
        if (!s->used[i] && (unsigned char)s->memory[i] != MARK)
            return false;
    return true;
}

/* Sums over windows may go in another order in another memory order, and no further than rounding. */
static bool near(const DLTensor *a, const DLTensor *b)
{
    double tolerance = a->dtype.code == kDLBfloat ? 2e-2 : a->dtype.bits == 16 ? 4e-3 : 2e-5;
    for (int64_t i = 0, n = elements(a); i < n; i++) {
        double u = value(a, i), v = value(b, i);
        if (!(isnan(u) && isnan(v)) && !(fabs(u - v) <= (a->dtype.code == kDLFloat || a->dtype.code == kDLBfloat ? tolerance * (1 + fabs(u)) : 0)))
            return false;
    }
    return true;
}

static void try_patterns(const operands *dense, const char *name, const pattern *inputs, const pattern *outputs)
{
    strided s[SLOTS];
    operands o = *dense;
    for (int slot = 0; slot < SLOTS; slot++) {
        bool output = is_output(slot, o.pooling, false) || is_output(slot, o.pooling, true);
        if (!dense->t[slot])
            continue;
        lay(&s[slot], dense->t[slot], dense->t[slot]->ndim == 4 ? output ? outputs : inputs : &(pattern){.order = {0, 1, 2, 3}, .step = 2});
        o.t[slot] = &s[slot].t.t;
        for (int64_t i = 0, n = output ? elements(o.t[slot]) : 0; i < n; i++)
            memset(at(o.t[slot], i), 0xFF, itemsize(o.t[slot]->dtype));
    }
    CHECK(both(&o) == NUMBAPOOL_OK, "%s, %s to %s: failed", name, inputs->name, outputs->name);
    for (int slot = 0; slot < SLOTS; slot++) {
        if (!dense->t[slot])
            continue;
        bool rough = dense->pooling->forward == idw_forward; /* a weight next to the mean depends on that mean's last bits */
        CHECK(rough || near(dense->t[slot], o.t[slot]), "%s, %s to %s: tensor %d differs from that of dense tensors", name, inputs->name, outputs->name, slot);
        CHECK(gaps_kept(&s[slot]), "%s, %s to %s: written between the elements of tensor %d", name, inputs->name, outputs->name, slot);
        free(s[slot].memory);
        free(s[slot].used);
    }
}

/* A batch of two that is the same picture, by a stride of 0. */
static void repeated(const pooling *p)
{
    input in = {.batch = 2, .channels = 3, .spatial = {9, 14}, .rank = 2, .layout = FIRST, .dtype = F32};
    operands o;
    if (p->second != NOTHING || p->windows == OWN || strstr(p->name, "stochastic")) /* every plane its own draw */
        return;
    CHECK(prepare(&o, p, &windows[1], &in, plainly), "%s: shape", p->name);
    if (p->windows == UNPOOL)
        memcpy((char *)o.t[INDICES]->data + bytes_of(o.t[INDICES]) / 2, o.t[INDICES]->data, bytes_of(o.t[INDICES]) / 2);
    memcpy((char *)o.t[GRAD]->data + bytes_of(o.t[GRAD]) / 2, o.t[GRAD]->data, bytes_of(o.t[GRAD]) / 2);
    order_axes(&o.tensors[X], (int[]){0, 1, 2, 3});
    order_axes(&o.tensors[GRAD], (int[]){0, 1, 2, 3});
    o.tensors[X].strides[0] = o.tensors[GRAD].strides[0] = 0;
    CHECK(both(&o) == NUMBAPOOL_OK, "%s: failed with a stride of 0", p->name);
    for (int slot = Y; slot <= GRAD_X; slot++)
        if (o.t[slot] && slot != GRAD)
            CHECK(!memcmp(o.t[slot]->data, (char *)o.t[slot]->data + bytes_of(o.t[slot]) / 2, bytes_of(o.t[slot]) / 2),
                  "%s: two halves of tensor %d of one picture differ", p->name, slot);
    discard(&o);
}

static void one(const pooling *p, const window *w, const input *in)
{
    operands dense;
    if (prepare(&dense, p, w, in, plainly)) {
        char name[80];
        int status = both(&dense);
        snprintf(name, sizeof name, "%s %s, window %d, %lld channels", p->name, dtype_name(in->dtype), (int)(w - windows), (long long)in->channels);
        CHECK(status == NUMBAPOOL_OK || lacking(status, &dense), "%s: status %d", name, status);
        for (int i = 0; i < PATTERNS * PATTERNS && status == NUMBAPOOL_OK; i++)
            try_patterns(&dense, name, &patterns[i / PATTERNS], &patterns[i % PATTERNS]);
    }
    discard(&dense);
}

int main(void)
{
    static const int tried[] = {0, 1, 2, 9, 14, 16}; /* of windows: each kind of loop has one */
    static const dtype dtypes[] = {F32, BF16, U8};
    static const int64_t sizes[][4] = {{2, 3, 9, 14}, {1, 20, 7, 5}};
    for (int i = 0; i < POOLINGS; i++) {
        for (size_t n = 0; n < 6; n++) {
            const int64_t *size = sizes[n % 2];
            input in = {.batch = size[0], .channels = size[1], .spatial = {size[2], size[3]}, .rank = 2, .layout = FIRST, .dtype = dtypes[n / 2]};
            for (size_t w = 0; w < sizeof tried / sizeof *tried; w++)
                one(&poolings[i], &windows[tried[w]], &in);
        }
        repeated(&poolings[i]);
    }
    return report("strides");
}
