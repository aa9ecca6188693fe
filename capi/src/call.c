/* A call from its tensors and params to its family: checks, views, windows.  What call.py and operation.py do in Python. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

#define MOST ((int64_t)1 << 48) /* elements of a tensor, and distance of two: products with item sizes stay far from 2^63 */

static const char *const dtype_names[] = {"float16", "bfloat16", "float32", "float64", "int8",   "int16", "int32",
                                          "int64",   "uint8",    "uint16",  "uint32",  "uint64", "bool"};

/* ---------------------------------------------------------------- dtypes */

int item_bytes(dtype t)
{
    static const int bytes[] = {2, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1};
    return bytes[t];
}

bool is_half(dtype t) { return t <= BFLOAT16; }

bool is_float(dtype t) { return t <= FLOAT64; }

/* numeric.real_name: integers that only selecting kernels see are what they are. */
dtype real_of(dtype t) { return is_half(t) ? FLOAT32 : t; }

int real_bytes(dtype t) { return item_bytes(real_of(t)); }

/* The dtype of a tensor, or -1. */
static int dtype_of(const DLTensor *t)
{
    int bits = t->dtype.bits, size = bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : bits == 64 ? 3 : -1;
    if (size < 0)
        return -1;
    switch (t->dtype.code) {
    case kDLInt: return INT8 + size;
    case kDLUInt: return UINT8 + size;
    case kDLFloat: return size == 1 ? FLOAT16 : size == 2 ? FLOAT32 : size == 3 ? FLOAT64 : -1;
    case kDLBfloat: return size == 1 ? BFLOAT16 : -1;
    case kDLBool: return size == 0 ? BOOL : -1;
    default: return -1;
    }
}

/* ---------------------------------------------------------------- tensors */

/* "(1, 3, 8, 8)", for messages. */
static const char *shape_text(char *text, size_t room, const int64_t *shape, int n)
{
    size_t done = 0;
    text[0] = 0;
    for (int i = 0; i < n; i++) {
        int more = snprintf(text + done, room - done, "%s%" PRId64, i ? ", " : "", shape[i]);
        if (more < 0 || (size_t)more >= room - done)
            break;
        done += (size_t)more;
    }
    return text;
}

static int64_t stride_of(const DLTensor *t, int axis)
{
    if (t->strides)
        return t->strides[axis];
    int64_t stride = 1;
    for (int i = t->ndim - 1; i > axis; i--)
        stride *= t->shape[i];
    return stride;
}

static char *memory_of(const DLTensor *t) { return (char *)t->data + t->byte_offset; }

/* First byte and one past the last one; equal where there are no elements. */
static void extent(const DLTensor *t, uintptr_t *low, uintptr_t *high)
{
    int64_t item = t->dtype.bits / 8, before = 0, after = item;
    for (int i = 0; i < t->ndim; i++) {
        int64_t reach = stride_of(t, i) * (t->shape[i] - 1) * item;
        if (t->shape[i] == 0)
            before = after = reach = 0, i = t->ndim;
        else if (reach < 0)
            before += reach;
        else
            after += reach;
    }
    *low = (uintptr_t)memory_of(t) + (uintptr_t)before;
    *high = (uintptr_t)memory_of(t) + (uintptr_t)after;
}

/* Sizes and strides: none is negative (sizes), and no distance leaves what addresses can tell. */
static void check_sizes(context *c, const DLTensor *t, const char *name)
{
    int64_t elements = 1, reach = 0;
    for (int i = 0; i < t->ndim; i++) {
        int64_t n = t->shape[i];
        if (n < 0)
            fail(c, NUMBAPOOL_VALUE_ERROR, "%s must have sizes of 0 or more, got %" PRId64, name, n);
        if (n > MOST || elements > MOST / (n > 0 ? n : 1))
            fail(c, NUMBAPOOL_VALUE_ERROR, "%s must have at most 2^48 elements", name);
        elements *= n > 0 ? n : 1;
    }
    for (int i = 0; t->strides && i < t->ndim; i++) {
        int64_t s = t->strides[i], n = t->shape[i] > 1 ? t->shape[i] - 1 : 0;
        if (n && (s > MOST || s < -MOST || (s < 0 ? -s : s) > MOST / n))
            fail(c, NUMBAPOOL_VALUE_ERROR, "%s must have strides that stay below 2^48 elements, got %" PRId64, name, s);
        reach += n * (s < 0 ? -s : s);
    }
    if (reach > MOST)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%s must have strides that stay below 2^48 elements", name);
}

