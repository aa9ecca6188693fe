/* Tensors and parameters that are wrong in every way that a caller may get them wrong: the status is the right one, the message names what is wrong,
 * nothing is read or written, and nothing crashes. */
#include "poolings.h"

static const input in = {.batch = 2, .channels = 3, .spatial = {7, 9}, .rank = 2, .layout = FIRST, .dtype = F32};

/* Memory with room behind it, so that a tensor which claims to be larger does not seem to overlap the next one. */
static void *roomy(int slot, size_t bytes)
{
    (void)slot;
    return allocate(4 * bytes + 64);
}

static const char *slot_name(int slot, const pooling *p)
{
    static const char *const names[SLOTS] = {"x",  NULL,    "y",      "indices",    "grad",       "grad_x",
                                              NULL, "alpha", "weight", "grad_alpha", "grad_weight"};
    static char text[40];
    if (names[slot])
        return names[slot];
    snprintf(text, sizeof text, "%s%s", slot == GRAD_SECOND ? "grad_" : "", p->second_name);
    return text;
}

/* Whether a direction reads or writes a tensor. */
static bool takes_part(int slot, const operands *o, bool backward)
{
    if (!o->t[slot])
        return false;
    switch (slot) {
    case Y: return !backward;
    case X: return !backward || o->pooling->windows != UNPOOL;
    case GRAD:
    case GRAD_X:
    case GRAD_SECOND:
    case GRAD_ALPHA:
    case GRAD_FILTER: return backward;
    default: return true;
    }
}

static bool untouched(const operands *o, bool backward)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (o->t[slot] && is_output(slot, o->pooling, backward))
            for (size_t i = 0, n = bytes_of(&o->tensors[slot].t); i < n; i++)
                if (((unsigned char *)o->tensors[slot].t.data)[i] != 0xFF)
                    return false;
    return true;
}

/* Whether the message says which argument, as a word of its own. */
static bool names(const char *word)
{
    const char *text = numbapool_error_message();
    size_t n = strlen(word);
    for (const char *found = text; (found = strstr(found, word)) != NULL; found += n) {
        bool begins = found == text || !strchr("abcdefghijklmnopqrstuvwxyz_", found[-1]);
        if (begins && !strchr("abcdefghijklmnopqrstuvwxyz_0123456789", found[n] ? found[n] : ' '))
            return true;
    }
    return false;
}

/* ---------------------------------------------------------------- tensors */

typedef enum {
    NO_TENSOR, SIX_AXES, NEGATIVE_AXES, COMPLEX, EIGHT_BIT_FLOAT, ODD_BITS, TWO_LANES, NO_LANES, OTHER_DTYPE, ON_A_GPU, MISALIGNED, NEGATIVE_SIZE,
    HUGE_SIZES, ONE_MORE, HUGE_STRIDE, LEAST_STRIDE, NO_DATA, NO_SHAPE, OVER_AN_INPUT, OVER_ITSELF, OVER_ANOTHER, WRONGS
} wrong;

enum { VALUE = NUMBAPOOL_VALUE_ERROR, TYPE = NUMBAPOOL_TYPE_ERROR, BUFFER = NUMBAPOOL_BUFFER_ERROR };

static const int statuses[WRONGS] = {
    [NO_TENSOR] = VALUE,      [SIX_AXES] = VALUE,     [NEGATIVE_AXES] = VALUE, [COMPLEX] = TYPE,   [EIGHT_BIT_FLOAT] = TYPE, [ODD_BITS] = TYPE,
    [TWO_LANES] = TYPE,       [NO_LANES] = TYPE,      [OTHER_DTYPE] = TYPE,    [ON_A_GPU] = BUFFER, [MISALIGNED] = BUFFER,    [NEGATIVE_SIZE] = VALUE,
    [HUGE_SIZES] = VALUE,     [ONE_MORE] = VALUE,     [HUGE_STRIDE] = VALUE,   [LEAST_STRIDE] = VALUE, [NO_DATA] = BUFFER,    [NO_SHAPE] = VALUE,
    [OVER_AN_INPUT] = BUFFER, [OVER_ITSELF] = BUFFER, [OVER_ANOTHER] = BUFFER,
};

