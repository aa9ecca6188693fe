/* Every tensor ends right before a page that cannot be touched, then begins right after one; inputs cannot be written.  All poolings run so, forward
 * and backward, over many windows, dtypes and memory orders: a kernel that reads or writes one element too far ends the program. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, sysconf */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "naive.h"
#include "poolings.h"

enum { ROOM = 4 << 20 }; /* bytes of a tensor at most */

static char *arenas[SLOTS]; /* each: one page of guard, ROOM, one page of guard */
static size_t page;
static bool at_the_end;
static const char *volatile now = "nothing";
static const char *volatile way = "";

static void died(int signal)
{
    (void)signal; /* not a function for signal handlers, but there is nothing left to be lost */
    printf("guard_pages: a kernel left its memory or wrote an input: %s, %s\n", now, way);
    fflush(stdout);
    _exit(1);
}

static void make_arenas(void)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    for (int slot = 0; slot < SLOTS; slot++) {
        char *all = mmap(NULL, ROOM + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all, page, PROT_NONE) || mprotect(all + page + ROOM, page, PROT_NONE)) {
            puts("mmap failed");
            exit(2);
        }
        arenas[slot] = all + page;
    }
}

static void protect(const operands *o, bool backward)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (o->t[slot] && !is_output(slot, o->pooling, backward))
            mprotect(arenas[slot], ROOM, PROT_READ);
}

static void unprotect(const operands *o)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (o->t[slot])
            mprotect(arenas[slot], ROOM, PROT_READ | PROT_WRITE);
}

/* Memory in the slot's arena, with a margin that is known on its open side. */
enum { MARGIN = 256, MARK = 0xA5 };

static void *guarded(int slot, size_t bytes)
{
    char *memory = at_the_end ? arenas[slot] + ROOM - bytes : arenas[slot];
    if (bytes + MARGIN > ROOM) {
        puts("a tensor is too large for its arena");
        exit(2);
    }
    memset(at_the_end ? memory - MARGIN : memory + bytes, MARK, MARGIN);
    return memory;
}

static bool margin_kept(const DLTensor *t)
{
    const char *data = t->data;
    const char *margin = at_the_end ? data - MARGIN : data + bytes_of(t);
    for (int i = 0; i < MARGIN; i++)
        if ((unsigned char)margin[i] != MARK)
            return false;
    return true;
}

static void one(operands *o, const char *text)
{
    static const char *const ways[] = {"forward", "backward", "backward without indices"};
    const pooling *p = o->pooling;
    for (int turn = 0; turn < (p->indexed ? 3 : 2); turn++) {
        DLTensor *t[SLOTS];
        memcpy(t, o->t, sizeof t);
        if (turn == 2)
            t[INDICES] = NULL;
        way = ways[turn];
        protect(o, turn > 0);
        int status = (turn ? p->backward : p->forward)(t, &o->params);
        unprotect(o);
        if (lacking(status, o))
            return;
        CHECK(status == NUMBAPOOL_OK, "%s, %s: status %d", text, ways[turn], status);
    }
    for (int slot = 0; slot < SLOTS; slot++)
        CHECK(!o->t[slot] || margin_kept(o->t[slot]), "%s: written outside of tensor %d", text, slot);
    CHECK(agrees(o), "%s: differs from plain loops", text);
}

/* Whether a call is small enough to be tried, with plain loops after it. */
static bool quick(const operands *o)
{
    int64_t taps = elements(o->t[Y]);
    for (int i = 0; i < o->params.rank; i++)
        taps *= o->params.form == NUMBAPOOL_SLIDING && o->params.kernel_size[i] ? o->params.kernel_size[i] : 2;
    return taps < 300000;
}

static void each_pooling(const window *w, const input *in)
{
    char text[200];
    for (int i = 0; i < POOLINGS; i++) {
        operands o;
        snprintf(text, sizeof text, "%s %s, rank %d, %lld x %lld x (%lld, %lld, %lld), layout %d, window %d", poolings[i].name, dtype_name(in->dtype),
                 in->rank, (long long)in->batch, (long long)in->channels, (long long)in->spatial[0], (long long)in->spatial[1],
                 (long long)in->spatial[2], (int)in->layout, (int)(w - windows));
        now = text;
        if (prepare(&o, &poolings[i], w, in, guarded) && quick(&o))
            one(&o, text);
    }
}

/* With a number in argv[1], every so many cases; with 1 all of them. */
int main(int argc, char **argv)
{
    static const int64_t sizes[][5] = {{1, 3, 37, 5, 4}, {2, 17, 9, 7, 3}, {0, 2, 16, 8, 3},  {1, 1, 1, 67, 3},
                                       {1, 2, 5, 70, 2}, {1, 67, 6, 5, 2}, {1, 1, 131, 2, 2}, {3, 1, 1, 1, 1}};
    static const dtype dtypes[] = {F32, F16, F64, BF16, U8, I64};
    enum { SIZES = sizeof sizes / sizeof *sizes, TYPES = sizeof dtypes / sizeof *dtypes };
    int step = argc > 1 ? atoi(argv[1]) : 7;
    make_arenas();
    signal(SIGSEGV, died);
    signal(SIGBUS, died);
    for (int i = 0; i < SIZES * TYPES * WINDOWS * 3 * LAYOUTS * 2; i += step) {
        int rest = i;
        at_the_end = rest % 2, rest /= 2;
        input in = {.rank = rest % 3 + 1};
        rest /= 3;
        in.layout = (layout)(rest % LAYOUTS), rest /= LAYOUTS;
        const window *w = &windows[rest % WINDOWS];
        rest /= WINDOWS;
        in.dtype = dtypes[rest % TYPES], rest /= TYPES;
        in.batch = sizes[rest][0], in.channels = sizes[rest][1];
        memcpy(in.spatial, sizes[rest] + 2, sizeof in.spatial);
        each_pooling(w, &in);
    }
    return report("guard_pages");
}
