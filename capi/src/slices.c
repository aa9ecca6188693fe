/* Calls that go by batch entries: composed poolings, and dtypes that a pooling has no kernels for, which are computed in a wider one.  A few entries at
 * a time are copied into memory that fits a cache, run as a call of their own, and copied back; gradients of parameters are sums over the parts. */
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "families.h"
#include "half.h"

enum { PART_BYTES = 1 << 21 }; /* of x as it is computed with, that a part aims at: with y they stay in a cache */

/* ---------------------------------------------------------------- from one dtype to another */

/* n elements at distances counted in elements. */
typedef void convert_row(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t n);

#define CONVERTED(name, source, target, value)                                                        \
    static void name(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t n)       \
    {                                                                                                 \
        const source *f = (const source *)(const void *)from;                                         \
        target *restrict t = (target *)(void *)to;                                                    \
        for (int64_t i = 0; from_step == 1 && to_step == 1 && i < n; i++) {                           \
            source v = f[i];                                                                          \
            t[i] = value;                                                                             \
        }                                                                                             \
        for (int64_t i = 0; (from_step != 1 || to_step != 1) && i < n; i++) {                         \
            source v = f[i * from_step];                                                              \
            t[i * to_step] = value;                                                                   \
        }                                                                                             \
    }

static float bfloat_value(uint16_t v)
{
    uint32_t word = (uint32_t)v << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* Rounded to nearest even, as numeric.packed_bfloat. */
static uint16_t bfloat_bits(float v)
{
    uint32_t word;
    memcpy(&word, &v, sizeof word);
    return v == v ? (uint16_t)((word + 0x7FFF + (word >> 16 & 1)) >> 16) : 0x7FC0;
}

CONVERTED(from_half, uint16_t, float, half_value(v))
CONVERTED(to_half, float, uint16_t, (uint16_t)half_bits(v))
CONVERTED(from_bfloat, uint16_t, float, bfloat_value(v))
CONVERTED(to_bfloat, float, uint16_t, bfloat_bits(v))
CONVERTED(int8_to_float, int8_t, float, (float)v)
CONVERTED(float_to_int8, float, int8_t, (int8_t)v)
CONVERTED(int16_to_float, int16_t, float, (float)v)
CONVERTED(float_to_int16, float, int16_t, (int16_t)v)
CONVERTED(uint16_to_float, uint16_t, float, (float)v)
CONVERTED(float_to_uint16, float, uint16_t, (uint16_t)v)
CONVERTED(int32_to_double, int32_t, double, (double)v)
CONVERTED(double_to_int32, double, int32_t, (int32_t)v)
CONVERTED(uint32_to_double, uint32_t, double, (double)v)
CONVERTED(double_to_uint32, double, uint32_t, (uint32_t)v)
CONVERTED(int8_to_int64, int8_t, int64_t, v)
CONVERTED(int16_to_int64, int16_t, int64_t, v)
CONVERTED(uint16_to_int64, uint16_t, int64_t, v)
CONVERTED(int32_to_int64, int32_t, int64_t, v)
CONVERTED(uint32_to_int64, uint32_t, int64_t, v)
CONVERTED(turned, uint64_t, uint64_t, v ^ (uint64_t)1 << 63) /* of the same order with a sign and without */
CONVERTED(same_octets, uint8_t, uint8_t, v)

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) static void from_half_fast(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t n)
{
    int64_t i = 0;
    for (; from_step == 1 && to_step == 1 && i + 8 <= n; i += 8)
        _mm256_storeu_ps((float *)(void *)to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(from + 2 * i))));
    from_half(from + 2 * i * from_step, from_step, to + 4 * i * to_step, to_step, n - i);
}

__attribute__((target("avx,f16c"))) static void to_half_fast(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t n)
{
    int64_t i = 0;
    for (; from_step == 1 && to_step == 1 && i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(to + 2 * i), _mm256_cvtps_ph(_mm256_loadu_ps((const float *)(const void *)from + i), 0));
    to_half(from + 4 * i * from_step, from_step, to + 2 * i * to_step, to_step, n - i);
}

__attribute__((target("avx2"))) static void from_bfloat_fast(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t n)
{
    int64_t i = 0;
    for (; from_step == 1 && to_step == 1 && i + 8 <= n; i += 8) {
        __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(from + 2 * i)));
        _mm256_storeu_si256((__m256i *)(void *)(to + 4 * i), _mm256_slli_epi32(words, 16));
    }
    from_bfloat(from + 2 * i * from_step, from_step, to + 4 * i * to_step, to_step, n - i);
}