void on_device(context *c, const DLTensor *x, const char *name)
{
    c->first = name;
    if (x && x->device.device_type == kDLCUDA)
        c->device = x->device.device_id < 0 ? INT32_MAX : x->device.device_id;
}

/* "on CUDA device 0", for messages. */
static const char *place_text(char *text, size_t room, int device)
{
    if (device < 0)
        snprintf(text, room, "in the CPU's memory");
    else
        snprintf(text, room, "on CUDA device %d", device);
    return text;
}

/* All tensors are where x is, but for those that a CUDA call reads on the CPU. */
static void check_place(context *c, const DLTensor *t, const char *name)
{
    int type = (int)t->device.device_type;
    char wanted[40], found[40];
    if (type != kDLCPU && type != kDLCUDA)
        fail(c, NUMBAPOOL_BUFFER_ERROR, "%s must be in the CPU's memory (kDLCPU) or a CUDA device's (kDLCUDA), got device type %d", name, type);
    bool host = c->device >= 0 && t == c->host;
    int there = type == kDLCPU ? -1 : t->device.device_id < 0 ? INT32_MAX : t->device.device_id;
    if (there != (host ? -1 : c->device))
        fail(c, NUMBAPOOL_BUFFER_ERROR, "%s must be %s, as %s is, but is %s", name, place_text(wanted, sizeof wanted, host ? -1 : c->device),
             host ? "all that the CPU reads" : c->first, place_text(found, sizeof found, there));
}

/* All that can be said of a tensor by itself; returns its dtype. */
static dtype check_tensor(context *c, const DLTensor *t, const char *name, int least, int most, bool shape_only)
{
    if (!t)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%s must not be NULL", name);
    check_place(c, t, name);
    if (t->dtype.lanes != 1)
        fail(c, NUMBAPOOL_TYPE_ERROR, "%s must have a dtype of 1 lane, got %d", name, (int)t->dtype.lanes);
    int found = dtype_of(t);
    if (found < 0)
        fail(c, NUMBAPOOL_TYPE_ERROR, "%s has a dtype that is none of the library's: code %d, %d bits", name, (int)t->dtype.code, (int)t->dtype.bits);
    if (t->ndim < least || t->ndim > most)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%s must have %d to %d axes, got %d", name, least, most, (int)t->ndim);
    if (t->ndim > 0 && !t->shape)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%s must have a shape, got NULL", name);
    check_sizes(c, t, name);
    bool empty = false;
    for (int i = 0; i < t->ndim; i++)
        empty |= t->shape[i] == 0;
    if (!t->data && !empty && !shape_only)
        fail(c, NUMBAPOOL_BUFFER_ERROR, "%s must have data, got NULL", name);
    if ((uintptr_t)memory_of(t) % (uintptr_t)item_bytes((dtype)found) && !empty)
        fail(c, NUMBAPOOL_BUFFER_ERROR, "%s must be aligned to its elements of %d bytes", name, item_bytes((dtype)found));
    return (dtype)found;
}

/* See a checked tensor as (N, C, D, H, W). */
static view view_of(const call *k, const DLTensor *t)
{
    view v = {.data = memory_of(t), .dtype = (dtype)dtype_of(t)};
    int first = t->ndim == k->ndim + 2, channel = k->last ? t->ndim - 1 : first;
    v.dims[0] = first ? t->shape[0] : 1;
    v.strides[0] = first ? stride_of(t, 0) : 0;
    v.dims[1] = t->shape[channel];
    v.strides[1] = stride_of(t, channel);
    for (int i = 0; i < 3; i++) {
        int place = i - (3 - k->ndim), at = first + !k->last + place;
        v.dims[2 + i] = place < 0 ? 1 : t->shape[at];
        v.strides[2 + i] = place < 0 ? 0 : stride_of(t, at);
    }
    for (int i = 0; i < 5; i++) /* of one element a stride may be anything */
        if (v.dims[i] <= 1 && (v.strides[i] > MOST || v.strides[i] < -MOST))
            v.strides[i] = 0;
    return v;
}

