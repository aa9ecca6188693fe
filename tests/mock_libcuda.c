/* A stand-in for the CUDA driver.  Device memory is host memory, and a kernel is whatever the hook does on the CPU.

   It is stricter than a GPU: what is queued on a stream happens only when that stream has to get there (another stream that
   reads the memory too early sees it as it was), fresh memory is NaN, memory has guards on both sides, and a handle of another
   device is refused.  Captured work is logged and never happens.  Not modelled: graphs, events, kernels loaded on first use.

   cc -std=gnu11 -O2 -Wall -Wextra -Wconversion -Werror -shared -fPIC -pthread mock_libcuda.c -o libcuda.so.1 */
#define _GNU_SOURCE
#include <elf.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES = 8, DEPTH = 64, GUARD = 256, GUARD_BYTE = 0xA5, FREED_BYTE = 0xDD };
enum { NONE, ACTIVE, INVALIDATED };  /* states of a capture */
enum { RELAXED = 2 };                /* a thread's capture mode */

typedef enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
    CAPTURE_IMPLICIT = 906
} Result;

static const struct { int code; const char *name, *text; } errors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
};

/* ---------------------------------------------------------------- state, all of it under one lock */

struct context { int device; long retained; };
struct module { char *image; size_t size; };
struct function { struct function *next; struct module *module; char *name; int device; };
struct write { struct write *next; uint64_t to; size_t size; unsigned char *data; };
struct stream { struct stream *next; int device; bool blocking; int capture; struct write *first, **last; };
struct memory { struct memory *next; unsigned char *base; uint64_t address; size_t size; int device; };
struct launch {
    const char *name; unsigned grid[3], block; void *stream; int device, captured; size_t bytes; void *parameters;
};
typedef void Hook(const char *name, unsigned gx, unsigned gy, unsigned gz, unsigned block, const void *parameters, size_t bytes,
                  int device, void *stream);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool initialised, forked, poison = true;
static int version = 13000, init_result = SUCCESS, device_count = 2;
static struct { int major, minor, processors; } properties[DEVICES];
static struct context contexts[DEVICES];
static struct function *functions;
static struct stream legacy[DEVICES], per_thread[DEVICES], *streams;
static struct memory *memories;
static struct launch *launches;
static size_t launched, room;
static long live, bad_frees, overruns;
static Hook *hook;
static _Thread_local struct { int depth; struct context *at[DEPTH]; } stack;
static _Thread_local int mode;

#define FUNCTIONS(X) \
    X(cuInit) X(cuDriverGetVersion) X(cuGetErrorName) X(cuGetErrorString) \
    X(cuDeviceGet) X(cuDeviceGetCount) X(cuDeviceGetName) X(cuDeviceGetAttribute) X(cuDevicePrimaryCtxRetain) \
    X(cuDevicePrimaryCtxRelease_v2) X(cuCtxGetCurrent) X(cuCtxSetCurrent) X(cuCtxPushCurrent_v2) X(cuCtxPopCurrent_v2) \
    X(cuCtxGetDevice) X(cuCtxSynchronize) X(cuModuleLoadData) X(cuModuleGetFunction) X(cuLaunchKernel) X(cuMemAlloc_v2) \
    X(cuMemFree_v2) X(cuMemAllocAsync) X(cuMemFreeAsync) X(cuMemsetD32Async) X(cuMemcpyHtoD_v2) X(cuMemcpyDtoH_v2) X(cuMemcpyHtoDAsync_v2) X(cuMemsetD8Async) X(cuPointerGetAttribute) \
    X(cuStreamCreate) X(cuStreamDestroy_v2) X(cuStreamSynchronize) X(cuStreamIsCapturing) X(cuThreadExchangeStreamCaptureMode)
#define NUMBER(name) AT_##name,
#define ENTRY(name) {#name, 0, SUCCESS, 0},
enum { FUNCTIONS(NUMBER) ENTRIES };
static struct { const char *name; long calls; int code; long after; } entries[ENTRIES] = { FUNCTIONS(ENTRY) };

static Result leave(Result result)
{
    pthread_mutex_unlock(&lock);
    return result;
}

/* Take the lock; a result other than SUCCESS is to be returned, after leave(). */
static Result enter(int at)
{
    pthread_mutex_lock(&lock);
    entries[at].calls++;
    if (entries[at].code && entries[at].after-- == 0) {
        Result code = (Result)entries[at].code;
        entries[at].code = SUCCESS;
        return code;
    }
    return initialised || at <= AT_cuGetErrorString ? SUCCESS : NOT_INITIALIZED;
}