/* Eight results in the lower halves of 32 bits. */
__attribute__((target("avx2"))) static inline __m256i eight_bfloats(const char *from)
{
    __m256 v = _mm256_loadu_ps((const float *)(const void *)from);
    __m256i word = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(word, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(word, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
    return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FC0), _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
}

__attribute__((target("avx2"))) static void to_bfloat_fast(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t n)
{
    int64_t i = 0;
    for (; from_step == 1 && to_step == 1 && i + 16 <= n; i += 16) {
        __m256i packed = _mm256_packus_epi32(eight_bfloats(from + 4 * i), eight_bfloats(from + 4 * i + 32)); /* 128 bits of each in turn */
        _mm256_storeu_si256((__m256i *)(void *)(to + 2 * i), _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
    }
    to_bfloat(from + 4 * i * from_step, from_step, to + 2 * i * to_step, to_step, n - i);
}
#endif

static convert_row *conversion(dtype from, dtype to)
{
    static const struct {
        dtype narrow, wide;
        convert_row *up, *down;
    } pairs[] = {
        {FLOAT16, FLOAT32, from_half, to_half},
        {BFLOAT16, FLOAT32, from_bfloat, to_bfloat},
        {INT8, FLOAT32, int8_to_float, float_to_int8},
        {INT16, FLOAT32, int16_to_float, float_to_int16},
        {UINT16, FLOAT32, uint16_to_float, float_to_uint16},
        {INT32, FLOAT64, int32_to_double, double_to_int32},
        {UINT32, FLOAT64, uint32_to_double, double_to_uint32},
        {INT8, INT64, int8_to_int64, NULL},
        {INT16, INT64, int16_to_int64, NULL},
        {UINT16, INT64, uint16_to_int64, NULL},
        {INT32, INT64, int32_to_int64, NULL},
        {UINT32, INT64, uint32_to_int64, NULL},
        {UINT64, INT64, turned, turned},
        {BOOL, UINT8, same_octets, same_octets},
    };
#if defined(__x86_64__)
    static convert_row *const fast[][2] = {[FLOAT16] = {to_half_fast, from_half_fast}, [BFLOAT16] = {to_bfloat_fast, from_bfloat_fast}};
    if ((is_half(from) || is_half(to)) && strcmp(numbapool_isa(), "x86-64"))
        return fast[is_half(from) ? from : to][is_half(from)];
#endif
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i].narrow == from && pairs[i].wide == to)
            return pairs[i].up;
        if (pairs[i].narrow == to && pairs[i].wide == from)
            return pairs[i].down;
    }
    return NULL; /* `wider` makes no other pairs */
}

/* Views with their axes in the order of memory, and how many threads share the rows. */
typedef struct {
    const char *from;
    char *to;
    int64_t item[2], n[5], f[5], t[5], slots;
    convert_row *row;
} conversion_job;

static void convert_part(void *argument, int64_t slot)
{
    const conversion_job *c = argument;
    int64_t rows = c->n[0] * c->n[1] * c->n[2], end = (slot + 1) * rows / c->slots;
    for (int64_t r = slot * rows / c->slots; r < end; r++) {
        int64_t k = r % c->n[2], j = r / c->n[2] % c->n[1], i = r / c->n[2] / c->n[1];
        const char *from = c->from + c->item[0] * (i * c->f[0] + j * c->f[1] + k * c->f[2]);
        char *to = c->to + c->item[1] * (i * c->t[0] + j * c->t[1] + k * c->t[2]);
        for (int64_t l = 0; l < c->n[3]; l++)
            c->row(from + c->item[0] * l * c->f[3], c->f[4], to + c->item[1] * l * c->t[3], c->t[4], c->n[4]);
    }
}

/* last: the order of the copy's memory, whichever of the two it is. */
static void convert_view(call *k, const view *from, const view *to, bool last)
{
    static const int orders[2][5] = {{0, 1, 2, 3, 4}, {0, 2, 3, 4, 1}};
    const int *order = orders[last];
    conversion_job c = {from->data, to->data, {item_bytes(from->dtype), item_bytes(to->dtype)}, .row = conversion(from->dtype, to->dtype)};
    for (int i = 0; i < 5; i++) {
        c.n[i] = from->dims[order[i]];
        c.f[i] = from->strides[order[i]];
        c.t[i] = to->strides[order[i]];
    }
    c.slots = slots_for(k, c.n[0] * c.n[1] * c.n[2], product(c.n, 5));
    if (c.slots == 1)
        convert_part(&c, 0);
    else
        run_parallel(&k->p, c.slots, convert_part, &c);
}

