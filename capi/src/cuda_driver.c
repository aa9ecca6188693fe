/* The CUDA driver: opened at the first call on a device, by name, so that nothing is linked with it.  numbapool/cuda/driver.py in C.
 *
 * Work happens in a device's primary context, as torch's and CuPy's does, and on the caller's stream alone; the one thing waited for is the copy of
 * a new table, on a stream of the library's own.  What is made once (contexts, modules, tables) is made under one lock and stays until the
 * process ends, since graphs may read it at any later time.  A child after fork cannot use what its parent has begun: there every call is refused. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

enum { OLDEST = 11020, MOST_DEVICES = 64, BUCKETS = 1024, OLDEST_DEVICE = 75 };
enum { OUT_OF_MEMORY = 2, NOT_SUPPORTED = 801, CAPTURE_IMPLICIT = 906 };      /* results of cuda.h */
enum { MAJOR = 75, MINOR = 76, NON_BLOCKING = 1, RELAXED = 2, BUFFER_POINTER = 1, BUFFER_SIZE = 2 };
#define MOST_TABLE_BYTES ((size_t)64 << 20) /* of tables that are kept; what is beyond goes to the device with each call */

#define FUNCTIONS(X) \
    X(cuDriverGetVersion, (int *)) X(cuGetErrorName, (int, const char **)) X(cuGetErrorString, (int, const char **)) X(cuInit, (unsigned)) \
    X(cuDeviceGetCount, (int *)) X(cuDeviceGet, (int *, int)) X(cuDeviceGetName, (char *, int, int)) X(cuDeviceGetAttribute, (int *, int, int)) \
    X(cuDevicePrimaryCtxRetain, (void **, int)) X(cuCtxGetCurrent, (void **)) X(cuCtxPushCurrent_v2, (void *)) X(cuCtxPopCurrent_v2, (void **)) \
    X(cuModuleLoadData, (void **, const void *)) X(cuModuleGetFunction, (void **, void *, const char *)) \
    X(cuLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **)) \
    X(cuMemAlloc_v2, (uint64_t *, size_t)) X(cuMemFree_v2, (uint64_t)) X(cuMemAllocAsync, (uint64_t *, size_t, void *)) \
    X(cuMemFreeAsync, (uint64_t, void *)) X(cuMemcpyHtoDAsync_v2, (uint64_t, const void *, size_t, void *)) \
    X(cuMemsetD32Async, (uint64_t, unsigned, size_t, void *)) X(cuStreamCreate, (void **, unsigned)) X(cuStreamSynchronize, (void *)) \
    X(cuStreamIsCapturing, (void *, int *)) X(cuThreadExchangeStreamCaptureMode, (int *))

#define MEMBER(name, arguments) int (*name) arguments;
static struct {
    FUNCTIONS(MEMBER)
} api;
#define ENTRY(name, arguments) {#name, offsetof(struct names, name)},
#define SLOT(name, arguments) void (*name)(void);
struct names {
    FUNCTIONS(SLOT)
};
static const struct {
    const char *name;
    size_t offset;
} entries[] = {FUNCTIONS(ENTRY)};

typedef struct table {
    struct table *next;
    int device;
    size_t size;
    uint64_t hash, address;
    unsigned char *data;
} table;

/* What is known of a device. */
typedef struct {
    _Atomic(void *) context; /* its primary one, once somebody needed it */
    _Atomic(void *) *functions; /* by rows of the table of kernels; NULL: not yet loaded */
    void **modules, *copying;
    int capability;
    char name[64];
} device;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool ready, started, forked; /* the driver is there; somebody has begun to use it; this is a child of such a process */
static int version;
static device devices[MOST_DEVICES];
static table *tables[BUCKETS];
static size_t table_bytes;

static void in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    if (atomic_load(&started))
        atomic_store(&forked, true);
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, in_child); }

/* ---------------------------------------------------------------- trouble */

/* What went wrong, told where no lock is held and nothing is left to be given back. */
typedef struct {
    int status;
    char text[400];
} trouble;

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static bool wrong(trouble *t, int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(t->text, sizeof t->text, format, arguments);
    va_end(arguments);
    t->status = status;
    return false;
}