#define ENTER(name) do { Result entered = enter(AT_##name); if (entered) return leave(entered); } while (0)
#define CHECK(test, code) do { if (!(test)) return leave(code); } while (0)
#define TRY(expression) do { Result tried = (expression); if (tried) return leave(tried); } while (0)

/* As the driver's state, ours does not work in a child; the lock may be held by a thread that was not forked along. */
static void after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
    forked = initialised;
    initialised = false;
}

__attribute__((constructor)) static void start(void)
{
    int major = 9, minor = 0;
    const char *text = getenv("MOCK_CUDA_CAPABILITY");  /* such as 8.6 */
    if (text && sscanf(text, "%d.%d", &major, &minor) != 2)
        abort();
    for (int d = 0; d < DEVICES; d++) {
        properties[d].major = major;
        properties[d].minor = minor;
        properties[d].processors = 132;
        contexts[d].device = legacy[d].device = per_thread[d].device = d;
        legacy[d].blocking = per_thread[d].blocking = true;
        legacy[d].last = &legacy[d].first;
        per_thread[d].last = &per_thread[d].first;
    }
    pthread_atfork(NULL, NULL, after_fork);
}

/* ---------------------------------------------------------------- memory and streams */

static struct memory *memory_at(uint64_t address)
{
    for (struct memory *m = memories; m; m = m->next)
        if (address >= m->address && address - m->address < m->size)
            return m;
    return NULL;
}

static bool within(uint64_t address, size_t size)
{
    struct memory *m = memory_at(address);
    return size == 0 || (m && size <= m->size - (address - m->address));
}

static uint64_t new_memory(size_t size, int device)
{
    size_t whole = (size + GUARD - 1) / GUARD * GUARD + 2 * GUARD;
    struct memory *m = malloc(sizeof *m);
    unsigned char *base = size < SIZE_MAX / 4 ? aligned_alloc(GUARD, whole) : NULL;
    if (!m || !base) {
        free(m);
        free(base);
        return 0;
    }
    memset(base, GUARD_BYTE, whole);
    memset(base + GUARD, poison ? 0xFF : 0, size);
    *m = (struct memory){memories, base, (uint64_t)(uintptr_t)(base + GUARD), size, device};
    memories = m;
    live++;
    return m->address;
}

static bool intact(const struct memory *m)
{
    size_t padded = (m->size + GUARD - 1) / GUARD * GUARD;
    for (size_t i = 0; i < GUARD; i++)
        if (m->base[i] != GUARD_BYTE)
            return false;
    for (size_t i = m->size; i < padded + GUARD; i++)
        if (m->base[GUARD + i] != GUARD_BYTE)
            return false;
    return true;
}

static bool end_memory(uint64_t address, int device)
{
    for (struct memory **at = &memories; *at; at = &(*at)->next) {
        struct memory *m = *at;
        if (m->address != address || m->device != device)
            continue;
        overruns += !intact(m);
        *at = m->next;
        memset(m->base, FREED_BYTE, m->size + 2 * GUARD);
        free(m->base);
        free(m);
        live--;
        return true;
    }
    bad_frees++;
    return false;
}

static void drain(struct stream *s)
{
    while (s->first) {
        struct write *w = s->first;
        s->first = w->next;
        if (within(w->to, w->size))
            memcpy((void *)(uintptr_t)w->to, w->data, w->size);
        free(w->data);
        free(w);
    }
    s->last = &s->first;
}

/* Everything that precedes the next operation of a stream: the legacy stream and blocking ones wait for each other. */
static void settle(struct stream *s)
{
    if (s == &legacy[s->device]) {
        drain(&per_thread[s->device]);
        for (struct stream *other = streams; other; other = other->next)
            if (other->blocking && other->device == s->device)
                drain(other);
    } else if (s->blocking) {
        drain(&legacy[s->device]);
    }
    drain(s);
}

static void settle_device(int device)
{
    settle(&legacy[device]);
    for (struct stream *s = streams; s; s = s->next)
        if (s->device == device)
            drain(s);
}