DLTensor tensor_of(const call *k, const view *v, int64_t *shape, int64_t *strides)
{
    static const uint8_t codes[] = {kDLFloat, kDLBfloat, kDLFloat, kDLFloat, kDLInt,  kDLInt, kDLInt,
                                    kDLInt,   kDLUInt,   kDLUInt,  kDLUInt,  kDLUInt, kDLBool};
    int order[5], axes = 0;
    if (k->batched)
        order[axes++] = 0;
    if (!k->last)
        order[axes++] = 1;
    for (int i = 5 - k->ndim; i < 5; i++)
        order[axes++] = i;
    if (k->last)
        order[axes++] = 1;
    for (int n = 0; n < axes; n++) {
        shape[n] = v->dims[order[n]];
        strides[n] = v->strides[order[n]];
    }
    DLDataType type = {codes[v->dtype], (uint8_t)(8 * item_bytes(v->dtype)), 1};
    return (DLTensor){v->data, k->r->x->device, axes, type, shape, strides, 0};
}

/* The shape of a result of these sizes, in the axes of x; returns how many they are. */
static int shape_for(const call *k, const int64_t dims[5], int64_t *shape)
{
    int n = 0;
    if (k->batched)
        shape[n++] = dims[0];
    if (!k->last)
        shape[n++] = dims[1];
    for (int i = 5 - k->ndim; i < 5; i++)
        shape[n++] = dims[i];
    if (k->last)
        shape[n++] = dims[1];
    return n;
}

void checked_shape(call *k, const DLTensor *t, const char *name, const int64_t dims[5])
{
    int64_t shape[5];
    int n = shape_for(k, dims, shape);
    char wanted[128], found[128];
    if (t->ndim != n || memcmp(t->shape, shape, (size_t)n * sizeof *shape))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must have shape (%s), got (%s)", name, shape_text(wanted, sizeof wanted, shape, n),
             shape_text(found, sizeof found, t->shape, t->ndim));
}

view tensor_view(call *k, const DLTensor *t, const char *name, const int64_t dims[5], dtype wanted)
{
    dtype found = check_tensor(k->c, t, name, k->ndim + k->batched + 1, k->ndim + k->batched + 1, false);
    checked_shape(k, t, name, dims);
    if (found != wanted)
        fail(k->c, NUMBAPOOL_TYPE_ERROR, "%s must have dtype %s, got %s", name, dtype_names[wanted], dtype_names[found]);
    return view_of(k, t);
}

/* Whether elements may share memory: an axis does not step over all that the axes of smaller strides reach. */
static bool repeats(const DLTensor *t)
{
    int64_t reach = 0;
    bool done[8] = {false};
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] == 0)
            return false;
    for (int turn = 0; turn < t->ndim; turn++) {
        int least = -1;
        for (int i = 0; i < t->ndim; i++)
            if (!done[i] && t->shape[i] > 1 && (least < 0 || llabs(stride_of(t, i)) < llabs(stride_of(t, least))))
                least = i;
        if (least < 0)
            break;
        done[least] = true;
        int64_t stride = llabs(stride_of(t, least));
        if (stride <= reach)
            return true;
        reach += stride * (t->shape[least] - 1);
    }
    return false;
}

static void apart(call *k, const DLTensor *out, const char *name, const DLTensor *other, const char *kind)
{
    uintptr_t low, high, start, stop;
    if (!other || other == out)
        return;
    extent(out, &low, &high);
    extent(other, &start, &stop);
    if (low < stop && start < high)
        fail(k->c, NUMBAPOOL_BUFFER_ERROR, "%s overlaps the memory of %s", name, kind);
}

void disjoint(call *k, const DLTensor *out, const char *name)
{
    const request *r = k->r;
    const DLTensor *inputs[] = {r->grad, r->x, r->logit, r->array, r->second, r->samples, r->weight, r->indices_in};
    const DLTensor *outputs[] = {r->y, r->indices, r->grad_x, r->grad_logit, r->grad_array, r->grad_second, r->grad_weight};
    if (repeats(out))
        fail(k->c, NUMBAPOOL_BUFFER_ERROR, "%s must not overlap itself", name);
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        apart(k, out, name, inputs[i], "an input");
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
        apart(k, out, name, outputs[i], "another output");
}

