/* Sums of a window's elements times weights by their position: which elements of x belong to which of y along each axis, and the plan of their
 * kernels.  What the first half of numbapool/weigh.py does in Python, integer for integer; loops/cpu/weigh.py says what the plan holds. */
#include <string.h>

#include "plans.h"

/* ---------------------------------------------------------------- taps */

/* Which of n > 0 elements stands at a place before, on or behind them; -1: none. */
static int64_t at_border(int64_t i, int64_t n, int pad_mode)
{
    if (i >= 0 && i < n)
        return i;
    if (pad_mode == NUMBAPOOL_ZEROS)
        return -1;
    if (pad_mode == NUMBAPOOL_REPLICATE)
        return i < 0 ? 0 : n - 1;
    if (n == 1)
        return 0;
    int64_t period = 2 * n - 2, place = (i + n - 1) % period; /* mirrored again and again where the border is wider than the input */
    place += place < 0 ? period : 0;
    return place < n - 1 ? n - 1 - place : place - (n - 1);
}

static int64_t element_of(const axis *a, int64_t o, int64_t k) { return a->origin + a->stride * o + a->step * k; }

/* Numbers of pairs, one behind each other place, become where the pairs begin. */
static void add_up(int64_t *starts, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        starts[i + 1] += starts[i];
}

taps taps_of_windows(context *c, const axis *a, int64_t size, int pad_mode, bool transposed)
{
    int64_t results = transposed ? size : a->outputs, *starts = take_zeros(c, results + 1);
    for (int64_t o = 0; o < a->outputs; o++)
        for (int64_t k = 0; k < a->kernel; k++) {
            int64_t i = at_border(element_of(a, o, k), size, pad_mode);
            if (i >= 0)
                starts[(transposed ? i : o) + 1]++;
        }
    add_up(starts, results);
    int64_t *pairs = take_words(c, 2 * starts[results]), *next = take_words(c, results);
    memcpy(next, starts, (size_t)results * sizeof *next);
    for (int64_t o = 0; o < a->outputs; o++)
        for (int64_t k = 0; k < a->kernel; k++) {
            int64_t i = at_border(element_of(a, o, k), size, pad_mode);
            if (i < 0)
                continue;
            int64_t *pair = pairs + 2 * next[transposed ? i : o]++;
            pair[0] = transposed ? o : i;
            pair[1] = k;
        }
    return (taps){results, transposed ? a->stride : 1, starts, pairs};
}

taps taps_of_one(context *c, int64_t size, bool own)
{
    int64_t *starts = take_words(c, size + 1), *pairs = take_words(c, 2 * size);
    for (int64_t i = 0; i <= size; i++)
        starts[i] = i;
    for (int64_t i = 0; i < size; i++) {
        pairs[2 * i] = i;
        pairs[2 * i + 1] = own ? i : 0;
    }
    return (taps){size, 1, starts, pairs};
}

/* ---------------------------------------------------------------- runs */

/* Whether the elements of result q are all as far away from those of p, `gap`, and so its weights, `turn`: 0 or 1, where they have any. */
static bool alike(const taps *t, int64_t p, int64_t q, int64_t *gap, int64_t *turn)
{
    int64_t n = t->starts[p + 1] - t->starts[p];
    const int64_t *one = t->pairs + 2 * t->starts[p], *other = t->pairs + 2 * t->starts[q];
    if (n != t->starts[q + 1] - t->starts[q])
        return false;
    if (n) {
        *gap = other[0] - one[0];
        *turn = other[1] - one[1];
    }
    for (int64_t i = 0; i < n; i++)
        if (other[2 * i] - one[2 * i] != *gap || other[2 * i + 1] - one[2 * i + 1] != *turn)
            return false;
    return *turn == 0 || *turn == 1;
}

/* How many results from o on, `step` apart, differ by their places alone; away, turn: the distances of their elements and of their weights. */
static int64_t run_at(const taps *t, int64_t o, int64_t *away, int64_t *turn)
{
    int64_t n = 1, gap = 1, turned = 0;
    *away = 1;
    *turn = 0;
    for (; o + n * t->step < t->results; n++) {
        if (!alike(t, o + (n - 1) * t->step, o + n * t->step, &gap, &turned) || (n > 1 && (gap != *away || turned != *turn)))
            break;
        *away = gap;
        *turn = turned;
    }
    return n;
}