static Result queue(struct stream *s, uint64_t to, const void *from, unsigned word, size_t size)
{
    if (!within(to, size))
        return INVALID_VALUE;
    if (s->capture)
        return SUCCESS;
    struct write *w = malloc(sizeof *w);
    unsigned char *data = malloc(size ? size : 1);
    if (!w || !data)
        abort();
    if (from)
        memcpy(data, from, size);
    else
        for (size_t i = 0; i < size; i++)
            data[i] = ((unsigned char *)&word)[i % sizeof word];
    if (s->blocking && (s == &legacy[s->device] || legacy[s->device].first))
        settle(&legacy[s->device]);  /* nothing waits on two streams that wait for each other, so their order is kept */
    *w = (struct write){NULL, to, size, data};
    *s->last = w;
    s->last = &w->next;
    return SUCCESS;
}

static struct stream *new_stream(int device, bool blocking)
{
    struct stream *s = malloc(sizeof *s);
    if (!s)
        abort();
    *s = (struct stream){streams, device, blocking, NONE, NULL, NULL};
    s->last = &s->first;
    streams = s;
    return s;
}

static Result here(int *device)
{
    if (stack.depth == 0 || !stack.at[stack.depth - 1])
        return INVALID_CONTEXT;
    *device = stack.at[stack.depth - 1]->device;
    return SUCCESS;
}

static bool valid(const struct context *c)
{
    return c >= contexts && c < contexts + DEVICES && c->retained > 0;
}

/* A stream of the current device, in which work may start. */
static Result find_stream(void *handle, struct stream **found)
{
    int device;
    Result result = here(&device);
    if (result)
        return result;
    struct stream *s = streams;
    if ((uintptr_t)handle <= 2)
        s = (uintptr_t)handle == 2 ? &per_thread[device] : &legacy[device];
    else
        while (s && (s != handle || s->device != device))
            s = s->next;
    if (!s)
        return INVALID_HANDLE;
    *found = s;
    if (s == &legacy[device])
        for (struct stream *other = streams; other; other = other->next)
            if (other->blocking && other->device == device && other->capture == ACTIVE)
                result = CAPTURE_IMPLICIT;
    return result;
}

static Result invalidate(Result result)
{
    for (struct stream *s = streams; s; s = s->next)
        if (s->capture == ACTIVE)
            s->capture = INVALIDATED;
    return result;
}

/* A stream for work, which breaks a capture where it may not start. */
static Result work_on(void *handle, struct stream **found)
{
    Result result = find_stream(handle, found);
    if (result == CAPTURE_IMPLICIT)
        return invalidate(result);
    return result ? result : (*found)->capture == INVALIDATED ? CAPTURE_INVALIDATED : SUCCESS;
}

/* What no graph can hold breaks every capture, unless the thread has said that it knows. */
static Result unsafe(void)
{
    for (struct stream *s = streams; s && mode != RELAXED; s = s->next)
        if (s->capture == ACTIVE)
            return invalidate(CAPTURE_UNSUPPORTED);
    return SUCCESS;
}

/* ---------------------------------------------------------------- the driver's functions */

Result cuInit(unsigned flags)
{
    ENTER(cuInit);
    CHECK(flags == 0, INVALID_VALUE);
    CHECK(!forked, NOT_INITIALIZED);
    TRY((Result)init_result);
    CHECK(device_count > 0, NO_DEVICE);
    initialised = true;
    return leave(SUCCESS);
}

Result cuDriverGetVersion(int *out)
{
    ENTER(cuDriverGetVersion);
    *out = version;
    return leave(SUCCESS);
}

Result cuGetErrorName(int code, const char **out)
{
    ENTER(cuGetErrorName);
    *out = NULL;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code)
            *out = errors[i].name;
    return leave(*out ? SUCCESS : INVALID_VALUE);
}

Result cuGetErrorString(int code, const char **out)
{
    ENTER(cuGetErrorString);
    *out = NULL;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code)
            *out = errors[i].text;
    return leave(*out ? SUCCESS : INVALID_VALUE);
}

Result cuDeviceGet(int *out, int device)
{
    ENTER(cuDeviceGet);
    CHECK(device >= 0 && device < device_count, INVALID_DEVICE);
    *out = device;
    return leave(SUCCESS);
}

Result cuDeviceGetCount(int *out)
{
    ENTER(cuDeviceGetCount);
    *out = device_count;
    return leave(SUCCESS);
}

