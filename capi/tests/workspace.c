/* Workspaces: what workspace_needed tells is enough, at any alignment, for every pooling; a smaller one is refused; nothing outside of it is written;
 * calls that have one do not allocate, and neither do small calls without. */
#include "poolings.h"

/* ---------------------------------------------------------------- calls of malloc are counted, where the C library lets us */

static _Thread_local long allocations;

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
enum { COUNTED = 1 };

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t bytes) { return allocations++, __libc_malloc(bytes); }
void *calloc(size_t n, size_t bytes) { return allocations++, __libc_calloc(n, bytes); }
void *realloc(void *p, size_t bytes) { return allocations++, __libc_realloc(p, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { return allocations++, __libc_memalign(alignment, bytes); }
#else
enum { COUNTED = 0 };
#endif

/* ---------------------------------------------------------------- one direction of one pooling */

enum { MARGIN = 64, MARK = 0x5A, REPEATS = 3 };

typedef struct {
    operands o;
    bool backward;
    const char *text;
} trial;

static int run(trial *a) { return (a->backward ? a->o.pooling->backward : a->o.pooling->forward)(a->o.t, &a->o.params); }

static void wipe(trial *a)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (a->o.t[slot] && is_output(slot, a->o.pooling, a->backward))
            memset(a->o.t[slot]->data, 0xFF, bytes_of(a->o.t[slot]));
}

static bool untouched(trial *a)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (a->o.t[slot] && is_output(slot, a->o.pooling, a->backward))
            for (size_t i = 0; i < bytes_of(a->o.t[slot]); i++)
                if (((unsigned char *)a->o.t[slot]->data)[i] != 0xFF)
                    return false;
    return true;
}

static size_t ask(trial *a)
{
    size_t needed = (size_t)-1;
    a->o.params.workspace_needed = &needed;
    wipe(a);
    CHECK(run(a) == NUMBAPOOL_OK && needed != (size_t)-1, "%s: workspace_needed", a->text);
    CHECK(untouched(a), "%s: asking for the workspace's size has computed something", a->text);
    a->o.params.workspace_needed = NULL;
    return needed;
}

/* Calls with a workspace that begins `offset` bytes behind a multiple of 64. */
static void enough(trial *a, const operands *serial, size_t needed, size_t offset)
{
    char *memory = allocate(needed + 2 * MARGIN + 128), *space = memory + MARGIN;
    space += -(uintptr_t)space & 63;
    space += offset;
    for (int i = 0; i < REPEATS; i++) {
        memset(memory, MARK, needed + 2 * MARGIN + 128);
        wipe(a);
        a->o.params.workspace = space;
        a->o.params.workspace_size = needed;
        long before = allocations;
        int status = run(a);
        CHECK(allocations == before, "%s: allocated in spite of its workspace", a->text);
        CHECK(status == NUMBAPOOL_OK, "%s: a workspace of %zu bytes at offset %zu is not enough", a->text, needed, offset);
        CHECK(same_outputs(&a->o, serial), "%s: differs with a workspace", a->text);
        for (int m = 1; m <= MARGIN; m++)
            CHECK(space[-m] == MARK && space[needed + (size_t)m - 1] == MARK, "%s: written outside of the workspace", a->text);
    }
    free(memory);
    a->o.params.workspace = NULL;
    a->o.params.workspace_size = 0;
}

/* What is too small by a line is refused before anything is written; sizes in between may do, but never go wrong. */
static int refused(trial *a, const operands *serial, size_t needed)
{
    static const size_t less[] = {1, 2, 64, 65, 128, 4096, (size_t)-1};
    int found = 0;
    char *memory = allocate(needed + 64), *space = memory + (-(uintptr_t)memory & 63);
    for (size_t i = 0; i < sizeof less / sizeof *less && needed > 0; i++) {
        a->o.params.workspace = space;
        a->o.params.workspace_size = less[i] < needed ? needed - less[i] : 0;
        wipe(a);
        int status = run(a);
        found += status == NUMBAPOOL_BUFFER_ERROR;
        CHECK(status == NUMBAPOOL_OK || status == NUMBAPOOL_BUFFER_ERROR, "%s: status %d for a workspace that is too small", a->text, status);
        CHECK(status != NUMBAPOOL_OK || same_outputs(&a->o, serial), "%s: differs with %zu bytes less", a->text, less[i]);
        CHECK(status == NUMBAPOOL_OK || untouched(a), "%s: refused after it has written, with %zu of %zu bytes", a->text, a->o.params.workspace_size,
              needed);
        CHECK(status == NUMBAPOOL_OK || strstr(numbapool_error_message(), "workspace"), "%s: the message does not name the workspace", a->text);
    }
    CHECK(!needed || found > 0, "%s: no workspace was refused, though %zu bytes are said to be needed", a->text, needed);
    free(memory);
    a->o.params.workspace = NULL;
    a->o.params.workspace_size = 0;
    return found;
}

static void each(const input *in, const window *w, int threads)
{
    for (int i = 0; i < POOLINGS; i++) {
        char text[200];
        operands serial;
        trial a = {.text = text};
        snprintf(text, sizeof text, "%s %s, layout %d, %d threads", poolings[i].name, dtype_name(in->dtype), (int)in->layout, threads);
        if (prepare(&serial, &poolings[i], w, in, plainly) && prepare(&a.o, &poolings[i], w, in, plainly)) {
            serial.params.num_threads = a.o.params.num_threads = threads;
            int status = both(&serial);
            CHECK(lacking(status, &serial) || both(&a.o) == NUMBAPOOL_OK, "%s failed", text);
            for (int backward = 0; backward < 2 && status == NUMBAPOOL_OK; backward++) {
                a.backward = backward;
                size_t needed = ask(&a);
                enough(&a, &serial, needed, 0);
                enough(&a, &serial, needed, 1);
                enough(&a, &serial, needed, 63);
                refused(&a, &serial, needed);
                wipe(&a);
                CHECK(run(&a) == NUMBAPOOL_OK && same_outputs(&a.o, &serial), "%s: differs without a workspace", text);
            }
            discard(&a.o);
        }
        discard(&serial);
    }
}

/* Small calls find all they need on the stack. */
static void small_calls(void)
{
    input in = {.batch = 1, .channels = 3, .spatial = {8, 8}, .rank = 2, .layout = FIRST, .dtype = F32};
    for (int i = 0; i < POOLINGS; i++) {
        operands o;
        CHECK(prepare(&o, &poolings[i], &windows[0], &in, plainly), "%s: shape", poolings[i].name);
        long before = allocations;
        CHECK(both(&o) == NUMBAPOOL_OK, "%s failed", poolings[i].name);
        CHECK(allocations == before, "%s: a small call has allocated", poolings[i].name);
        discard(&o);
    }
}

int main(void)
{
    static const dtype dtypes[] = {F32, F16, U8};
    for (int l = 0; l < LAYOUTS; l++)
        for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
            input in = {.batch = 2, .channels = 5, .spatial = {33, 29}, .rank = 2, .layout = (layout)l, .dtype = dtypes[d]};
            each(&in, &windows[1], 1);
            each(&in, &windows[14], 1);
            in.channels = 8, in.spatial[0] = 130, in.spatial[1] = 131;
            each(&in, &windows[1], 3);
        }
    if (COUNTED)
        small_calls();
    return report("workspace");
}
