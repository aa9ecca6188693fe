/* Pooling in programs that XLA compiles: one handler for every function of numbapool.h, by XLA's typed foreign function interface.
 *
 * Attributes say which function is called ("function"), which of the operands, or of the results (from 100 on), each of its tensors is, or -1 for NULL
 * ("tensors"), and what params holds: an array for each field by its name.  "seed_at" and "value_at" name the operands that hold the seed and, for
 * "value_of", a parameter that is one number.  Indices of 32 bits, as JAX has them without jax_enable_x64, are copied to and from 64.
 */
#include <cfenv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "numbapool.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

struct function_entry {
    const char *name;
    void *address;
    const char *arguments; /* of its tensors, in order */
};

struct field_entry {
    const char *name;
    size_t offset;
    char kind; /* i: int32_t, l: int64_t, d: double */
    size_t count;
};

#include "jax_tables.h" /* written by the build: functions and fields */

constexpr int64_t RESULTS = 100;
constexpr size_t MOST = 9;

/* XLA's threads take subnormal numbers for zeros; kernels count on them. */
class subnormals {
    fenv_t before;

public:
    subnormals()
    {
        fegetenv(&before);
        fesetenv(FE_DFL_ENV);
    }
    ~subnormals() { fesetenv(&before); }
};

bool dlpack_type(ffi::DataType t, DLDataType *found)
{
    switch (t) {
    case ffi::DataType::F16: *found = {2, 16, 1}; return true;
    case ffi::DataType::BF16: *found = {4, 16, 1}; return true;
    case ffi::DataType::F32: *found = {2, 32, 1}; return true;
    case ffi::DataType::F64: *found = {2, 64, 1}; return true;
    case ffi::DataType::S8: *found = {0, 8, 1}; return true;
    case ffi::DataType::S16: *found = {0, 16, 1}; return true;
    case ffi::DataType::S32: *found = {0, 32, 1}; return true;
    case ffi::DataType::S64: *found = {0, 64, 1}; return true;
    case ffi::DataType::U8: *found = {1, 8, 1}; return true;
    case ffi::DataType::U16: *found = {1, 16, 1}; return true;
    case ffi::DataType::U32: *found = {1, 32, 1}; return true;
    case ffi::DataType::U64: *found = {1, 64, 1}; return true;
    case ffi::DataType::PRED: *found = {6, 8, 1}; return true;
    default: return false;
    }
}

ffi::Error wrong(const std::string &message) { return ffi::Error(ffi::ErrorCode::kInvalidArgument, message); }

ffi::Error failed(int status)
{
    ffi::ErrorCode code = status == NUMBAPOOL_MEMORY_ERROR ? ffi::ErrorCode::kResourceExhausted
                          : status == NUMBAPOOL_UNSUPPORTED ? ffi::ErrorCode::kUnimplemented
                                                            : ffi::ErrorCode::kInvalidArgument;
    return ffi::Error(code, numbapool_error_message());
}

/* A tensor of a call: over a buffer, or over a copy with wider indices. */
struct tensor {
    DLTensor t{};
    std::vector<int64_t> wide;
    int32_t *narrow = nullptr; /* where a result goes in the end */
};

ffi::Error describe(const ffi::AnyBuffer &buffer, bool indices, bool result, tensor *made)
{
    DLTensor &t = made->t;
    t.data = buffer.untyped_data();
    t.device = {kDLCPU, 0};
    t.ndim = static_cast<int>(buffer.dimensions().size());
    t.shape = const_cast<int64_t *>(buffer.dimensions().begin());
    if (!dlpack_type(buffer.element_type(), &t.dtype))
        return wrong("numbapool: XLA passed a dtype that there are no kernels for");
    if (indices && buffer.element_type() == ffi::DataType::S32) {
        int32_t *narrow = static_cast<int32_t *>(t.data);
        size_t n = buffer.element_count();
        if (result) {
            made->wide.resize(n + 1);
            made->narrow = narrow;
        } else {
            made->wide.assign(narrow, narrow + n);
            made->wide.push_back(0);
        }
        t.data = made->wide.data();
        t.dtype = {0, 64, 1};
    }
    return ffi::Error::Success();
}