/* Whether a function of the driver did what it should. */
static bool well(trouble *t, const char *function, int code)
{
    const char *name = NULL, *text = NULL;
    if (!code)
        return true;
    api.cuGetErrorName(code, &name); /* leaves NULL for a code that this driver does not know */
    api.cuGetErrorString(code, &text);
    return wrong(t, code == OUT_OF_MEMORY ? NUMBAPOOL_MEMORY_ERROR : NUMBAPOOL_CUDA_ERROR, "%s: %s (%d): %s", function, name ? name : "unknown error",
                 code, text ? text : "");
}

#define DO(name, ...) well(t, #name, api.name(__VA_ARGS__))

/* ---------------------------------------------------------------- the driver */

static bool bind(trouble *t, void *library, const char *name)
{
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        void *found = dlsym(library, entries[i].name);
        if (!found)
            return wrong(t, NUMBAPOOL_CUDA_ERROR, "the CUDA driver is too old, or %s is none: it has no function %s (CUDA %d.%d is needed)", name,
                         entries[i].name, OLDEST / 1000, OLDEST % 1000 / 10);
        memcpy((char *)&api + entries[i].offset, &found, sizeof found);
    }
    return true;
}

static bool old(trouble *t)
{
    return wrong(t, NUMBAPOOL_CUDA_ERROR, "the CUDA driver is too old: it supports CUDA %d.%d, and %d.%d is needed", version / 1000,
                 version % 1000 / 10, OLDEST / 1000, OLDEST % 1000 / 10);
}

static bool open_driver(trouble *t)
{
    const char *name = getenv("NUMBAPOOL_LIBCUDA");
    if (!name || !*name)
        name = "libcuda.so.1";
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return wrong(t, NUMBAPOOL_CUDA_ERROR, "no CUDA driver: %s cannot be loaded (%s)", name, why ? why : "");
    }
    /* its version first: an old one lacks functions, too */
    void *found = dlsym(library, "cuDriverGetVersion");
    if (found)
        memcpy(&api.cuDriverGetVersion, &found, sizeof found);
    if (found && api.cuDriverGetVersion(&version) == 0 && version < OLDEST)
        old(t);
    else if (bind(t, library, name) && DO(cuInit, 0))
        return true;
    dlclose(library);
    return false;
}

/* Load the driver at the first call; one that could not be loaded is tried again at the next. */
static bool have_driver(trouble *t)
{
    if (atomic_load(&forked))
        return wrong(t, NUMBAPOOL_CUDA_ERROR, "CUDA was initialised before this process was forked: it cannot be used in the child");
    if (atomic_load(&ready))
        return true;
    pthread_mutex_lock(&lock);
    bool is = atomic_load(&ready);
    if (!is) {
        atomic_store(&started, true);
        is = open_driver(t);
        atomic_store(&started, is);
        atomic_store(&ready, is);
    }
    pthread_mutex_unlock(&lock);
    return is;
}

/* ---------------------------------------------------------------- a device; from here to its end under the lock */

static bool describe(trouble *t, int index, int handle)
{
    device *d = &devices[index];
    int major, minor;
    if (!DO(cuDeviceGetAttribute, &major, MAJOR, handle) || !DO(cuDeviceGetAttribute, &minor, MINOR, handle) ||
        !DO(cuDeviceGetName, d->name, (int)sizeof d->name - 1, handle))
        return false;
    d->capability = 10 * major + minor;
    if (d->capability < OLDEST_DEVICE)
        return wrong(t, NUMBAPOOL_UNSUPPORTED, "CUDA device %d (%s) has compute capability %d.%d, and 7.5 is needed", index, d->name, major, minor);
    return true;
}

static bool open_device(trouble *t, int index)
{
    device *d = &devices[index];
    int count = 0, handle;
    void *context;
    if (!DO(cuDeviceGetCount, &count))
        return false;
    if (index < 0 || index >= count)
        return wrong(t, NUMBAPOOL_BUFFER_ERROR, "the tensors are on CUDA device %d, but there are %d", index, count);
    if (!DO(cuDeviceGet, &handle, index) || !describe(t, index, handle))
        return false;
    if (!d->functions)
        d->functions = calloc((size_t)cuda_row_count, sizeof *d->functions);
    if (!d->modules)
        d->modules = calloc((size_t)cuda_image_count, sizeof *d->modules);
    if (!d->functions || !d->modules)
        return wrong(t, NUMBAPOOL_MEMORY_ERROR, "malloc failed");
    if (!DO(cuDevicePrimaryCtxRetain, &context, handle)) /* for good: to release it would take the memory of everyone else in it along */
        return false;
    atomic_store(&d->context, context);
    return true;
}