Result cuDeviceGetName(char *out, int size, int device)
{
    ENTER(cuDeviceGetName);
    CHECK(device >= 0 && device < device_count, INVALID_DEVICE);
    CHECK(size > 0, INVALID_VALUE);
    snprintf(out, (size_t)size, "Mock GPU %d", device);
    return leave(SUCCESS);
}

Result cuDeviceGetAttribute(int *out, int attribute, int device)
{
    ENTER(cuDeviceGetAttribute);
    CHECK(device >= 0 && device < device_count, INVALID_DEVICE);
    switch (attribute) {
    case 1: *out = 1024; break;  /* threads of a block */
    case 10: *out = 32; break;   /* threads of a warp */
    case 16: *out = properties[device].processors; break;
    case 75: *out = properties[device].major; break;
    case 76: *out = properties[device].minor; break;
    default: return leave(INVALID_VALUE);
    }
    return leave(SUCCESS);
}

Result cuDevicePrimaryCtxRetain(struct context **out, int device)
{
    ENTER(cuDevicePrimaryCtxRetain);
    CHECK(device >= 0 && device < device_count, INVALID_DEVICE);
    contexts[device].retained++;
    *out = &contexts[device];
    return leave(SUCCESS);
}

Result cuDevicePrimaryCtxRelease_v2(int device)
{
    ENTER(cuDevicePrimaryCtxRelease_v2);
    CHECK(device >= 0 && device < device_count, INVALID_DEVICE);
    CHECK(contexts[device].retained > 0, INVALID_CONTEXT);
    contexts[device].retained--;
    return leave(SUCCESS);
}

Result cuCtxGetCurrent(struct context **out)
{
    ENTER(cuCtxGetCurrent);
    *out = stack.depth ? stack.at[stack.depth - 1] : NULL;
    return leave(SUCCESS);
}

Result cuCtxSetCurrent(struct context *c)
{
    ENTER(cuCtxSetCurrent);
    CHECK(!c || valid(c), INVALID_CONTEXT);
    stack.depth += stack.depth == 0;
    stack.at[stack.depth - 1] = c;
    return leave(SUCCESS);
}

Result cuCtxPushCurrent_v2(struct context *c)
{
    ENTER(cuCtxPushCurrent_v2);
    CHECK(valid(c) && stack.depth < DEPTH, INVALID_CONTEXT);
    stack.at[stack.depth++] = c;
    return leave(SUCCESS);
}

Result cuCtxPopCurrent_v2(struct context **out)
{
    ENTER(cuCtxPopCurrent_v2);
    CHECK(stack.depth > 0, INVALID_CONTEXT);
    *out = stack.at[--stack.depth];
    return leave(SUCCESS);
}

Result cuCtxGetDevice(int *out)
{
    ENTER(cuCtxGetDevice);
    return leave(here(out));
}

Result cuCtxSynchronize(void)
{
    int device;
    ENTER(cuCtxSynchronize);
    TRY(here(&device));
    for (struct stream *s = streams; s; s = s->next)
        CHECK(s->device != device || s->capture != ACTIVE, invalidate(CAPTURE_UNSUPPORTED));
    settle_device(device);
    return leave(SUCCESS);
}

/* How long an image is: its address is all that the driver is told. */
static size_t image_size(const char *image)
{
    size_t size;
    if (memcmp(image, ELFMAG, SELFMAG) == 0) {
        Elf64_Ehdr head;
        memcpy(&head, image, sizeof head);
        size = head.e_phoff + (size_t)head.e_phnum * head.e_phentsize;
        if (size < head.e_shoff + (size_t)head.e_shnum * head.e_shentsize)
            size = head.e_shoff + (size_t)head.e_shnum * head.e_shentsize;
        for (size_t i = 0; i < head.e_shnum; i++) {
            Elf64_Shdr section;
            memcpy(&section, image + head.e_shoff + i * head.e_shentsize, sizeof section);
            if (section.sh_type != SHT_NOBITS && size < section.sh_offset + section.sh_size)
                size = section.sh_offset + section.sh_size;
        }
        return size;
    }
    if (memcmp(image, "\x50\xED\x55\xBA", 4) == 0) {  /* fatbin: magic, version and size of the head (2 + 2 bytes), size of the rest */
        uint16_t head;
        uint64_t rest;
        memcpy(&head, image + 6, sizeof head);
        memcpy(&rest, image + 8, sizeof rest);
        return head + (size_t)rest;
    }
    return strlen(image);
}