/* Strides that the tensor has by its shape, to be changed. */
static void own_strides(tensor *t) { order_axes(t, (int[]){0, 1, 2, 3}); }

/* Do something wrong to one tensor of a call; false where it cannot be done to it. */
static bool spoil(operands *o, int slot, wrong how, bool backward)
{
    tensor *t = &o->tensors[slot];
    DLTensor *d = &t->t;
    bool output = is_output(slot, o->pooling, backward);
    int first = backward ? GRAD : X, other = backward ? GRAD_SECOND : INDICES;
    switch (how) {
    case NO_TENSOR: o->t[slot] = NULL; return true;
    case SIX_AXES: d->ndim = 6; return t->shape[4] = t->shape[5] = 1, true;
    case NEGATIVE_AXES: d->ndim = -1; return true;
    case COMPLEX: d->dtype = (DLDataType){5, 64, 1}; return true;
    case EIGHT_BIT_FLOAT: d->dtype = (DLDataType){kDLFloat, 8, 1}; return true;
    case ODD_BITS: d->dtype = (DLDataType){kDLInt, 24, 1}; return true;
    case TWO_LANES: d->dtype.lanes = 2; return true;
    case NO_LANES: d->dtype.lanes = 0; return true;
    case OTHER_DTYPE: d->dtype = slot == X || slot == INDICES ? dl(F64) : dl(I32); return slot != INDICES || o->t[slot] != NULL;
    case ON_A_GPU: memcpy(&d->device.device_type, &(int){2}, sizeof(int)); return true;
    case MISALIGNED: d->byte_offset = 1; return true;
    case NEGATIVE_SIZE: t->shape[0] = -1; return d->ndim > 0;
    case HUGE_SIZES: for (int i = 0; i < 4; i++) t->shape[i] = (int64_t)1 << 40; return d->ndim > 1;
    case ONE_MORE: t->shape[0]++; return d->ndim > 0 && !(slot == SECOND && o->pooling->second == RANKS); /* sort takes more weights than ranks */
    case HUGE_STRIDE: own_strides(t); return t->strides[0] = INT64_MAX, d->ndim > 1;
    case LEAST_STRIDE: own_strides(t); return t->strides[0] = INT64_MIN, d->ndim > 1;
    case NO_DATA: d->data = NULL; return true;
    case NO_SHAPE: d->shape = NULL; return d->ndim > 0;
    case OVER_AN_INPUT: d->data = o->t[first]->data; return output;
    case OVER_ITSELF: own_strides(t); return t->strides[1] = 0, output && d->ndim > 1;
    case OVER_ANOTHER:
        if (!output || !o->t[other] || slot == other || !is_output(other, o->pooling, backward))
            return false;
        d->data = o->t[other]->data;
        return true;
    default: return false;
    }
}

static bool may_be_null(int slot, const pooling *p)
{
    if (slot >= FILTER)
        return true;
    return (slot == SECOND && p->second != AS_X && p->second != RANKS && p->second < KERNEL) || (slot == INDICES && p->windows != UNPOOL) ||
           (slot == GRAD_SECOND && p->second != AS_X);
}