/* Whether a call of a half type has a kernel of its own: what follows indices, and some whole 2x2 windows in channels-first memory. */
static bool half_kernel(call *k)
{
    const request *r = k->r;
    family f = k->pooling->family;
    bool choice = f != FAMILY_FOLD, mean = k->pooling->windows == SAMPLED && !k->p.training; /* the mean is two calls that come here */
    if (f == FAMILY_UNPOOL || (choice && r->backward && r->indices_in) || mean)
        return true;
    bool option = r->backward && k->p.gradient != NUMBAPOOL_EXACT;
    if (!(formula_infos[main_formula(k)].dtypes >> k->dtype & 1) || (choice && (r->backward || r->indices)) || option || k->lanes)
        return false;
    view y = tensor_view(k, r->backward ? r->grad : r->y, r->backward ? "grad" : "y", k->out_dims, k->dtype);
    geometry g = geometry_of(k), cut_one;
    operand(&g, AT_X, k->x.strides);
    operand(&g, AT_Y, y.strides);
    mark m = marked(k->c);
    shape s = small_of(k, &g, r->backward, choice || formula_infos[main_formula(k)].plain_sum, &cut_one);
    give_back(k->c, &m);
    return s == QUAD;
}

/* The dtype that a call of the pooling is computed in: its own, or one that holds all its values in their order: floating ones have the
 * fastest kernels, but gradients of their elements have their dtype, while those of integers have one of their own. */
static dtype wider(call *k)
{
    if (is_half(k->dtype))
        return half_kernel(k) ? k->dtype : FLOAT32;
    if (formula_infos[main_formula(k)].dtypes >> k->dtype & 1)
        return k->dtype;
    if (k->dtype == BOOL)
        return UINT8;
    return k->r->backward || item_bytes(k->dtype) == 8 ? INT64 : item_bytes(k->dtype) == 4 ? FLOAT64 : FLOAT32;
}

/* ---------------------------------------------------------------- parts of a call */

/* A tensor with a batch axis as the parts see it: memory of the caller's, or a copy in another dtype.  Copies of what is read lie in their tensor's
 * order (last: channels-last), so that the call takes the loops that one in that dtype would take; copies of what is made, in x's. */
typedef struct {
    view whole, copy; /* copy.data: NULL where there is none */
    DLTensor tensor;
    int64_t shape[5], strides[5];
    bool input, last;
} part;

/* A gradient of a parameter, which is summed over the parts. */
typedef struct {
    const DLTensor *given;
    DLTensor tensor;
    int64_t strides[5], n;
    double *each, *sum;
} total;

enum { MOST_PARTS = 8, MOST_TOTALS = 3 };

typedef struct {
    call *k;
    dtype wide;
    int64_t entries; /* of the batch in a part, at most */
    part parts[MOST_PARTS];
    total totals[MOST_TOTALS];
    int n_parts, n_totals;
} slices;


/* The stand-in of a tensor; NULL of NULL. */
static DLTensor *part_of(slices *s, const DLTensor *t, const char *name, const int64_t dims[5], dtype own, bool input)
{
    call *k = s->k;
    if (!t)
        return NULL;
    part *p = &s->parts[s->n_parts++];
    p->whole = input ? tensor_view(k, t, name, dims, own) : result_view(k, t, name, dims, own);
    p->input = input;
    p->copy.data = NULL;
    dtype wide = own == k->dtype ? s->wide : own;
    if (wide != own) {
        int64_t some[5];
        memcpy(some, dims, sizeof some);
        some[0] = s->entries;
        bool lanes;
        order_in_memory(input ? &p->whole : &k->x, &lanes, &p->last);
        p->copy = fresh_view(k, some, wide, p->last);
    }
    return &p->tensor;
}

static view entries_of(const view *v, int64_t first, int64_t n)
{
    view some = *v;
    some.data += first * v->strides[0] * item_bytes(v->dtype);
    some.dims[0] = n;
    return some;
}

/* Let the stand-ins be n entries of the batch from `first` on. */
static void aim(slices *s, int64_t first, int64_t n)
{
    for (int i = 0; i < s->n_parts; i++) {
        part *p = &s->parts[i];
        view mine = p->copy.data ? entries_of(&p->copy, 0, n) : entries_of(&p->whole, first, n);
        if (p->copy.data && p->input && !s->k->dry) {
            view theirs = entries_of(&p->whole, first, n);
            convert_view(s->k, &theirs, &mine, p->last);
        }
        p->tensor = tensor_of(s->k, &mine, p->shape, p->strides);
    }
}