static bool have_device(trouble *t, int index)
{
    if (index < 0 || index >= MOST_DEVICES)
        return wrong(t, NUMBAPOOL_BUFFER_ERROR, "there is no CUDA device of such a device_id");
    if (atomic_load(&devices[index].context))
        return true;
    pthread_mutex_lock(&lock);
    bool is = atomic_load(&devices[index].context) || open_device(t, index);
    pthread_mutex_unlock(&lock);
    return is;
}

/* ---------------------------------------------------------------- kernels */

/* The images of a module that a device may take, the best first: a cubin of its kind, PTX. */
static int choices(int module, int capability, int found[2])
{
    int n = 0, best = -1;
    uint64_t sizes[8];
    memcpy(sizes, cuda_images[module], sizeof sizes);
    for (int i = 0; i < CU_ARCHITECTURES; i++)
        if (sizes[i] && cuda_architectures[i] / 10 == capability / 10 && cuda_architectures[i] <= capability)
            best = i;
    if (best >= 0)
        found[n++] = best;
    found[n++] = CU_ARCHITECTURES;
    return n;
}

/* Unpack a module's images up to one of them; returns all that was unpacked, in which the image begins at `at` and ends with a NUL. */
static char *unpacked(int module, int image, size_t *at)
{
    uint64_t sizes[8];
    memcpy(sizes, cuda_images[module], sizeof sizes);
    size_t end = 0;
    for (int i = 0; i <= image; i++) {
        *at = end;
        end += (size_t)sizes[i];
    }
    char *memory = sizes[image] ? malloc(end + 1) : NULL;
    if (memory && !cuda_unpack(cuda_images[module] + sizeof sizes, (size_t)sizes[7], (unsigned char *)memory, end)) {
        free(memory);
        return NULL;
    }
    if (memory)
        memory[end] = 0;
    return memory;
}

static bool load_image(trouble *t, device *d, int module, int image)
{
    size_t at = 0;
    char *memory = unpacked(module, image, &at);
    if (!memory)
        return wrong(t, NUMBAPOOL_MEMORY_ERROR, "the images of a CUDA module cannot be unpacked");
    bool is = DO(cuModuleLoadData, &d->modules[module], memory + at); /* copies it */
    free(memory);
    return is;
}

static bool load_module(trouble *t, device *d, int module)
{
    int found[2], n = choices(module, d->capability, found);
    char text[400];
    for (int i = 0; i < n; i++)
        if (load_image(t, d, module, found[i]))
            return true;
    memcpy(text, t->text, sizeof text);
    return wrong(t, t->status, "%.250s; the driver supports CUDA %d.%d, device %d (%.60s) has compute capability %d.%d", text, version / 1000,
                 version % 1000 / 10, (int)(d - devices), d->name, d->capability / 10, d->capability % 10);
}

/* Do what belongs into no graph.  Else it would break every capture that is under way, also another thread's. */
static bool unseen(trouble *t, int *mode)
{
    *mode = RELAXED;
    return DO(cuThreadExchangeStreamCaptureMode, mode);
}

static bool load_function(trouble *t, device *d, const cuda_row *row, void **function)
{
    int mode;
    if (!unseen(t, &mode))
        return false;
    bool is = (d->modules[row->module] || load_module(t, d, row->module)) && DO(cuModuleGetFunction, function, d->modules[row->module], row->name);
    api.cuThreadExchangeStreamCaptureMode(&mode);
    if (is)
        atomic_store(&d->functions[row - cuda_rows], *function);
    return is;
}

/* A kernel on the current device. */
static bool have_function(trouble *t, device *d, const cuda_row *row, void **function)
{
    *function = atomic_load(&d->functions[row - cuda_rows]);
    if (*function)
        return true;
    pthread_mutex_lock(&lock);
    *function = atomic_load(&d->functions[row - cuda_rows]);
    bool is = *function || load_function(t, d, row, function);
    pthread_mutex_unlock(&lock);
    return is;
}

/* ---------------------------------------------------------------- tables */

static uint64_t hash_of(const unsigned char *data, size_t size)
{
    uint64_t hash = 0xCBF29CE484222325U, word;
    for (size_t i = 0; i < size; i += 8) { /* tables are padded to 16 bytes */
        memcpy(&word, data + i, sizeof word);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15U;
        hash ^= hash >> 29;
    }
    return hash;
}

