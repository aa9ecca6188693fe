/* What the planners share among themselves: plan.py's Buffer, and what choices.py takes from sweeps.py. */
#ifndef NUMBAPOOL_PLANS_H
#define NUMBAPOOL_PLANS_H

#include "internal.h"

enum { MOST_TABLES = 24, HEAD = AT_RECORDS + AT_RECORD * AT_OPERANDS }; /* a sweep places 17 tables, extras of other plans one */

/* Numbers beyond this are cut to it: they are sizes that no memory has, and sums of two of them still fit. */
#define HUGE_NUMBER (INT64_MAX >> 2)

/* The integers of a plan as they grow: the header, then one table after the other.  Tables are copied when the plan is made. */
typedef struct {
    int64_t head[HEAD];
    const int64_t *tables[MOST_TABLES];
    int64_t sizes[MOST_TABLES];
    int n_tables;
    int64_t end;
    int64_t width, planes, taps;
    bool channel_lanes;
} buffer;

/* Rows of numbers, such as chunks. */
typedef struct {
    int64_t *cells;
    int64_t rows;
} table;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* n / d rounded up or down, d > 0; nearly always d is 1, and a division takes as long as all else in a small plan's loops. */
static inline int64_t down(int64_t n, int64_t d) { return d == 1 ? n : n / d - (n % d < 0); }
static inline int64_t up(int64_t n, int64_t d) { return d == 1 ? n : n / d + (n % d > 0); }

static inline int64_t rounded(int64_t n, int64_t to) { return up(n, to) * to; }

/* The product of numbers from 0 on. */
static inline int64_t times(int64_t a, int64_t b)
{
    if (((a | b) >> 30) == 0)
        return a * b;
    return b && a > HUGE_NUMBER / b ? HUGE_NUMBER : a * b;
}

/* The smallest and the largest of n > 0 numbers. */
static inline int64_t smallest(const int64_t *numbers, int64_t n)
{
    int64_t found = numbers[0];
    for (int64_t i = 1; i < n; i++)
        found = least(found, numbers[i]);
    return found;
}

static inline int64_t largest(const int64_t *numbers, int64_t n)
{
    int64_t found = numbers[0];
    for (int64_t i = 1; i < n; i++)
        found = most(found, numbers[i]);
    return found;
}

/* One past the last element of window o of a table that begins at `first`. */
static inline int64_t reach(const axis *a, const int64_t *first, int64_t o) { return first[o] + (a->count[o] - 1) * a->step + 1; }

/* plan.c */
void open_buffer(buffer *b, const geometry *g, int64_t width);
void place(buffer *b, int field, const int64_t *cells, int64_t size);
void record(buffer *b, int operand, const int64_t strides[5]);
int64_t place_gradient(buffer *b, const int64_t dims[5], bool channels_last, int scratch_planes, int itemsize); /* plan.gradient */
plan close_buffer(context *c, buffer *b, int64_t work, int64_t rows, int64_t planes);

/* sweeps.c */
void merged(context *c, geometry *g, const bool full[OPERANDS], int64_t cells);
bool in_planes(const geometry *g, const bool full[OPERANDS]);
int64_t many_channels(const geometry *g);
table covering(context *c, const axis *a, int64_t size);
int64_t power_of_two(int64_t n); /* the smallest one that is at least n */
int64_t tall(const geometry *g, int64_t over, int64_t least_rows);
int64_t turned(const geometry *g);
bool interleaved(const geometry *g);
bool chunks(context *c, const axis *a, int64_t size, int64_t positions, table *found);
table chunks_of_one(context *c, const axis *a, int64_t size); /* one window each */
bool differs(const geometry *g);                              /* whether windows differ from plane to plane */

#endif