static void one_tensor(const pooling *p, bool backward, int slot, wrong how)
{
    operands o;
    void *data[SLOTS];
    CHECK(prepare(&o, p, &windows[1], &in, roomy), "%s: shape", p->name);
    if (backward && p->indexed)
        CHECK(p->forward(o.t, &o.params) == NUMBAPOOL_OK, "%s failed", p->name);
    for (int i = 0; i < SLOTS; i++)
        data[i] = o.tensors[i].t.data;
    if (slot == SECOND && p->second == AS_Y && backward)
        o.t[INDICES] = NULL; /* where there are indices, samples are not read */
    operands good = o;
    if (takes_part(slot, &o, backward) && spoil(&o, slot, how, backward)) {
        int status = (backward ? p->backward : p->forward)(o.t, &o.params);
        bool null = how == NO_TENSOR && may_be_null(slot, p);
        CHECK(null || status == statuses[how], "%s, %s: %s, wrong %d: status %d instead of %d", p->name, backward ? "backward" : "forward",
              slot_name(slot, p), (int)how, status, statuses[how]);
        /* what fits no other tensor may be any tensor's fault */
        bool ambiguous = slot == X || slot == GRAD || (backward && slot == INDICES) ? how == OTHER_DTYPE || how == ONE_MORE : how == OVER_ANOTHER;
        CHECK(null || ambiguous || names(slot_name(slot, p)), "%s, %s: wrong %d of %s: the message does not name it", p->name,
              backward ? "backward" : "forward", (int)how, slot_name(slot, p));
        for (int i = 0; i < SLOTS; i++) {
            o.tensors[i] = good.tensors[i];
            o.tensors[i].t.data = data[i];
            o.tensors[i].t.shape = o.tensors[i].shape;
            o.t[i] = good.t[i] ? &o.tensors[i].t : NULL;
        }
        CHECK(null || untouched(&o, backward), "%s, %s: wrong %d of %s: an output was written", p->name, backward ? "backward" : "forward", (int)how,
              slot_name(slot, p));
    }
    for (int i = 0; i < SLOTS; i++)
        free(data[i]);
}

/* ---------------------------------------------------------------- indices and samples */

/* Indices outside of the plane: of all elements, of one in the middle, of the last one. */
static void bad_indices(const pooling *p, const input *of, int threads)
{
    static const int64_t bad[] = {-1, INT64_MIN, INT64_MAX, (int64_t)1 << 32, 0};
    for (int i = 0; i < 15; i++) {
        operands o;
        CHECK(prepare(&o, p, &windows[1], of, plainly), "%s: shape", p->name);
        o.params.num_threads = threads;
        bool unpool = p->windows == UNPOOL;
        CHECK(p->forward(o.t, &o.params) == NUMBAPOOL_OK, "%s failed", p->name);
        int64_t n = elements(o.t[INDICES]), index = bad[i % 5] ? bad[i % 5] : plane(o.t[unpool ? Y : X], of);
        for (int64_t k = i / 5 == 0 ? 0 : i / 5 == 1 ? n / 2 : n - 1; k < n; k += i / 5 == 1 ? n : 1)
            memcpy(at(o.t[INDICES], k), &index, sizeof index);
        for (int backward = !unpool; backward < 2; backward++) {
            int status = (backward ? p->backward : p->forward)(o.t, &o.params);
            CHECK(status == NUMBAPOOL_VALUE_ERROR && names("indices"), "%s, backward %d: status %d for an index of %lld", p->name, backward, status,
                  (long long)index);
        }
        discard(&o);
    }
}

/* Samples that are no uniform numbers are refused, or harmless: indices stay in the plane. */
static void bad_samples(const pooling *p)
{
    const double bad[] = {NAN, -1, 1, 1e30, -INFINITY, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        operands o;
        CHECK(prepare(&o, p, &windows[1], &in, plainly), "%s: shape", p->name);
        for (int64_t k = 0; k < elements(o.t[SECOND]); k++)
            put(at(o.t[SECOND], k), o.t[SECOND]->dtype, bad[i]);
        int status = both(&o);
        CHECK(status == NUMBAPOOL_OK || (status == NUMBAPOOL_VALUE_ERROR && names("samples")), "%s: status %d for samples of %g", p->name, status,
              bad[i]);
        for (int64_t k = 0, n = status == NUMBAPOOL_OK ? elements(o.t[INDICES]) : 0; k < n; k++) {
            double index = value(o.t[INDICES], k);
            CHECK(index >= 0 && index < 63, "%s: an index of %g for samples of %g", p->name, index, bad[i]);
        }
        discard(&o);
    }
}

/* ---------------------------------------------------------------- parameters */

static const pooling *find(const char *name)
{
    for (int i = 0; i < POOLINGS; i++)
        if (!strcmp(poolings[i].name, name))
            return &poolings[i];
    printf("no pooling %s\n", name);
    exit(2);
}