view result_view(call *k, const DLTensor *t, const char *name, const int64_t dims[5], dtype wanted)
{
    view v = tensor_view(k, t, name, dims, wanted);
    disjoint(k, t, name);
    return v;
}

/* ---------------------------------------------------------------- memory in between, and gradients */

view fresh_view(call *k, const int64_t dims[5], dtype t, bool channels_last)
{
    view v = {.dtype = t};
    memcpy(v.dims, dims, sizeof v.dims);
    dense(dims, channels_last, v.strides);
    if (k->c->device >= 0)
        v.data = (char *)(uintptr_t)cuda_space(k, product(dims, 5), item_bytes(t));
    else
        v.data = take(k->c, (size_t)product(dims, 5) * (size_t)item_bytes(t));
    return v;
}

static void copy_items(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, size_t item)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * to_step, from + i * from_step, item);
}

void copy_view(const view *from, const view *to)
{
    int64_t item = item_bytes(from->dtype);
    const int64_t *d = from->dims, *f = from->strides, *t = to->strides;
    for (int64_t n = 0; n < d[0]; n++)
        for (int64_t c = 0; c < d[1]; c++)
            for (int64_t z = 0; z < d[2]; z++)
                for (int64_t y = 0; y < d[3]; y++)
                    copy_items(to->data + item * (n * t[0] + c * t[1] + z * t[2] + y * t[3]), item * t[4],
                               from->data + item * (n * f[0] + c * f[1] + z * f[2] + y * f[3]), item * f[4], d[4], (size_t)item);
}

/* Whether a view lies without gaps in one of the two orders. */
static bool lies(const view *v, bool channels_last)
{
    int64_t strides[5];
    dense(v->dims, channels_last, strides);
    for (int i = 0; i < 5; i++)
        if (v->dims[i] > 1 && v->strides[i] != strides[i])
            return false;
    return true;
}

view gradient_view(call *k, const DLTensor *t, const char *name)
{
    view v = result_view(k, t, name, k->x.dims, k->grad_dtype);
    return lies(&v, k->memory_last) ? v : fresh_view(k, k->x.dims, k->grad_dtype, k->memory_last);
}

void settle_gradient(call *k, const DLTensor *t, const char *name, const view *made)
{
    view v = tensor_view(k, t, name, k->x.dims, k->grad_dtype);
    if (v.data != made->data && !k->dry)
        copy_view(made, &v);
}

/* ---------------------------------------------------------------- parameters that are tensors */

void parameter_tensor(call *k, const DLTensor *t, const char *name)
{
    dtype found = check_tensor(k->c, t, name, 0, 5, false);
    if (found != FLOAT32 && found != FLOAT64)
        fail(k->c, NUMBAPOOL_TYPE_ERROR, "%s must have dtype float32 or float64, got %s", name, dtype_names[found]);
}

void real_tensor(call *k, const DLTensor *t, const char *name)
{
    dtype found = check_tensor(k->c, t, name, 0, 5, false), wanted = real_of(k->dtype);
    if (found != wanted)
        fail(k->c, NUMBAPOOL_TYPE_ERROR, "%s must have dtype %s on a CUDA device, got %s", name, dtype_names[wanted], dtype_names[found]);
}

static char *element(const DLTensor *t, const int64_t *index)
{
    int64_t place = 0;
    for (int i = 0; i < t->ndim; i++)
        place += index[i] * stride_of(t, i);
    return memory_of(t) + place * (t->dtype.bits / 8);
}

double parameter_value(const DLTensor *t, const int64_t *index)
{
    char *at = element(t, index);
    return t->dtype.bits == 32 ? (double)*(float *)(void *)at : *(double *)(void *)at;
}

void parameter_store(const DLTensor *t, const int64_t *index, double value)
{
    char *at = element(t, index);
    if (t->dtype.bits == 32)
        *(float *)(void *)at = (float)value;
    else
        *(double *)(void *)at = value;
}

/* ---------------------------------------------------------------- params */

/* The sizes that programs know which were compiled with earlier headers: without a stream, and without the poolings that came later. */
#define FIRST_SIZE offsetof(numbapool_params, stream)
#define SECOND_SIZE offsetof(numbapool_params, r)

