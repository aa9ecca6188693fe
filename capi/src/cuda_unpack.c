/* LZMA's decoder, as small as it can be: Igor Pavlov, "LZMA specification", 2015 (public domain), for lc = 0, lp = 0, pb = 4 and a stream whose
 * size is known. */
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

enum { POSITIONS = 16, STATES = 12, HALF = 1 << 10, TOP = 1 << 24, LENGTHS = 2 + POSITIONS * 16 + 256 };

typedef struct {
    const unsigned char *from, *end;
    uint32_t range, code;
    bool over; /* more was read than there is */
} reader;

typedef uint16_t odds; /* that a bit is 0, of 2048 */

typedef struct {
    odds match[STATES][POSITIONS], rep[STATES], rep0[STATES], rep0_long[STATES][POSITIONS], rep1[STATES], rep2[STATES];
    odds literal[0x300], slot[4][64], special[128], align[16];
    odds length[2][LENGTHS]; /* choice, choice2, low[16][8], mid[16][8], high[256] */
} model;

static void normalise(reader *r)
{
    if (r->range >= TOP)
        return;
    r->over |= r->from == r->end;
    r->range <<= 8;
    r->code = r->code << 8 | (r->from < r->end ? *r->from++ : 0);
}

static unsigned bit(reader *r, odds *p)
{
    uint32_t bound = (r->range >> 11) * *p;
    unsigned found = r->code >= bound;
    if (found) {
        r->range -= bound;
        r->code -= bound;
        *p = (odds)(*p - (*p >> 5));
    } else {
        r->range = bound;
        *p = (odds)(*p + ((2048 - *p) >> 5));
    }
    normalise(r);
    return found;
}

static uint32_t direct(reader *r, int bits)
{
    uint32_t found = 0;
    while (bits-- > 0) {
        r->range >>= 1;
        unsigned one = r->code >= r->range;
        if (one)
            r->code -= r->range;
        normalise(r);
        found = found << 1 | one;
    }
    return found;
}

static unsigned tree(reader *r, odds *p, int bits)
{
    unsigned m = 1;
    for (int i = 0; i < bits; i++)
        m = m << 1 | bit(r, &p[m]);
    return m - (1U << bits);
}

static uint32_t reverse_tree(reader *r, odds *p, int bits)
{
    unsigned m = 1;
    uint32_t found = 0;
    for (int i = 0; i < bits; i++) {
        unsigned one = bit(r, &p[m]);
        m = m << 1 | one;
        found |= (uint32_t)one << i;
    }
    return found;
}

static unsigned length_of(reader *r, odds *p, unsigned position)
{
    if (!bit(r, p))
        return 2 + tree(r, p + 2 + position * 8, 3);
    if (!bit(r, p + 1))
        return 10 + tree(r, p + 2 + POSITIONS * 8 + position * 8, 3);
    return 18 + tree(r, p + 2 + POSITIONS * 16, 8);
}

static uint32_t distance_of(reader *r, model *m, unsigned length)
{
    unsigned slot = tree(r, m->slot[length < 6 ? length - 2 : 3], 6);
    if (slot < 4)
        return slot;
    int bits = (int)(slot >> 1) - 1;
    uint32_t distance = (2U | (slot & 1)) << bits;
    if (slot < 14)
        return distance + reverse_tree(r, m->special + distance - slot, bits);
    distance += direct(r, bits - 4) << 4;
    return distance + reverse_tree(r, m->align, 4);
}

static unsigned char literal(reader *r, odds *p, bool matched, unsigned before)
{
    unsigned symbol = 1;
    while (matched && symbol < 0x100) {
        unsigned expected = before >> 7 & 1, found = bit(r, &p[((1 + expected) << 8) + symbol]);
        before <<= 1;
        symbol = symbol << 1 | found;
        matched = expected == found;
    }
    while (symbol < 0x100)
        symbol = symbol << 1 | bit(r, &p[symbol]);
    return (unsigned char)symbol;
}

/* Move the one of the last four distances that a match repeats to the front; false where the match is one byte at the last distance. */
static bool repeats(reader *r, model *m, unsigned state, unsigned position, uint32_t reps[4])
{
    if (!bit(r, &m->rep0[state]))
        return bit(r, &m->rep0_long[state][position]);
    int i = !bit(r, &m->rep1[state]) ? 1 : !bit(r, &m->rep2[state]) ? 2 : 3;
    uint32_t distance = reps[i];
    memmove(reps + 1, reps, (size_t)i * sizeof *reps);
    reps[0] = distance;
    return true;
}

static bool decode(reader *r, model *m, unsigned char *to, size_t size)
{
    uint32_t reps[4] = {0};
    unsigned state = 0;
    for (size_t done = 0; done < size;) {
        unsigned position = done & (POSITIONS - 1), length;
        if (r->over)
            return false;
        if (!bit(r, &m->match[state][position])) {
            if (state >= 7 && reps[0] >= done)
                return false;
            to[done] = literal(r, m->literal, state >= 7, state >= 7 ? to[done - reps[0] - 1] : 0);
            done++;
            state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
            continue;
        }
        if (!bit(r, &m->rep[state])) {
            memmove(reps + 1, reps, 3 * sizeof *reps);
            length = length_of(r, m->length[0], position);
            state = state < 7 ? 7 : 10;
            reps[0] = distance_of(r, m, length);
        } else if (repeats(r, m, state, position, reps)) {
            length = length_of(r, m->length[1], position);
            state = state < 7 ? 8 : 11;
        } else {
            length = 1;
            state = state < 7 ? 9 : 11;
        }
        if (reps[0] >= done)
            return false;
        for (; length && done < size; length--, done++) /* no further than what was asked for, which may be the stream's beginning */
            to[done] = to[done - reps[0] - 1];
    }
    return !r->over;
}

bool cuda_unpack(const unsigned char *from, size_t packed, unsigned char *to, size_t size)
{
    model *m = malloc(sizeof *m);
    reader r = {from, from + packed, 0xFFFFFFFF, 0, packed < 5};
    if (!m || r.over) {
        free(m);
        return false;
    }
    for (size_t i = 0; i < sizeof *m / sizeof(odds); i++)
        ((odds *)(void *)m)[i] = HALF;
    for (int i = 0; i < 5; i++)
        r.code = r.code << 8 | *r.from++;
    bool well = decode(&r, m, to, size);
    free(m);
    return well;
}