Result cuModuleLoadData(struct module **out, const char *image)
{
    int device;
    ENTER(cuModuleLoadData);
    TRY(here(&device));
    TRY(unsafe());
    CHECK(image && *image, INVALID_IMAGE);
    struct module *m = malloc(sizeof *m);
    if (!m)
        abort();
    m->size = image_size(image);
    m->image = malloc(m->size);
    if (!m->image)
        abort();
    memcpy(m->image, image, m->size);
    *out = m;
    return leave(SUCCESS);
}

Result cuModuleGetFunction(struct function **out, struct module *m, const char *name)
{
    int device;
    ENTER(cuModuleGetFunction);
    TRY(here(&device));
    /* a fatbin may be compressed */
    CHECK(memcmp(m->image, "\x50\xED\x55\xBA", 4) == 0 || memmem(m->image, m->size, name, strlen(name)), NOT_FOUND);
    struct function *f = malloc(sizeof *f);
    char *copy = strdup(name);
    if (!f || !copy)
        abort();
    *f = (struct function){functions, m, copy, device};
    functions = f;
    *out = f;
    return leave(SUCCESS);
}

/* The packed arguments among a launch's extra words. */
static bool parse(void **extra, const void **parameters, size_t *bytes)
{
    bool sized = false;
    for (; extra && *extra; extra += 2) {
        if ((uintptr_t)*extra == 1) {
            *parameters = extra[1];
        } else if ((uintptr_t)*extra == 2) {
            *bytes = *(size_t *)extra[1];
            sized = true;
        } else {
            return false;
        }
    }
    return sized && *parameters;
}

static void record(const struct launch *made)
{
    if (launched == room) {
        room = room ? 2 * room : 64;
        launches = realloc(launches, room * sizeof *launches);
        if (!launches)
            abort();
    }
    launches[launched++] = *made;
}

Result cuLaunchKernel(struct function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                      void *stream, void **arguments, void **extra)
{
    int device;
    size_t bytes = 0;
    const void *parameters = NULL;
    struct stream *s;
    struct function *known = functions;
    ENTER(cuLaunchKernel);
    TRY(here(&device));
    while (known && known != f)
        known = known->next;
    CHECK(known && f->device == device, INVALID_HANDLE);
    TRY(work_on(stream, &s));
    CHECK(gx >= 1 && gx <= INT_MAX && gy >= 1 && gy <= 65535 && gz >= 1 && gz <= 65535, INVALID_VALUE);
    CHECK(bx >= 1 && bx <= 1024 && by == 1 && bz == 1 && shared == 0, INVALID_VALUE);  /* numbapool's blocks are rows */
    CHECK(!arguments && parse(extra, &parameters, &bytes) && bytes <= 4096, INVALID_VALUE);
    void *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        abort();
    memcpy(copy, parameters, bytes);
    record(&(struct launch){f->name, {gx, gy, gz}, bx, stream, device, s->capture != NONE, bytes, copy});
    if (s->capture)
        return leave(SUCCESS);
    settle(s);
    Hook *run = hook;
    leave(SUCCESS);  /* the hook may start kernels itself */
    if (run)
        run(f->name, gx, gy, gz, bx, copy, bytes, device, stream);
    return SUCCESS;
}

Result cuMemAlloc_v2(uint64_t *out, size_t size)
{
    int device;
    ENTER(cuMemAlloc_v2);
    TRY(here(&device));
    TRY(unsafe());
    CHECK(size > 0, INVALID_VALUE);
    *out = new_memory(size, device);
    return leave(*out ? SUCCESS : OUT_OF_MEMORY);
}

Result cuMemFree_v2(uint64_t address)
{
    int device;
    ENTER(cuMemFree_v2);
    TRY(here(&device));
    TRY(unsafe());
    settle_device(device);
    return leave(end_memory(address, device) ? SUCCESS : INVALID_VALUE);
}

/* Allowed in a capture; the memory is there at once, but what was queued on the stream before it is freed still happens. */
Result cuMemAllocAsync(uint64_t *out, size_t size, void *stream)
{
    struct stream *s;
    ENTER(cuMemAllocAsync);
    TRY(work_on(stream, &s));
    CHECK(size > 0, INVALID_VALUE);
    *out = new_memory(size, s->device);
    return leave(*out ? SUCCESS : OUT_OF_MEMORY);
}