static bool known_size(size_t size) { return size == sizeof(numbapool_params) || size == FIRST_SIZE || size == SECOND_SIZE; }

static void set_defaults(numbapool_params *p)
{
    memset(p, 0, sizeof *p);
    p->size = sizeof *p;
    p->rank = 2;
    p->count_include_pad = p->training = p->symmetric = 1;
    p->a = p->beta = NAN;
    p->r = 1.0;
    p->p = 3.0;
    p->eps = 1e-6;
    p->temperature = 1.0;
    for (int i = 0; i < 3; i++) {
        p->padding[i] = p->padding_after[i] = -1;
        p->dilation[i] = 1;
    }
}

static void init(context *c, numbapool_params *params, size_t size)
{
    if (setjmp(c->out))
        return;
    if (!params)
        fail(c, NUMBAPOOL_VALUE_ERROR, "params must not be NULL");
    if (!known_size(size))
        fail(c, NUMBAPOOL_VALUE_ERROR, "size must be %zu, this library's sizeof(numbapool_params), got %zu", sizeof *params, size);
    numbapool_params defaults;
    set_defaults(&defaults);
    defaults.size = size;
    memcpy(params, &defaults, size);
}

int numbapool_params_init(numbapool_params *params, size_t size)
{
    context c;
    begin(&c, "numbapool_params_init", NULL, 0, false);
    init(&c, params, size);
    return c.status;
}

static void flag(context *c, int32_t value, const char *name)
{
    if (value != 0 && value != 1)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%s must be 0 or 1, got %" PRId32, name, value);
}

static void choice(context *c, int32_t value, int32_t most, const char *name)
{
    if (value < 0 || value > most)
        fail(c, NUMBAPOOL_VALUE_ERROR, "%s must be between 0 and %" PRId32 ", got %" PRId32, name, most, value);
}

/* The fields that every pooling reads. */
static void check_params(context *c, const numbapool_params *params)
{
    if (!params)
        fail(c, NUMBAPOOL_VALUE_ERROR, "params must not be NULL");
    if (!known_size(params->size))
        fail(c, NUMBAPOOL_VALUE_ERROR, "params.size must be %zu, got %zu: call numbapool_params_init first", sizeof *params, params->size);
    if (params->rank < 1 || params->rank > 3)
        fail(c, NUMBAPOOL_VALUE_ERROR, "rank must be 1, 2 or 3, got %" PRId32, params->rank);
    flag(c, params->channels_last, "channels_last");
    flag(c, params->ceil_mode, "ceil_mode");
    flag(c, params->count_include_pad, "count_include_pad");
    flag(c, params->training, "training");
    flag(c, params->overlapping, "overlapping");
    flag(c, params->pseudo_random, "pseudo_random");
    choice(c, params->form, NUMBAPOOL_GLOBAL, "form");
    choice(c, params->padding_mode, NUMBAPOOL_SAME_LOWER, "padding_mode");
    choice(c, params->norm, NUMBAPOOL_MEAN, "norm");
    choice(c, params->gradient, NUMBAPOOL_CONSTANT, "gradient");
    choice(c, params->even, NUMBAPOOL_BOTH, "even");
    if (params->size == sizeof *params) {
        flag(c, params->ignore_nan, "ignore_nan");
        flag(c, params->symmetric, "symmetric");
        choice(c, params->pad_mode, NUMBAPOOL_ZEROS, "pad_mode");
    }
    if (params->num_threads < 0)
        fail(c, NUMBAPOOL_VALUE_ERROR, "num_threads must not be negative, got %" PRId32, params->num_threads);
}

/* ---------------------------------------------------------------- a call */

void order_in_memory(const view *x, bool *lanes, bool *memory_last)
{
    bool steps = false;
    *lanes = x->dims[1] > 1 && x->strides[1] != 0;
    for (int i = 2; i < 5; i++)
        if (x->dims[i] > 1) {
            steps = true;
            *lanes &= llabs(x->strides[1]) <= llabs(x->strides[i]);
        }
    *memory_last = *lanes && steps;
}