/* The rows of runs and their pairs, where there is memory for them; returns how many rows, and in n_pairs how many pairs. */
static int64_t runs(const taps *t, int64_t x, int64_t y, int64_t w, int64_t *rows, int64_t *pairs, int64_t *n_pairs)
{
    int64_t found = 0, away, turn;
    *n_pairs = 0;
    for (int64_t phase = 0; phase < least(t->step, t->results); phase++)
        for (int64_t o = phase, n; o < t->results; o += n * t->step) {
            n = run_at(t, o, &away, &turn);
            int64_t own = t->starts[o + 1] - t->starts[o];
            const int64_t *first = t->pairs + 2 * t->starts[o];
            if (rows) {
                int64_t row[WEIGH_RUN_SIZE] = {[WEIGH_R_AT] = o * y,      [WEIGH_R_STEP] = t->step * y, [WEIGH_R_LANES] = n,
                                               [WEIGH_R_TAKE] = away * x, [WEIGH_R_TURN] = turn * w,    [WEIGH_R_FROM] = *n_pairs,
                                               [WEIGH_R_TO] = *n_pairs + own};
                memcpy(rows + WEIGH_RUN_SIZE * found, row, sizeof row);
                for (int64_t i = 0; i < own; i++) {
                    pairs[2 * (*n_pairs + i)] = first[2 * i] * x;
                    pairs[2 * (*n_pairs + i) + 1] = first[2 * i + 1] * w;
                }
            }
            *n_pairs += own;
            found++;
        }
    return found;
}

/* ---------------------------------------------------------------- the plan */

/* The starts and the pairs of one of the first three axes, from `end` on; returns where they end. */
static int64_t place_axis(int64_t *integers, int axis, const taps *t, int64_t x, int64_t y, int64_t w, int64_t end)
{
    int64_t n = t->results, n_pairs = t->starts[n];
    integers[WEIGH_S1 + axis] = n;
    integers[WEIGH_Y_STEP + axis] = y;
    integers[WEIGH_STARTS + axis] = end;
    memcpy(integers + end, t->starts, (size_t)(n + 1) * sizeof *integers);
    end += n + 1;
    integers[WEIGH_PAIRS + axis] = end;
    for (int64_t i = 0; i < n_pairs; i++) {
        integers[end + 2 * i] = t->pairs[2 * i] * x;
        integers[end + 2 * i + 1] = t->pairs[2 * i + 1] * w;
    }
    return end + 2 * n_pairs;
}

weighing plan_weighing(context *c, const taps axes[4], int64_t batch, const int64_t x[5], const int64_t y[5], const int64_t w[4], int64_t sums)
{
    int64_t n_pairs, n_runs = runs(&axes[3], 0, 0, 0, NULL, NULL, &n_pairs), size = WEIGH_HEAD + WEIGH_RUN_SIZE * n_runs + 2 * n_pairs;
    weighing made = {.work = batch};
    for (int i = 0; i < 4; i++)
        made.work = times(made.work, axes[i].starts[axes[i].results]);
    for (int i = 0; i < 3; i++)
        size += axes[i].results + 1 + 2 * axes[i].starts[axes[i].results];
    made.integers = take_words(c, size);
    made.size = size;
    made.integers[WEIGH_BATCH] = batch;
    made.integers[WEIGH_X_BATCH] = x[0];
    made.integers[WEIGH_Y_BATCH] = y[0];
    made.integers[WEIGH_SUMS] = sums;
    made.integers[WEIGH_GATE] = 0;
    int64_t end = WEIGH_HEAD;
    for (int i = 0; i < 3; i++)
        end = place_axis(made.integers, i, &axes[i], x[1 + i], y[1 + i], w[i], end);
    made.integers[WEIGH_RUNS] = n_runs;
    made.integers[WEIGH_RUN_TABLE] = end;
    made.integers[WEIGH_RUN_PAIRS] = end + WEIGH_RUN_SIZE * n_runs;
    runs(&axes[3], x[4], y[4], w[3], made.integers + end, made.integers + end + WEIGH_RUN_SIZE * n_runs, &n_pairs);
    return made;
}