const function_entry *find(std::string_view name)
{
    for (const function_entry &f : functions)
        if (name == f.name)
            return &f;
    return nullptr;
}

bool is_indices(const function_entry *f, size_t place)
{
    const char *at = f->arguments;
    for (; place; place--)
        at = std::strchr(at, ' ') + 1;
    return std::strncmp(at, "indices", 7) == 0 && (at[7] == ' ' || at[7] == '\0');
}

/* A number of an operand, of any dtype that JAX gives it. */
double number_of(const ffi::AnyBuffer &b)
{
    return b.element_type() == ffi::DataType::F64 ? *static_cast<double *>(b.untyped_data()) : *static_cast<float *>(b.untyped_data());
}

int64_t seed_of(const ffi::AnyBuffer &b)
{
    uint64_t seed = 0;
    if (b.element_count() == 2) { /* two words of 32 bits */
        const uint32_t *words = static_cast<const uint32_t *>(b.untyped_data());
        seed = words[0] | static_cast<uint64_t>(words[1]) << 32;
    } else {
        switch (b.element_type()) {
        case ffi::DataType::S8: seed = static_cast<uint64_t>(*static_cast<int8_t *>(b.untyped_data())); break;
        case ffi::DataType::S16: seed = static_cast<uint64_t>(*static_cast<int16_t *>(b.untyped_data())); break;
        case ffi::DataType::S32: seed = static_cast<uint64_t>(*static_cast<int32_t *>(b.untyped_data())); break;
        case ffi::DataType::U8: seed = *static_cast<uint8_t *>(b.untyped_data()); break;
        case ffi::DataType::U16: seed = *static_cast<uint16_t *>(b.untyped_data()); break;
        case ffi::DataType::U32: seed = *static_cast<uint32_t *>(b.untyped_data()); break;
        default: seed = *static_cast<uint64_t *>(b.untyped_data());
        }
    }
    return static_cast<int64_t>(seed & INT64_MAX);
}

void set(numbapool_params *p, const field_entry &f, size_t i, double real, int64_t whole)
{
    char *at = reinterpret_cast<char *>(p) + f.offset;
    if (f.kind == 'd')
        reinterpret_cast<double *>(at)[i] = real;
    else if (f.kind == 'l')
        reinterpret_cast<int64_t *>(at)[i] = whole;
    else
        reinterpret_cast<int32_t *>(at)[i] = static_cast<int32_t>(whole);
}

ffi::Error read_fields(const ffi::Dictionary &attributes, numbapool_params *p)
{
    for (const field_entry &f : fields) {
        if (!attributes.contains(f.name))
            continue;
        if (f.kind == 'd') {
            auto values = attributes.get<ffi::Span<const double>>(f.name);
            for (size_t i = 0; values.has_value() && i < values->size() && i < f.count; i++)
                set(p, f, i, values->begin()[i], 0);
        } else {
            auto values = attributes.get<ffi::Span<const int64_t>>(f.name);
            for (size_t i = 0; values.has_value() && i < values->size() && i < f.count; i++)
                set(p, f, i, 0, values->begin()[i]);
        }
    }
    return ffi::Error::Success();
}

template <size_t... I> int invoke(void *f, DLTensor *const *t, const numbapool_params *p, std::index_sequence<I...>)
{
    using type = int (*)(decltype(static_cast<void>(I), static_cast<DLTensor *>(nullptr))..., const numbapool_params *);
    return reinterpret_cast<type>(f)(t[I]..., p);
}