static void make_windows(call *k)
{
    switch (k->pooling->windows) {
    case FRACTIONAL:
    case FIXED_OR_FRACTIONAL: fractional_windows(k); break;
    case SAMPLED: sampled_windows(k); break;
    case BLURRED:
    case MAX_BLURRED: blurred_windows(k); break;
    case HALVED: halved_windows(k); break;
    default: regular_windows(k);
    }
    k->out_dims[0] = k->x.dims[0];
    k->out_dims[1] = k->x.dims[1];
    for (int i = 0; i < 3; i++) {
        k->out_dims[2 + i] = k->axes[i].outputs;
        if (k->axes[i].planes)
            k->lanes = false; /* windows that differ from channel to channel: no two channels side by side */
    }
    int64_t elements = 1;
    for (int i = 0; i < 5; i++) {
        int64_t n = k->out_dims[i] > 0 ? k->out_dims[i] : 1;
        if (elements > MOST / n)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "the output must have at most 2^48 elements");
        elements *= n;
    }
}

void prepare(call *k, context *c, const request *r, bool dry)
{
    check_params(c, r->params);
    memset(k, 0, sizeof *k);
    k->c = c;
    k->r = r;
    k->pooling = &pooling_infos[r->pooling];
    set_defaults(&k->p);
    memcpy(&k->p, r->params, r->params->size);
    k->dry = dry;
    k->ndim = k->p.rank;
    k->last = k->p.channels_last;
    bool unpool_gradient = k->pooling->family == FAMILY_UNPOOL && r->backward; /* which has no x: its shape is that of the indices */
    const DLTensor *x = unpool_gradient ? r->indices_in : r->x;
    const char *name = unpool_gradient ? "indices" : "x";
    k->dtype = check_tensor(c, x, name, k->ndim + 1, k->ndim + 2, r->shape_only);
    k->chooses = k->p.ignore_nan && k->pooling->ignoring && is_float(k->dtype) ? k->pooling->ignoring : k->pooling->chooses;
    if (by_rank(k) && !k->p.training)
        k->chooses = k->pooling->formula;
    if (unpool_gradient)
        k->dtype = check_tensor(c, r->grad, "grad", k->ndim + 1, k->ndim + 2, false);
    k->grad_dtype = k->dtype;
    if (r->backward && !is_float(k->dtype) && !unpool_gradient)
        k->grad_dtype = check_tensor(c, r->grad, "grad", k->ndim + 1, k->ndim + 2, false); /* the gradient of integers is of a floating dtype */
    if (r->backward && k->pooling->family != FAMILY_UNPOOL && !is_float(k->grad_dtype))
        fail(c, NUMBAPOOL_TYPE_ERROR, "grad must be float16, bfloat16, float32 or float64, got %s", dtype_names[k->grad_dtype]);
    if (!is_float(k->dtype) && !k->pooling->integers)
        fail(c, NUMBAPOOL_TYPE_ERROR, "%s must be float16, bfloat16, float32 or float64, got %s", name, dtype_names[k->dtype]);
    k->batched = x->ndim == k->ndim + 2;
    k->x = view_of(k, x);
    order_in_memory(&k->x, &k->lanes, &k->memory_last);
}

const char *weight_name(const call *k) { return k->pooling->weight ? k->pooling->weight : "weight"; }

/* All tensors are looked at before anything is computed, whether a family reads them or not. */
static void check_outputs(call *k)
{
    const request *r = k->r;
    const DLTensor *outputs[] = {r->y, r->indices, r->grad_x, r->grad_logit, r->grad_array, r->grad_second, r->grad_weight};
    const char *const names[] = {"y", "indices", "grad_x", "grad_logit", k->pooling->array.name, k->pooling->second.name, weight_name(k)};
    for (int i = 0; i < 7; i++)
        if (outputs[i]) {
            char own[64];
            snprintf(own, sizeof own, "%s%s", i < 4 ? "" : "grad_", names[i]);
            check_tensor(k->c, outputs[i], own, 0, 5, false);
        }
}

static void check_inputs(call *k)
{
    const request *r = k->r;
    const DLTensor *inputs[] = {r->grad, r->logit, r->array, r->second, r->samples, r->weight, r->indices_in};
    const char *const names[] = {"grad", "logit", k->pooling->array.name, k->pooling->second.name, "samples", weight_name(k), "indices"};
    for (int i = 0; i < 7; i++)
        if (inputs[i])
            check_tensor(k->c, inputs[i], names[i], 0, 5, false);
}