/* Call a pooling with params that are wrong, in all of its functions. */
static void refuse(const pooling *p, operands *o, const char *what, const char *field)
{
    int64_t shape[5];
    int status = p->shape(o->t[X], &o->params, shape);
    CHECK(status == NUMBAPOOL_VALUE_ERROR || status == NUMBAPOOL_OK, "%s, shape: status %d for %s", p->name, status, what);
    for (int backward = 0; backward < 2; backward++) {
        status = (backward ? p->backward : p->forward)(o->t, &o->params);
        CHECK(status == NUMBAPOOL_VALUE_ERROR, "%s, backward %d: status %d for %s", p->name, backward, status, what);
        CHECK(names(field), "%s, backward %d: the message for %s does not name %s", p->name, backward, what, field);
        CHECK(untouched(o, backward), "%s: an output was written in spite of %s", p->name, what);
    }
}

#define BAD(of, field, statement)                                           \
    do {                                                                    \
        operands o;                                                         \
        CHECK(prepare(&o, find(of), &windows[1], &in, plainly), of ": shape"); \
        numbapool_params *p = &o.params;                                    \
        statement;                                                          \
        refuse(o.pooling, &o, #statement, field);                           \
        discard(&o);                                                        \
    } while (0)

static void bad_params(void)
{
    BAD("avg", "size", p->size = 0);
    BAD("avg", "size", p->size -= 4);
    BAD("avg", "size", p->size += 8);
    BAD("avg", "rank", p->rank = 0);
    BAD("avg", "rank", p->rank = 4);
    BAD("avg", "rank", p->rank = -2);
    BAD("avg", "channels_last", p->channels_last = 2);
    BAD("avg", "form", p->form = 3);
    BAD("sort", "form", p->form = NUMBAPOOL_GLOBAL);
    BAD("avg", "padding_mode", p->padding_mode = -1);
    BAD("avg", "ceil_mode", p->ceil_mode = 5);
    BAD("avg", "count_include_pad", p->count_include_pad = -1);
    BAD("avg", "num_threads", p->num_threads = -1);
    BAD("lp/2", "norm", p->norm = 2);
    BAD("lp/2", "norm_type", p->norm_type = 0);
    BAD("lp/2", "norm_type", p->norm_type = -1);
    BAD("lp/2", "norm_type", p->norm_type = NAN);
    BAD("gem", "p", p->p = 0);
    BAD("gem", "p", p->p = NAN);
    BAD("soft", "temperature", p->temperature = 0);
    BAD("soft", "temperature", p->temperature = -1);
    BAD("soft", "temperature", p->temperature = NAN);
    BAD("soft", "gradient", p->gradient = 2);
    BAD("stochastic", "training", p->training = 2);
    BAD("mixed, number", "a", p->a = NAN);
    BAD("mixed, number", "a", p->a = INFINITY);
    BAD("mixed, number", "a", p->a = 1e300);
    BAD("blur", "pad_mode", p->pad_mode = 3);
    BAD("dpp", "symmetric", p->symmetric = 2);
}

static void bad_windows(void)
{
    BAD("avg", "kernel_size", p->kernel_size[0] = 0);
    BAD("avg", "kernel_size", p->kernel_size[1] = -1);
    BAD("avg", "window", p->kernel_size[0] = 20);
    BAD("avg", "kernel_size", p->kernel_size[0] = INT64_MAX);
    BAD("avg", "kernel_size", p->kernel_size[0] = INT64_MIN);
    BAD("avg", "stride", p->stride[0] = -1);
    BAD("avg", "padding", p->padding[1] = 3);
    BAD("avg", "padding", p->padding_after[1] = 3);
    BAD("avg", "padding", p->padding[0] = INT64_MAX);
    BAD("avg", "padding", p->padding[0] = -2);
    BAD("avg", "dilation", p->dilation[0] = 0);
    BAD("avg", "dilation", p->dilation[1] = -3);
    BAD("avg", "output_size", (p->form = NUMBAPOOL_ADAPTIVE, p->output_size[0] = -1));
    BAD("avg", "output_size", (p->form = NUMBAPOOL_ADAPTIVE, p->output_size[0] = INT64_MAX));
    BAD("max_unpool", "kernel_size", p->kernel_size[0] = 0);
    BAD("max_unpool", "output_size", p->output_size[0] = 1000);
    BAD("max_unpool", "output_size", p->output_size[0] = -1);
    BAD("max_unpool", "stride", p->stride[1] = INT64_MIN);
}

static void bad_filters(void)
{
    BAD("blur", "filter_size", p->filter_size[0] = -1);
    BAD("blur", "filter_size", p->filter_size[1] = INT64_MAX);
    BAD("blur", "stride", p->stride[0] = -2);
    BAD("max_blur", "kernel_size", p->kernel_size[0] = 8);
    BAD("max_blur", "kernel_size", p->kernel_size[1] = -1);
    BAD("max_blur", "filter_size", p->filter_size[0] = INT64_MIN);
    BAD("gated", "padding", p->padding[1] = 3);
}

/* Parameters' tensors with numbers that are none. */
static void bad_values(const char *of, int slot, const char *name)
{
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        operands o;
        CHECK(prepare(&o, find(of), &windows[1], &in, plainly), "%s: shape", of);
        put(at(o.t[slot], 1), o.t[slot]->dtype, bad[i]);
        refuse(o.pooling, &o, name, name);
        discard(&o);
    }
}