static void settle(slices *s, int64_t first, int64_t n)
{
    for (int i = 0; i < s->n_parts; i++) {
        part *p = &s->parts[i];
        if (p->copy.data && !p->input) {
            view mine = entries_of(&p->copy, 0, n), theirs = entries_of(&p->whole, first, n);
            convert_view(s->k, &mine, &theirs, p->last);
        }
    }
    for (int i = 0; i < s->n_totals; i++)
        for (int64_t j = 0; j < s->totals[i].n; j++)
            s->totals[i].sum[j] += s->totals[i].each[j];
}

/* The stand-in of a parameter's gradient, float64 and dense; NULL of NULL. */
static DLTensor *total_of(slices *s, const DLTensor *t, const char *parameter)
{
    call *k = s->k;
    char name[64];
    if (!t)
        return NULL;
    snprintf(name, sizeof name, "grad_%s", parameter);
    parameter_tensor(k, t, name);
    disjoint(k, t, name);
    total *g = &s->totals[s->n_totals++];
    g->given = t;
    g->n = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        g->strides[i] = g->n;
        g->n *= t->shape[i];
    }
    size_t bytes = (size_t)g->n * sizeof(double);
    g->each = take(k->c, bytes);
    g->sum = memset(take(k->c, bytes), 0, bytes);
    g->tensor = (DLTensor){g->each, t->device, t->ndim, {kDLFloat, 64, 1}, t->shape, g->strides, 0};
    return &g->tensor;
}

static void store_totals(const slices *s)
{
    for (int i = 0; i < s->n_totals; i++) {
        const total *g = &s->totals[i];
        int64_t index[5] = {0};
        for (int64_t j = 0; j < g->n; j++) {
            parameter_store(g->given, index, g->sum[j]);
            for (int a = g->given->ndim - 1; a >= 0 && ++index[a] == g->given->shape[a]; a--)
                index[a] = 0;
        }
    }
}

/* Draws go by places in the whole batch. */
static int64_t entries_at_once(const call *k, dtype wide)
{
    int64_t bytes = product(k->x.dims + 1, 4) * item_bytes(wide), n = bytes ? PART_BYTES / bytes : k->x.dims[0];
    bool drawn = (k->pooling->family == FAMILY_DRAW && k->p.training) || k->axes[0].planes || k->axes[1].planes || k->axes[2].planes;
    return drawn || n > k->x.dims[0] ? k->x.dims[0] : n > 1 ? n : 1;
}

/* What lies between the steps of a composed pooling stays in the caches, too. */
bool needs_slices(call *k)
{
    if (k->r->sliced || k->c->device >= 0)
        return false;
    return wider(k) != k->dtype || (k->pooling->family == FAMILY_COMPOSED && entries_at_once(k, k->dtype) < k->x.dims[0]);
}

void run_slices(call *k)
{
    const request *r = k->r;
    slices s = {.k = k, .wide = wider(k)};
    request sub = *r;
    s.entries = entries_at_once(k, s.wide);
    sub.sliced = true;
    sub.x = part_of(&s, r->x, "x", k->x.dims, k->dtype, true);
    sub.logit = part_of(&s, r->logit, "logit", k->x.dims, k->dtype, true);
    sub.grad = part_of(&s, r->backward ? r->grad : NULL, "grad", k->out_dims, k->grad_dtype, true);
    sub.indices_in = part_of(&s, r->indices_in, "indices", k->out_dims, INT64, true);
    sub.y = part_of(&s, r->y, "y", k->out_dims, k->dtype, false);
    sub.indices = part_of(&s, r->indices, "indices", k->out_dims, INT64, false);
    sub.grad_x = part_of(&s, r->grad_x, "grad_x", k->x.dims, k->grad_dtype, false);
    sub.grad_logit = part_of(&s, r->grad_logit, "grad_logit", k->x.dims, k->grad_dtype, false);
    sub.grad_array = total_of(&s, r->grad_array, k->pooling->array.name);
    sub.grad_second = total_of(&s, r->grad_second, k->pooling->second.name);
    sub.grad_weight = total_of(&s, r->grad_weight, weight_name(k));
    for (int64_t first = 0; first == 0 || first < k->x.dims[0]; first += s.entries) {
        int64_t n = k->x.dims[0] - first < s.entries ? k->x.dims[0] - first : s.entries;
        mark m = marked(k->c);
        aim(&s, first, n);
        in_context(k->c, &sub, k->dry);
        if (k->dry)
            return;
        settle(&s, first, n);
        give_back(k->c, &m);
        if (!s.entries)
            break;
    }
    store_totals(&s);
}
