/* What the test programs share: checks that count failures, tensors of any dtype and memory order, reproducible random numbers. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbapool.h"

/* ---------------------------------------------------------------- checks */

#ifndef MOST_COMPLAINTS
#define MOST_COMPLAINTS 20
#endif

static int failures, skipped; /* skipped: calls that this build of the library has no kernel for */

static inline void complain(const char *file, int line, const char *format, ...)
{
    if (++failures > MOST_COMPLAINTS)
        return;
    printf("%s:%d: ", file, line);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf(" (last message: %s)\n", numbapool_error_message());
    fflush(stdout);
}

#define CHECK(condition, ...) ((condition) ? (void)0 : complain(__FILE__, __LINE__, __VA_ARGS__))

/* What a program returns. */
static inline int report(const char *program)
{
    if (failures)
        printf("%s: %d failures\n", program, failures);
    else if (skipped)
        printf("%s: ok, but for %d calls without kernels\n", program, skipped);
    else
        printf("%s: ok\n", program);
    return failures != 0;
}

static inline void *allocate(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) {
        puts("malloc failed");
        exit(2);
    }
    return memory;
}

/* ---------------------------------------------------------------- dtypes */

typedef enum { F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOLEAN, DTYPES } dtype;

static inline DLDataType dl(dtype d)
{
    static const DLDataType types[DTYPES] = {
        {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 32, 1}, {kDLFloat, 64, 1}, {kDLInt, 8, 1},   {kDLInt, 16, 1}, {kDLInt, 32, 1},
        {kDLInt, 64, 1},   {kDLUInt, 8, 1},    {kDLUInt, 16, 1},  {kDLUInt, 32, 1},  {kDLUInt, 64, 1}, {kDLBool, 8, 1},
    };
    return types[d];
}

static inline size_t itemsize(DLDataType type) { return type.bits / 8U; }

static inline const char *dtype_name(dtype d)
{
    static const char *const names[DTYPES] = {"float16", "bfloat16", "float32", "float64", "int8",   "int16", "int32",
                                              "int64",   "uint8",    "uint16",  "uint32",  "uint64", "bool"};
    return names[d];
}

/* float16, by hand: not every compiler has the type. */
static inline double half_value(uint16_t h)
{
    int exponent = (h >> 10) & 31, fraction = h & 1023;
    double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                      : ldexp(fraction, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

/* The float16 below a moderate number, which is near enough for data. */
static inline uint16_t half_of(double v)
{
    int exponent;
    double m = frexp(fabs(v), &exponent); /* 1/2 <= m < 1 */
    unsigned sign = v < 0 ? 0x8000 : 0;
    if (v == 0.0 || exponent < -13)
        return (uint16_t)sign;
    return (uint16_t)(sign | ((unsigned)(exponent + 14) << 10) | ((unsigned)(m * 2048) & 1023));
}

static inline double get(const void *p, DLDataType type)
{
    union { int8_t i8; int16_t i16; int32_t i32; int64_t i64; uint8_t u8; uint16_t u16; uint32_t u32; uint64_t u64; float f; double d; } v = {0};
    memcpy(&v, p, itemsize(type));
    switch (type.code * 256 + type.bits) {
    case kDLFloat * 256 + 16: return half_value(v.u16);
    case kDLFloat * 256 + 32: return (double)v.f;
    case kDLFloat * 256 + 64: return v.d;
    case kDLBfloat * 256 + 16: v.u32 = (uint32_t)v.u16 << 16; return (double)v.f;
    case kDLInt * 256 + 8: return v.i8;
    case kDLInt * 256 + 16: return v.i16;
    case kDLInt * 256 + 32: return v.i32;
    case kDLInt * 256 + 64: return (double)v.i64;
    case kDLUInt * 256 + 16: return v.u16;
    case kDLUInt * 256 + 32: return v.u32;
    case kDLUInt * 256 + 64: return (double)v.u64;
    default: return v.u8;
    }
}

static inline void put(void *p, DLDataType type, double value)
{
    if (type.code == kDLFloat && type.bits == 64) {
        memcpy(p, &value, 8);
    } else if (type.code == kDLFloat && type.bits == 32) {
        float f = (float)value;
        memcpy(p, &f, 4);
    } else if (type.code == kDLFloat) {
        uint16_t h = half_of(value);
        memcpy(p, &h, 2);
    } else if (type.code == kDLBfloat) {
        float f = (float)value;
        uint32_t bits;
        memcpy(&bits, &f, 4);
        uint16_t high = (uint16_t)(bits >> 16);
        memcpy(p, &high, 2);
    } else {
        uint64_t bits = (uint64_t)(int64_t)value; /* the low bytes come first on every machine that the library is built for */
        memcpy(p, &bits, itemsize(type));
    }
}

/* ---------------------------------------------------------------- random numbers */

static inline uint32_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*state >> 33);
}

static inline double uniform(uint64_t *state) { return draw(state) / 2147483648.0; }

/* ---------------------------------------------------------------- tensors */

/* A DLTensor with room for its shape and strides; it is not to be copied, as it points into itself. */
typedef struct {
    DLTensor t;
    int64_t shape[6], strides[6];
} tensor;

static inline int64_t elements(const DLTensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

static inline size_t bytes_of(const DLTensor *t) { return (size_t)elements(t) * itemsize(t->dtype); }

/* A dense tensor in row-major order; its strides are NULL. */
static inline DLTensor *shaped(tensor *t, DLDataType type, int ndim, const int64_t *shape)
{
    memset(t, 0, sizeof *t);
    t->t = (DLTensor){.device = {kDLCPU, 0}, .ndim = ndim, .dtype = type, .shape = t->shape};
    for (int i = 0; i < ndim; i++)
        t->shape[i] = shape[i];
    return &t->t;
}

/* Strides of the row-major order of the axes as `order` lists them. */
static inline void order_axes(tensor *t, const int *order)
{
    int64_t stride = 1;
    for (int i = t->t.ndim - 1; i >= 0; i--) {
        t->strides[order[i]] = stride;
        stride *= t->shape[order[i]];
    }
    t->t.strides = t->strides;
}

/* Channels-last memory under a shape with the channels first: (N, C, spatial...), or (C, spatial...). */
static inline void channels_last_memory(tensor *t, int rank)
{
    int order[6] = {0}, n = 0, channel = t->t.ndim - rank - 1;
    for (int i = 0; i < t->t.ndim; i++)
        if (i != channel)
            order[n++] = i;
    order[n] = channel;
    order_axes(t, order);
}

/* The address of the element with the row-major number `flat`. */
static inline char *at(const DLTensor *t, int64_t flat)
{
    int64_t offset = 0, stride = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        int64_t position = flat % t->shape[i];
        flat /= t->shape[i];
        offset += position * (t->strides ? t->strides[i] : stride);
        stride *= t->shape[i];
    }
    return (char *)t->data + t->byte_offset + offset * (int64_t)itemsize(t->dtype);
}

static inline double value(const DLTensor *t, int64_t flat) { return get(at(t, flat), t->dtype); }

/* Numbers that every dtype and pooling can take: floats in [low, low + 4), integers in [0, 100), true and false. */
static inline void fill_random(const DLTensor *t, uint64_t seed, double low)
{
    uint64_t state = seed * 2654435761U + 99;
    draw(&state);
    for (int64_t i = 0, n = elements(t); i < n; i++) {
        double u = uniform(&state);
        bool real = t->dtype.code == kDLFloat || t->dtype.code == kDLBfloat;
        put(at(t, i), t->dtype, real ? low + 4 * u : floor(u * (t->dtype.code == kDLBool ? 2 : 100)));
    }
}

#endif