static table *known_table(int device, const unsigned char *data, size_t size, uint64_t hash)
{
    table *found = tables[hash % BUCKETS];
    while (found && (found->hash != hash || found->device != device || found->size != size || memcmp(found->data, data, size)))
        found = found->next;
    return found;
}

/* Whether what is started on a stream goes into a graph, or would break one: the legacy stream waits for others that may be captured. */
static bool capturing(trouble *t, void *stream, bool *is)
{
    int status = 0, code = api.cuStreamIsCapturing(stream, &status);
    *is = code || status;
    return code == CAPTURE_IMPLICIT || well(t, "cuStreamIsCapturing", code);
}

/* Not cuMemcpyHtoD: it waits for all that the caller has queued, and yet returns before the copy has arrived. */
static bool copy_table(trouble *t, device *d, table *made)
{
    if (!d->copying && !DO(cuStreamCreate, &d->copying, NON_BLOCKING))
        return false;
    if (!DO(cuMemAlloc_v2, &made->address, made->size))
        return false;
    if (DO(cuMemcpyHtoDAsync_v2, made->address, made->data, made->size, d->copying) && DO(cuStreamSynchronize, d->copying))
        return true;
    api.cuMemFree_v2(made->address);
    return false;
}

static bool make_table(trouble *t, device *d, const unsigned char *data, size_t size, uint64_t hash, uint64_t *address)
{
    int mode;
    table *made = malloc(sizeof *made);
    unsigned char *copy = malloc(size);
    bool is = (made && copy) || wrong(t, NUMBAPOOL_MEMORY_ERROR, "malloc of %zu bytes failed", size);
    if (is) {
        memcpy(copy, data, size);
        *made = (table){tables[hash % BUCKETS], (int)(d - devices), size, hash, 0, copy};
        is = unseen(t, &mode);
    }
    if (is) {
        is = copy_table(t, d, made);
        api.cuThreadExchangeStreamCaptureMode(&mode);
    }
    if (!is) {
        free(made);
        free(copy);
        return false;
    }
    tables[hash % BUCKETS] = made;
    table_bytes += size;
    *address = made->address;
    return true;
}

/* Tables in memory of the current device, as any earlier call has left them there; address 0 where there is no room for more. */
static bool have_tables(trouble *t, device *d, const struct program *p, void *stream, uint64_t *address)
{
    uint64_t hash = hash_of(p->tables, p->table_bytes);
    bool captured = false, is = true;
    pthread_mutex_lock(&lock);
    table *found = known_table((int)(d - devices), p->tables, p->table_bytes, hash);
    if (found)
        *address = found->address;
    else if (p->table_bytes > MOST_TABLE_BYTES - table_bytes)
        *address = 0;
    else if (!capturing(t, stream, &captured))
        is = false;
    else if (captured)
        is = wrong(t, NUMBAPOOL_CUDA_ERROR,
                   "a table cannot be made while the stream is captured into a graph; make the same call before the capture");
    else
        is = make_table(t, d, p->tables, p->table_bytes, hash, address);
    pthread_mutex_unlock(&lock);
    return is;
}

/* ---------------------------------------------------------------- a program */

/* What a program runs in. */
typedef struct {
    device *d;
    void *stream;
    uint64_t work, own; /* the workspace; what of it, or of tables, was allocated here */
    uint64_t tables;
    void *functions[CU_MOST_TASKS];
} place;

static int64_t settled(int64_t address, uint64_t work)
{
    uint64_t at = (uint64_t)address;
    return at >= WORKSPACE ? (int64_t)(at - WORKSPACE + work) : address;
}

static bool launch_task(trouble *t, const place *at, const cuda_task *task, void *function)
{
    int64_t words[CU_WORDS];
    size_t size = sizeof words;
    void *extra[] = {(void *)BUFFER_POINTER, words, (void *)BUFFER_SIZE, &size, NULL};
    if (!task->row)
        return !task->count || DO(cuMemsetD32Async, (uint64_t)settled((int64_t)task->at, at->work), task->value, (size_t)task->count, at->stream);
    memcpy(words, task->words, sizeof words);
    for (int i = 0; i < task->n_tables; i++)
        words[task->tables[i]] += (int64_t)at->tables;
    for (int i = 0; i < CU_OPERANDS; i++)
        words[CU_HEAD + CU_RECORD * i] = settled(words[CU_HEAD + CU_RECORD * i], at->work);
    words[CU_WEIGHTS] = settled(words[CU_WEIGHTS], at->work);
    return DO(cuLaunchKernel, function, (unsigned)task->grid[0], (unsigned)task->grid[1], 1, CU_BLOCK, 1, 1, 0, at->stream, NULL, extra);
}