/* A gradient of what is not there. */
static void needless_gradient(void)
{
    operands o;
    CHECK(prepare(&o, find("dpp, filter"), &windows[1], &in, plainly), "dpp: shape");
    free(o.t[FILTER]->data);
    o.t[FILTER] = NULL;
    CHECK(o.pooling->backward(o.t, &o.params) == NUMBAPOOL_VALUE_ERROR && names("grad_weight"), "dpp: grad_weight without weight");
    CHECK(untouched(&o, true), "dpp: an output was written in spite of grad_weight without weight");
    discard(&o);
}

static void bad_draws(void)
{
    static const int64_t late[] = {1, 4, 7}, falling[] = {0, 5, 4, 7}, early[] = {0, 3, 6}, same[] = {0, 3, 3, 7}, good[] = {0, 3, 9};
    static const int64_t beyond[] = {0, 6, 2}, negative[] = {-1, 1, 2}, inside[] = {0, 2, 4, 6};
    BAD("fractional_max", "pooling_ratio", p->pooling_ratio[0] = 0.5);
    BAD("fractional_max", "pooling_ratio", p->pooling_ratio[1] = NAN);
    BAD("fractional_max", "pooling_ratio", p->pooling_ratio[1] = INFINITY);
    BAD("fractional_max", "pooling_ratio", p->pooling_ratio[0] = 100);
    BAD("fractional_avg", "pooling_ratio", p->pooling_ratio[0] = 0);
    BAD("fractional_avg", "overlapping", p->overlapping = 3);
    BAD("fractional_avg", "pseudo_random", p->pseudo_random = 3);
#define SEQUENCES(a, n, b, m) (p->sequences[0] = (a), p->sequence_sizes[0] = (n), p->sequences[1] = (b), p->sequence_sizes[1] = (m))
    BAD("fractional_avg", "sequences", SEQUENCES(late, 3, good, 3));
    BAD("fractional_avg", "sequences", SEQUENCES(falling, 4, good, 3));
    BAD("fractional_avg", "sequences", SEQUENCES(early, 3, good, 3));
    BAD("fractional_avg", "sequences", SEQUENCES(same, 4, good, 3));
    BAD("fractional_avg", "sequences", SEQUENCES(NULL, 0, good, 3));
    BAD("fractional_avg", "sequence_sizes", SEQUENCES(early, 0, good, 3));
    BAD("fractional_avg", "sequence_sizes", SEQUENCES(early, -1, good, 3));
    BAD("fractional_max, kernel", "output_size", p->output_size[0] = 100);
    BAD("fractional_max, kernel", "output_size", p->output_size[0] = -1);
    BAD("fractional_max, kernel", "output_ratio", (p->output_size[0] = p->output_size[1] = 0, p->output_ratio[0] = p->output_ratio[1] = 1.5));
    BAD("fractional_max, kernel", "output_ratio", (p->output_size[0] = p->output_size[1] = 0, p->output_ratio[0] = p->output_ratio[1] = NAN));
    BAD("fractional_max, kernel", "kernel_size", p->kernel_size[0] = 8);
    BAD("s3", "grid_size", p->grid_size[0] = -1);
    BAD("s3", "kernel_size", p->kernel_size[0] = 0);
    BAD("s3", "sequences", SEQUENCES(beyond, 3, inside, 4));
    BAD("s3", "sequences", SEQUENCES(negative, 3, inside, 4));
}