Result cuMemFreeAsync(uint64_t address, void *stream)
{
    struct stream *s;
    ENTER(cuMemFreeAsync);
    TRY(work_on(stream, &s));
    settle(s);
    return leave(end_memory(address, s->device) ? SUCCESS : INVALID_VALUE);
}

/* Returns before the copy has arrived, as the driver's may with memory that is not pinned. */
Result cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size)
{
    struct stream *s;
    ENTER(cuMemcpyHtoD_v2);
    TRY(work_on(NULL, &s));
    TRY(unsafe());
    settle(s);
    return leave(queue(s, to, from, 0, size));
}

Result cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size)
{
    struct stream *s;
    ENTER(cuMemcpyDtoH_v2);
    TRY(work_on(NULL, &s));
    TRY(unsafe());
    settle(s);
    CHECK(within(from, size), INVALID_VALUE);
    memcpy(to, (const void *)(uintptr_t)from, size);
    return leave(SUCCESS);
}

Result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream)
{
    struct stream *s;
    ENTER(cuMemcpyHtoDAsync_v2);
    TRY(work_on(stream, &s));
    return leave(queue(s, to, from, 0, size));
}

Result cuMemsetD8Async(uint64_t to, unsigned char byte, size_t size, void *stream)
{
    struct stream *s;
    ENTER(cuMemsetD8Async);
    TRY(work_on(stream, &s));
    return leave(queue(s, to, NULL, byte * 0x01010101U, size));
}

Result cuMemsetD32Async(uint64_t to, unsigned word, size_t count, void *stream)
{
    struct stream *s;
    ENTER(cuMemsetD32Async);
    TRY(work_on(stream, &s));
    CHECK(to % 4 == 0 && count <= SIZE_MAX / 4, INVALID_VALUE);
    return leave(queue(s, to, NULL, word, 4 * count));
}

Result cuPointerGetAttribute(void *out, int attribute, uint64_t address)
{
    ENTER(cuPointerGetAttribute);
    struct memory *m = memory_at(address);
    CHECK(m, INVALID_VALUE);
    switch (attribute) {
    case 1: *(struct context **)out = &contexts[m->device]; break;
    case 2: *(unsigned *)out = 2; break;  /* device memory */
    case 3: *(uint64_t *)out = address; break;
    case 9: *(int *)out = m->device; break;
    default: return leave(INVALID_VALUE);
    }
    return leave(SUCCESS);
}

Result cuStreamCreate(struct stream **out, unsigned flags)
{
    int device;
    ENTER(cuStreamCreate);
    TRY(here(&device));
    TRY(unsafe());
    CHECK(flags <= 1, INVALID_VALUE);
    *out = new_stream(device, flags == 0);
    return leave(SUCCESS);
}

Result cuStreamDestroy_v2(void *stream)
{
    struct stream *s;
    ENTER(cuStreamDestroy_v2);
    CHECK((uintptr_t)stream > 2, INVALID_HANDLE);
    TRY(find_stream(stream, &s));
    settle(s);
    for (struct stream **at = &streams; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            free(s);
            break;
        }
    return leave(SUCCESS);
}

Result cuStreamSynchronize(void *stream)
{
    struct stream *s;
    ENTER(cuStreamSynchronize);
    TRY(work_on(stream, &s));
    CHECK(s->capture == NONE, invalidate(CAPTURE_UNSUPPORTED));
    settle(s);
    return leave(SUCCESS);
}

Result cuStreamIsCapturing(void *stream, int *out)
{
    struct stream *s;
    ENTER(cuStreamIsCapturing);
    TRY(find_stream(stream, &s));
    *out = s->capture;
    return leave(SUCCESS);
}

Result cuThreadExchangeStreamCaptureMode(int *exchanged)
{
    ENTER(cuThreadExchangeStreamCaptureMode);
    CHECK(*exchanged >= 0 && *exchanged <= RELAXED, INVALID_VALUE);
    int before = mode;
    mode = *exchanged;
    *exchanged = before;
    return leave(SUCCESS);
}

/* ---------------------------------------------------------------- for tests; those that can fail return 0 for success */

static int entry(const char *name)
{
    for (int i = 0; i < ENTRIES; i++)
        if (strcmp(entries[i].name, name) == 0)
            return i;
    return -1;
}

/* Let one call of a function return a code, after so many that do not. */
int mock_fail(const char *name, int code, long after)
{
    pthread_mutex_lock(&lock);
    int i = entry(name);
    if (i >= 0) {
        entries[i].code = code;
        entries[i].after = after;
    }
    leave(SUCCESS);
    return i < 0;
}