int invoke_by_count(void *f, size_t n, DLTensor *const *t, const numbapool_params *p)
{
    switch (n) {
    case 2: return invoke(f, t, p, std::make_index_sequence<2>());
    case 3: return invoke(f, t, p, std::make_index_sequence<3>());
    case 4: return invoke(f, t, p, std::make_index_sequence<4>());
    case 5: return invoke(f, t, p, std::make_index_sequence<5>());
    case 6: return invoke(f, t, p, std::make_index_sequence<6>());
    case 7: return invoke(f, t, p, std::make_index_sequence<7>());
    case 8: return invoke(f, t, p, std::make_index_sequence<8>());
    default: return invoke(f, t, p, std::make_index_sequence<9>());
    }
}

ffi::Error pool(ffi::RemainingArgs operands, ffi::RemainingRets results, ffi::Dictionary attributes)
{
    auto name = attributes.get<std::string_view>("function");
    auto places = attributes.get<ffi::Span<const int64_t>>("tensors");
    const function_entry *f = name.has_value() ? find(*name) : nullptr;
    if (!f || !places.has_value() || places->size() < 2 || places->size() > MOST)
        return wrong("numbapool: the library has no function " + std::string(name.has_value() ? *name : ""));
    numbapool_params params;
    numbapool_params_init(&params, sizeof params);
    if (auto error = read_fields(attributes, &params); error.failure())
        return error;
    auto seed_at = attributes.get<int64_t>("seed_at"), value_at = attributes.get<int64_t>("value_at");
    if (seed_at.has_value() && *seed_at >= 0)
        params.seed = seed_of(*operands.get<ffi::AnyBuffer>(static_cast<size_t>(*seed_at)));
    if (auto field = attributes.get<std::string_view>("value_of"); field.has_value() && value_at.has_value() && *value_at >= 0)
        for (const field_entry &e : fields)
            if (*field == e.name)
                set(&params, e, 0, number_of(*operands.get<ffi::AnyBuffer>(static_cast<size_t>(*value_at))), 0);
    tensor made[MOST];
    DLTensor *given[MOST];
    for (size_t i = 0; i < places->size(); i++) {
        int64_t place = places->begin()[i];
        given[i] = nullptr;
        if (place < 0)
            continue;
        ffi::Error error = ffi::Error::Success();
        if (place < RESULTS)
            error = describe(*operands.get<ffi::AnyBuffer>(static_cast<size_t>(place)), is_indices(f, i), false, &made[i]);
        else
            error = describe(**results.get<ffi::AnyBuffer>(static_cast<size_t>(place - RESULTS)), is_indices(f, i), true, &made[i]);
        if (error.failure())
            return error;
        given[i] = &made[i].t;
    }
    int status;
    {
        subnormals kept;
        status = invoke_by_count(f->address, places->size(), given, &params);
    }
    if (status)
        return failed(status);
    for (tensor &t : made)
        for (size_t i = 0; t.narrow && i + 1 < t.wide.size(); i++)
            t.narrow[i] = static_cast<int32_t>(t.wide[i]);
    return ffi::Error::Success();
}

} // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT XLA_FFI_Error *numbapool_jax(XLA_FFI_CallFrame *frame);
XLA_FFI_DEFINE_HANDLER_SYMBOL(numbapool_jax, pool, ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attrs());

/* The tensors of a function, by name and in order; NULL where there is none. */
EXPORT const char *numbapool_jax_arguments(const char *name);
const char *numbapool_jax_arguments(const char *name)
{
    const function_entry *f = find(name);
    return f ? f->arguments : nullptr;
}

/* Whether params has a field, of integers (1) or of real numbers (2), or none (0). */
EXPORT int numbapool_jax_field(const char *name);
int numbapool_jax_field(const char *name)
{
    for (const field_entry &f : fields)
        if (std::strcmp(name, f.name) == 0)
            return f.kind == 'd' ? 2 : 1;
    return 0;
}

EXPORT const char *numbapool_jax_version();
const char *numbapool_jax_version() { return numbapool_version(); }