/* Tables that no later call has again, or for which there is no room: copied in the stream's order. */
static bool send_tables(trouble *t, place *at, const struct program *p)
{
    bool captured;
    if (!capturing(t, at->stream, &captured))
        return false;
    if (captured)
        return wrong(t, NUMBAPOOL_CUDA_ERROR, "windows that are drawn anew cannot be captured into a graph");
    return DO(cuMemcpyHtoDAsync_v2, at->tables, p->tables, p->table_bytes, at->stream);
}

/* Memory of the device, in the stream's order. */
static bool allocate(trouble *t, place *at, size_t size)
{
    int code = api.cuMemAllocAsync(&at->own, size, at->stream);
    if (code == NOT_SUPPORTED)
        return wrong(t, NUMBAPOOL_CUDA_ERROR, "the device has no memory in a stream's order: params.workspace must be given");
    if (code) {
        at->own = 0;
        well(t, "cuMemAllocAsync", code);
        char text[200];
        memcpy(text, t->text, sizeof text);
        text[sizeof text - 1] = 0;
        return wrong(t, t->status, "%s; %zu bytes of workspace were asked for", text, size);
    }
    return true;
}

/* The tables, and the workspace: the caller's, or one for the time of the call. */
static bool prepare_memory(trouble *t, place *at, const struct program *p, const numbapool_params *params)
{
    size_t more = p->table_bytes, work = p->work, needed = work;
    if (p->table_bytes && !p->drawn && !have_tables(t, at->d, p, at->stream, &at->tables))
        return false;
    bool send = p->table_bytes && !at->tables, beside = send && !p->drawn; /* the caller was not told of those */
    if (send && p->drawn)
        needed += more;
    at->work = params->workspace ? ((uint64_t)(uintptr_t)params->workspace + 255) & ~(uint64_t)255 : 0;
    size_t own = (params->workspace ? 0 : needed) + (beside ? more : 0);
    if (own && !allocate(t, at, own))
        return false;
    if (!params->workspace)
        at->work = at->own;
    if (send)
        at->tables = beside && params->workspace ? at->own : at->work + work;
    return !send || send_tables(t, at, p);
}

static bool run_program(trouble *t, place *at, const struct program *p, const numbapool_params *params)
{
    for (int i = 0; i < p->n_tasks; i++)
        if (p->tasks[i]->row && !have_function(t, at->d, p->tasks[i]->row, &at->functions[i]))
            return false;
    bool is = prepare_memory(t, at, p, params);
    for (int i = 0; is && i < p->n_tasks; i++)
        is = launch_task(t, at, p->tasks[i], at->functions[i]);
    if (at->own) {
        trouble other, *kept = is ? t : &other; /* the first message stays */
        is &= well(kept, "cuMemFreeAsync", api.cuMemFreeAsync(at->own, at->stream));
    }
    return is;
}

/* The same in the device's context. */
static bool run_on(trouble *t, int index, const struct program *p, const numbapool_params *params)
{
    void *current = NULL, *popped;
    if (!have_driver(t) || !have_device(t, index) || !DO(cuCtxGetCurrent, &current))
        return false;
    place at = {.d = &devices[index], .stream = params->stream};
    void *context = atomic_load(&at.d->context);
    if (current == context)
        return run_program(t, &at, p, params);
    if (!DO(cuCtxPushCurrent_v2, context))
        return false;
    bool is = run_program(t, &at, p, params);
    api.cuCtxPopCurrent_v2(&popped);
    return is;
}

void cuda_run(context *c, const numbapool_params *params, bool dry)
{
    struct program *p = c->program;
    trouble t = {0};
    size_t needed = !p || !p->n_tasks ? 0 : p->work + (p->drawn ? p->table_bytes : 0);
    c->device_bytes = needed ? needed + 256 : 0;
    if (dry || !p || !p->n_tasks)
        return;
    if (params->workspace && params->workspace_size < c->device_bytes)
        fail(c, NUMBAPOOL_BUFFER_ERROR, "workspace_size is too small: %zu bytes are not enough (ask by workspace_needed)", params->workspace_size);
    if (!run_on(&t, c->device, p, params))
        fail(c, t.status, "%s", t.text);
}