/* What is not an error: empty batches without data, indices and p left out; and a NULL where params should be. */
static void edges(void)
{
    operands o;
    for (int i = 0; i < POOLINGS; i++) {
        CHECK(prepare(&o, &poolings[i], &windows[1], &in, plainly), "%s: shape", poolings[i].name);
        int64_t shape[5];
        CHECK(poolings[i].forward(o.t, NULL) == NUMBAPOOL_VALUE_ERROR && names("params"), "%s: NULL params", poolings[i].name);
        CHECK(poolings[i].backward(o.t, NULL) == NUMBAPOOL_VALUE_ERROR && names("params"), "%s: NULL params", poolings[i].name);
        CHECK(poolings[i].shape(o.t[X], NULL, shape) == NUMBAPOOL_VALUE_ERROR && names("params"), "%s: NULL params", poolings[i].name);
        CHECK(poolings[i].shape(NULL, &o.params, shape) == NUMBAPOOL_VALUE_ERROR && names("x"), "%s: NULL x", poolings[i].name);
        CHECK(poolings[i].shape(o.t[X], &o.params, NULL) == NUMBAPOOL_VALUE_ERROR && names("shape"), "%s: NULL shape", poolings[i].name);
        for (int slot = 0; slot < SLOTS; slot++)
            if (o.t[slot] && o.t[slot]->ndim == 4)
                o.t[slot]->shape[0] = 0;
        for (int slot = 0; slot < SLOTS; slot++)
            if (o.t[slot] && o.t[slot]->ndim == 4)
                free(o.t[slot]->data), o.t[slot]->data = NULL;
        if (poolings[i].second != DRAWS)
            CHECK(both(&o) == NUMBAPOOL_OK, "%s: an empty batch without data", poolings[i].name);
        discard(&o);
    }
    numbapool_params p;
    CHECK(numbapool_params_init(NULL, sizeof p) == NUMBAPOOL_VALUE_ERROR && names("params"), "NULL params");
    CHECK(numbapool_params_init(&p, 0) == NUMBAPOOL_VALUE_ERROR && names("size"), "size 0");
    CHECK(numbapool_set_num_threads(-1) == NUMBAPOOL_VALUE_ERROR && names("threads"), "-1 threads");
}

int main(void)
{
    input large = {.batch = 2, .channels = 8, .spatial = {130, 131}, .rank = 2, .layout = FIRST, .dtype = F32};
    CHECK(numbapool_error_message()[0] == 0, "a message before any failure");
    for (int i = 0; i < POOLINGS; i++)
        for (int backward = 0; backward < 2; backward++)
            for (int slot = 0; slot < SLOTS; slot++)
                for (int how = 0; how < WRONGS; how++)
                    one_tensor(&poolings[i], backward, slot, (wrong)how);
    for (int i = 0; i < POOLINGS; i++) {
        for (int l = 0; l < LAYOUTS && (poolings[i].indexed || poolings[i].windows == UNPOOL); l++) {
            input small = in;
            small.layout = large.layout = (layout)l;
            bad_indices(&poolings[i], &small, 1);
            bad_indices(&poolings[i], &large, 3);
        }
        if (poolings[i].second == AS_Y || poolings[i].second == DRAWS)
            bad_samples(&poolings[i]);
    }
    bad_params();
    bad_windows();
    bad_filters();
    bad_values("mixed, channels", SECOND, "a");
    bad_values("ada, positions", SECOND, "beta");
    bad_values("gated", SECOND, "omega");
    bad_values("dpp", SECOND, "lam");
    bad_values("dpp", ALPHA, "alpha");
    bad_values("dpp, filter", FILTER, "weight");
    needless_gradient();
    bad_draws();
    edges();
    return report("bad_tensors");
}