/* How often a function was called, -1 for a name that is none. */
long mock_calls(const char *name)
{
    pthread_mutex_lock(&lock);
    int i = entry(name);
    long calls = i < 0 ? -1 : entries[i].calls;
    leave(SUCCESS);
    return calls;
}

void mock_set_version(int v) { version = v; }
void mock_set_init(int code) { init_result = code; }
void mock_set_poison(int on) { poison = on; }
void mock_set_hook(Hook *h) { hook = h; }
int mock_depth(void) { return stack.depth; }
int mock_mode(void) { return mode; }
long mock_live(void) { return live; }
long mock_bad_frees(void) { return bad_frees; }

int mock_set_devices(int count)
{
    if (count < 0 || count > DEVICES)
        return 1;
    device_count = count;
    return 0;
}

int mock_set_properties(int device, int major, int minor, int processors)
{
    if (device < 0 || device >= DEVICES)
        return 1;
    properties[device].major = major;
    properties[device].minor = minor;
    properties[device].processors = processors;
    return 0;
}

/* How much memory was written beyond its ends, freed or not. */
long mock_overruns(void)
{
    pthread_mutex_lock(&lock);
    long count = overruns;
    for (struct memory *m = memories; m; m = m->next)
        count += !intact(m);
    leave(SUCCESS);
    return count;
}

/* Memory of an array's owner; 0 where there is none left. */
uint64_t mock_allocate(size_t size, int device)
{
    pthread_mutex_lock(&lock);
    uint64_t address = new_memory(size ? size : 1, device);
    leave(SUCCESS);
    return address;
}

/* Where the pieces of memory begin and end, of at most `most` of them; returns how many there are. */
size_t mock_extents(uint64_t (*found)[2], size_t most)
{
    pthread_mutex_lock(&lock);
    size_t count = 0;
    for (struct memory *m = memories; m; m = m->next, count++)
        if (count < most) {
            found[count][0] = m->address;
            found[count][1] = m->address + m->size;
        }
    leave(SUCCESS);
    return count;
}

int mock_release(uint64_t address, int device)
{
    pthread_mutex_lock(&lock);
    settle_device(device);
    bool was = end_memory(address, device);
    leave(SUCCESS);
    return !was;
}

/* Run what is queued on a device, as if a lot of time had passed. */
void mock_settle(int device)
{
    pthread_mutex_lock(&lock);
    settle_device(device);
    leave(SUCCESS);
}

void *mock_stream(int device, int blocking)
{
    pthread_mutex_lock(&lock);
    struct stream *s = new_stream(device, blocking);
    leave(SUCCESS);
    return s;
}

/* Begin (1), break (2) or end (0) the capture of a stream, and return the state before; -1 for no stream. */
int mock_capture(void *stream, int state)
{
    int before = -1;
    pthread_mutex_lock(&lock);
    for (struct stream *s = streams; s; s = s->next)
        if (s == stream) {
            drain(s);
            before = s->capture;
            s->capture = state;
        }
    leave(SUCCESS);
    return before;
}

/* Make a device current for this thread, as a library does that shares the primary context; -1: none. */
void mock_set_current(int device)
{
    pthread_mutex_lock(&lock);
    stack.depth += stack.depth == 0;
    stack.at[stack.depth - 1] = device < 0 ? NULL : &contexts[device];
    if (device >= 0)
        contexts[device].retained++;
    leave(SUCCESS);
}

long mock_retained(int device) { return contexts[device].retained; }

size_t mock_launched(void)
{
    pthread_mutex_lock(&lock);
    size_t count = launched;
    leave(SUCCESS);
    return count;
}

/* The n-th launch; its memory stays until mock_forget_launches. */
int mock_launch(size_t n, struct launch *out)
{
    pthread_mutex_lock(&lock);
    bool is = n < launched;
    if (is)
        *out = launches[n];
    leave(SUCCESS);
    return !is;
}

void mock_forget_launches(void)
{
    pthread_mutex_lock(&lock);
    while (launched)
        free(launches[--launched].parameters);
    leave(SUCCESS);
}

/* The functions that were found, the last one first. */
struct function *mock_functions(void) { return functions; }

/* The image that a function came from. */
const char *mock_image(struct function *f, size_t *size)
{
    *size = f->module->size;
    return f->module->image;
}
