/* From operands to a kernel that has run: which plan, which kernel, how many threads.  What call.py, prepared.py and threads.py do in Python. */
#define _POSIX_C_SOURCE 200809L /* open, read, O_CLOEXEC */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "families.h"

enum {
    INDEX_BYTES = 16, /* an index's 8 counted twice: it is not read before the backward pass, unlike y */
    SCRATCH_BYTES = 1 << 18, /* of a plane that is summed in scratch memory: a quarter of a second-level cache */
    SCRATCH = 1 << 20,       /* elements of a half type's scratch plane that a group of channels aims at */
    WORTH = 1 << 18          /* elements read, below which waking threads costs more than it saves */
};

/* ---------------------------------------------------------------- the processor */

static int processor = -1; /* set once, before anybody can call */

#if defined(__x86_64__)
/* F16C and LZCNT, whose names not every compiler's __builtin_cpu_supports knows. */
static bool converts_and_counts(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 29 & 1))
        return false;
    return __get_cpuid(0x80000001U, &a, &b, &c, &d) && (c >> 5 & 1);
}

static bool runs(const char *name)
{
    if (!strcmp(name, "x86-64-v4"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && runs("x86-64-v3");
    if (!strcmp(name, "x86-64-v3"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") &&
               converts_and_counts();
    return true;
}
#else
static bool runs(const char *name)
{
    (void)name;
    return true;
}
#endif

__attribute__((constructor)) static void choose_processor(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    const char *most = getenv("NUMBAPOOL_ISA");
    for (int i = 0; i < PROCESSORS; i++) {
        if (runs(processor_names[i]))
            processor = i;
        if (most && !strcmp(most, processor_names[i]))
            break;
    }
}

const char *numbapool_isa(void) { return processor < 0 ? "none" : processor_names[processor]; }

const char *numbapool_version(void) { return NUMBAPOOL_VERSION_TEXT; }

int numbapool_abi_version(void) { return NUMBAPOOL_ABI; }

static const kernel_row *row_of(int key)
{
    int low = 0, high = kernel_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (kernel_rows[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < kernel_count && kernel_rows[low].key == key ? &kernel_rows[low] : NULL;
}

/* The oldest processors have the general kernels alone; what the newest lack, those before them have, whose kernels give the same bits: every loop
 * over a formula rounds alike where multiply-adds are fused, as they are on both. */
kernel_function find_kernel(int formula, bool backward, dtype t, int loop)
{
    const kernel_row *row = processor < 0 ? NULL : row_of(((formula * 2 + backward) * 16 + (int)t) * 64 + loop);
    for (int i = processor; row && i >= 0; i--)
        if (row->on[i])
            return row->on[i];
    return NULL;
}

kernel_function needed_kernel(call *k, int formula, bool backward, int loop)
{
    kernel_function f = find_kernel(formula, backward, k->dtype, loop);
    if (!f)
        fail(k->c, NUMBAPOOL_UNSUPPORTED, "this build of the library has no kernel for it");
    return f;
}

/* ---------------------------------------------------------------- caches */

/* memory.cache_size, without stdio, which would call malloc. */
static int64_t read_cache_size(void)
{
    int64_t largest = 0;
    for (int i = 0; i < 8; i++) {
        char name[80], text[32] = "";
        snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        int file = open(name, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            break;
        long long size = read(file, text, sizeof text - 1) > 0 ? atoll(text) : 0;
        close(file);
        if (size * 1024 > largest)
            largest = size * 1024;
    }
    if (!largest)
        largest = (int64_t)32 << 20;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t most = ((int64_t)12 << 20) * (processors > 1 ? processors : 1); /* memory.CACHE_SHARE: of a virtual machine's host there is more */
    return largest < most ? largest : most;
}

/* memory.past_cache: from three quarters of the last cache on. */
bool past_cache(int64_t bytes)
{
    static _Atomic int64_t size; /* two threads that read it at once find the same */
    if (bytes < (int64_t)1 << 19)
        return false;
    if (!size)
        size = read_cache_size();
    return bytes >= size / 4 * 3;
}

static bool result_past_cache(const call *k, bool gradient)
{
    return past_cache(product(gradient ? k->x.dims : k->out_dims, 5) * item_bytes(k->dtype));
}

/* ---------------------------------------------------------------- plans */

geometry geometry_of(const call *k)
{
    geometry g;
    memset(&g, 0, sizeof g);
    memcpy(g.dims, k->x.dims, sizeof g.dims);
    memcpy(g.axes, k->axes, sizeof g.axes);
    g.channel_lanes = k->lanes;
    return g;
}

void operand(geometry *g, int slot, const int64_t strides[5])
{
    g->has[slot] = true;
    memcpy(g->strides[slot], strides, sizeof g->strides[slot]);
}

static int gradient_order(const call *k, bool gradient) { return gradient ? k->memory_last ? CHANNELS_LAST : CHANNELS_FIRST : NO_GRADIENT; }

static int64_t lanes_at_most(const call *k, bool gradient)
{
    if (!gradient || !is_half(k->dtype))
        return LANES;
    int64_t plane = product(k->x.dims + 2, 3), width = SCRATCH / (plane > 1 ? plane : 1);
    return width < 16 ? 16 : width > LANES ? LANES : width;
}

/* call.arguments' scratch planes: for half types, and where a large result is scattered to. */
static int scratch_planes(const call *k, bool gradient, int planes, bool scatter)
{
    int64_t width = lanes_at_most(k, gradient), channels = k->x.dims[1];
    int64_t plane = product(k->x.dims + 2, 3) * real_bytes(k->dtype) * (k->lanes ? width < channels ? width : channels : 1);
    bool apart = scatter && result_past_cache(k, true) && k->memory_last == k->lanes && plane <= SCRATCH_BYTES;
    return (gradient && is_half(k->dtype)) || apart ? planes : 0;
}

plan planned(call *k, const geometry *g, bool gradient, int planes, bool scatter, bool sort, const extra *extras, int n_extras)
{
    return plan_general(k->c, g, lanes_at_most(k, gradient), gradient_order(k, gradient), scratch_planes(k, gradient, planes, scatter),
                        real_bytes(k->dtype), sort, extras, n_extras);
}

shape small_of(call *k, const geometry *g, bool gradient, bool plain, geometry *cut_one)
{
    *cut_one = *g;
    if (plain && !k->lanes)
        cut(k->c, cut_one);
    return gradient && k->memory_last != k->lanes ? NO_SHAPE : small(cut_one, gradient);
}

plan small_plan(call *k, const geometry *g, shape s, bool gradient, int lifts, int terms)
{
    if (s == THREE)
        return plan_three(k->c, g, lifts, gradient ? terms : 0, real_bytes(k->dtype), result_past_cache(k, gradient));
    return plan_small(k->c, g, gradient_order(k, gradient), result_past_cache(k, gradient));
}

bool sweep_plan(call *k, const geometry *g, int lifts, int terms, bool gradient, bool as_rows, plan *made)
{
    return plan_sweep(k->c, g, as_rows ? 0 : lifts, gradient ? terms : 0, real_bytes(k->dtype), gradient_order(k, gradient),
                      result_past_cache(k, gradient), made);
}

shape choices_plan(call *k, const geometry *g, bool gradient, bool indexed, plan *made)
{
    int past = result_past_cache(k, gradient) + (indexed && past_cache(INDEX_BYTES * product(k->out_dims, 5)) ? 2 : 0);
    return plan_choices(k->c, g, lanes_at_most(k, gradient), gradient_order(k, gradient), scratch_planes(k, gradient, 1, gradient),
                        real_bytes(k->dtype), past, made);
}

/* ---------------------------------------------------------------- running */

/* Tasks that are shared out. */
typedef struct {
    void (*part)(void *argument, int64_t slot, int64_t lo, int64_t hi);
    void *argument;
    int64_t tasks, slots;
} shares;

static void run_share(void *argument, int64_t slot)
{
    const shares *s = argument;
    s->part(s->argument, slot, slot * s->tasks / s->slots, (slot + 1) * s->tasks / s->slots);
}

int64_t slots_for(const call *k, int64_t tasks, int64_t taps)
{
    if (taps < WORTH || tasks < 2)
        return 1;
    int64_t threads = threads_for(&k->p);
    return tasks < threads ? tasks : threads;
}

static void share_among(const call *k, shares *s)
{
    if (s->slots == 1)
        run_share(s, 0);
    else
        run_parallel(&k->p, s->slots, run_share, s);
}

void share_out(call *k, void (*part)(void *argument, int64_t slot, int64_t lo, int64_t hi), void *argument, int64_t tasks, int64_t work)
{
    if (tasks && !k->dry)
        share_among(k, &(shares){part, argument, tasks, slots_for(k, tasks, work)});
}

typedef struct {
    kernel_function kernel;
    int64_t plan, data;
} job;

static void run_part(void *argument, int64_t slot, int64_t lo, int64_t hi)
{
    const job *j = argument;
    void *result = NULL, *exception = NULL;
    j->kernel(&result, &exception, j->plan, j->data, slot, lo, hi);
}

void launch_tasks(call *k, kernel_function f, const int64_t *integers, const int64_t *data, int64_t tasks, int64_t work)
{
    share_out(k, run_part, &(job){f, (int64_t)(intptr_t)integers, (int64_t)(intptr_t)data}, tasks, work);
}

bool launch(call *k, kernel_function f, const plan *made, bool backward, addresses *a, bool indexed, const uint8_t *mask, uint8_t **left)
{
    plan bundles;
    if (k->bundle) {
        bundles = plan_bundles(k->bundle, made, backward, left != NULL);
        a->words[AT_KERNEL] = (int64_t)(intptr_t)f;
        f = find_kernel(FORMULA_INDEX, false, FLOAT32, LOOP_BUNDLE);
        made = &bundles;
    }
    int64_t *words = a->words, tasks = backward ? made->planes : made->rows, most = made->rows > made->planes ? made->rows : made->planes;
    if (made->left)
        most = made->left;
    if (!tasks)
        return false;
    job j = {f, (int64_t)(intptr_t)made->integers, (int64_t)(intptr_t)words};
    shares s = {run_part, &j, tasks, slots_for(k, tasks, made->taps)};
    words[AT_FAULT] = (int64_t)(intptr_t)(words + AT_DATA);
    words[AT_DATA] = words[AT_DATA + 1] = 0;
    if (left) {
        *left = take(k->c, (size_t)most);
        memset(*left, 0, (size_t)most);
        words[AT_MASK] = (int64_t)(intptr_t)*left;
    }
    if (mask)
        words[AT_MASK] = (int64_t)(intptr_t)mask;
    if (made->work)
        words[AT_WORK] = (int64_t)(intptr_t)take(k->c, (size_t)(made->work * s.slots));
    if (k->dry)
        return left; /* the worst case: it may leave some */
    share_among(k, &s);
    if (indexed && words[AT_DATA])
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "indices must lie between 0 and %" PRId64 ", the positions of a plane", product(k->x.dims + 2, 3) - 1);
    return left && words[AT_DATA + 1];
}