static void shape_only(call *k)
{
    if (!k->r->shape)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "shape must not be NULL");
    if (k->pooling->family == FAMILY_UNPOOL)
        unpooled_size(k, k->out_dims + 2);
    shape_for(k, k->out_dims, k->r->shape);
}

/* The families' functions of the CPU, or of CUDA devices. */
static void run_family(call *k)
{
    bool cuda = k->c->device >= 0;
    if (k->pooling->windows == SAMPLED && !k->p.training)
        run_s3_inference(k);
    else if (k->pooling->family == FAMILY_COMPOSED)
        run_composed(k);
    else if (k->pooling->family == FAMILY_ORDER || (by_rank(k) && !k->p.training))
        (cuda ? cuda_order : run_order)(k);
    else if (k->pooling->family == FAMILY_FOLD || (k->pooling->family == FAMILY_DRAW && !k->p.training))
        (cuda ? cuda_fold : run_fold)(k);
    else if (k->pooling->family == FAMILY_VOTE)
        (cuda ? cuda_select : run_vote)(k);
    else if (k->pooling->family == FAMILY_DRAW)
        (cuda ? cuda_select : run_draw)(k);
    else
        (cuda ? cuda_select : run_select)(k);
}

void in_context(context *c, const request *r, bool dry)
{
    call k;
    prepare(&k, c, r, dry);
    check_inputs(&k);
    check_outputs(&k);
    if (c->device >= 0 && !r->shape_only && !cuda_row_count)
        fail(c, NUMBAPOOL_UNSUPPORTED, "x is on a CUDA device, but this library was built without CUDA kernels (python -m capi.build --cuda)");
    if (k.pooling->family == FAMILY_UNPOOL) {
        memcpy(k.out_dims, k.x.dims, sizeof k.out_dims);
        if (r->shape_only)
            shape_only(&k);
        else
            run_unpool(&k);
        return;
    }
    make_windows(&k);
    if (r->shape_only)
        shape_only(&k);
    else if (needs_slices(&k))
        run_slices(&k);
    else
        run_family(&k);
}

/* Run what a CUDA call has gathered; a caller's older struct has no stream. */
static void run_gathered(context *c, const numbapool_params *params, bool dry)
{
    numbapool_params whole;
    set_defaults(&whole);
    memcpy(&whole, params, params->size);
    cuda_run(c, &whole, dry);
}

enum { SMALL_CALL = 24 << 10 }; /* bytes that small calls find on the stack */

/* In a function of its own: what a setjmp's function changes in its own variables would be lost.  A caller's workspace is tried before anything is
 * computed: one that is too small leaves the outputs as they were. */
static void guarded(context *c, const request *r, bool dry)
{
    char *first = c->next;
    if (setjmp(c->out))
        return;
    if (c->fixed) {
        in_context(c, r, true);
        c->next = first;
        c->used = c->peak = 0;
    }
    in_context(c, r, dry);
    if (c->device >= 0)
        run_gathered(c, r->params, dry);
}

/* Where x, which an unpooling's backward pass has not, says that the call is done; what it reads elsewhere. */
static void place_call(context *c, const request *r)
{
    on_device(c, r->x ? r->x : r->indices_in, r->x ? "x" : "indices");
    c->host = pooling_infos[r->pooling].windows == FIXED_OR_FRACTIONAL ? r->samples : NULL; /* of windows, which are made on the CPU */
}

int run(const request *r)
{
    context c;
    char stack[SMALL_CALL];
    const numbapool_params *p = r->params && known_size(r->params->size) ? r->params : NULL;
    const DLTensor *x = r->x ? r->x : r->indices_in;
    bool cuda = x && x->device.device_type == kDLCUDA, dry = p && p->workspace_needed, own = p && p->workspace && !dry && !cuda;
    begin(&c, r->where, own ? p->workspace : stack, own ? p->workspace_size : sizeof stack, own);
    place_call(&c, r);
    guarded(&c, r, dry);
    if (c.status == NUMBAPOOL_OK && dry)
        *p->workspace_needed = cuda ? c.device_bytes : c.peak ? c.peak + 64 : 0;
    end(&c);
    return c.status;
}
