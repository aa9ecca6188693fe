/* The arithmetic of composed poolings on rows, for REAL numbers: elementwise.c takes this file in once for float and once for double.  The order of
 * operations is that of numbapool/composed.py, gated.py and dpp.py.  Legend: n elements; a where operands begin; s their steps, in elements. */

#define ROW(name) static void NAMED(name)(const void *how, int64_t n, void *const *a, const int64_t *s)
#define IN(k) const REAL *p##k = a[k]
#define OUT(k) REAL *p##k = a[k]
#define AT(k) p##k[i * s[k]]
#define EACH                                \
    (void)how;                              \
    for (int64_t i = 0; i < n; i++)

/* y = q one + (1 - q) two */
ROW(blend)
{
    OUT(0);
    IN(1);
    IN(2);
    IN(3);
    EACH AT(0) = AT(1) * AT(2) + (1 - AT(1)) * AT(3);
}

/* q grad and (1 - q) grad */
ROW(split)
{
    OUT(0);
    OUT(1);
    IN(2);
    IN(3);
    EACH
    {
        REAL q = AT(2), g = AT(3);
        AT(0) = q * g;
        AT(1) = (1 - q) * g;
    }
}

/* grad (one - two) */
ROW(times_distance)
{
    OUT(0);
    IN(1);
    IN(2);
    IN(3);
    EACH AT(0) = AT(1) * (AT(2) - AT(3));
}

ROW(add)
{
    OUT(0);
    IN(1);
    EACH AT(0) += AT(1);
}

ROW(clear)
{
    OUT(0);
    EACH AT(0) = 0;
}

ROW(sigmoid)
{
    OUT(0);
    EACH AT(0) = 1 / (1 + EXP(-AT(0)));
}

/* g q (1 - q) */
ROW(through_sigmoid)
{
    OUT(0);
    IN(1);
    EACH AT(0) = AT(0) * AT(1) * (1 - AT(1));
}

/* ---------------------------------------------------------------- detail-preserving pooling, one window at a time */

typedef struct {
    REAL x[8], away[8], ratio[8], powers[8], mean, total;
} NAMED(state);

/* The elements, their distances from `middle` (their average where it is NULL), v over its average, that average, and the powers. */
static void NAMED(look)(NAMED(state) *w, const dpp_window *how, const REAL *x, const REAL *middle, REAL power, REAL base)
{
    int m = how->elements;
    REAL sum = 0, v[8];
    for (int j = 0; j < m; j++)
        sum += w->x[j] = x[how->from[j]];
    REAL smoothed = middle ? *middle : sum / (REAL)m;
    sum = 0;
    for (int j = 0; j < m; j++) {
        REAL d = w->x[j] - smoothed;
        w->away[j] = how->symmetric ? d : d * (REAL)(w->x[j] > smoothed); /* NaN stays NaN */
        sum += v[j] = w->away[j] * w->away[j] + (REAL)DPP_LEAST;
    }
    w->mean = sum / (REAL)m;
    sum = 0;
    for (int j = 0; j < m; j++) {
        w->ratio[j] = v[j] / w->mean;
        sum += w->powers[j] = POWER(w->ratio[j], power);
    }
    w->total = sum + (REAL)m * base;
}

static REAL NAMED(result)(const NAMED(state) *w, int m, REAL base)
{
    REAL sum = 0;
    for (int j = 0; j < m; j++)
        sum += (w->powers[j] + base) * w->x[j];
    return sum / w->total;
}

/* y, x, power, base, middle or NULL */
ROW(dpp_forward)
{
    OUT(0);
    IN(1);
    IN(2);
    IN(3);
    IN(4);
    NAMED(state) w;
    EACH
    {
        NAMED(look)(&w, how, &AT(1), p4 ? &AT(4) : NULL, AT(2), AT(3));
        AT(0) = NAMED(result)(&w, ((const dpp_window *)how)->elements, AT(3));
    }
}

/* What a window gives to its elements and to the parameters: contributions to lam and alpha, of a filter to what it smoothed. */
static void NAMED(pull)(const NAMED(state) *w, const dpp_window *how, REAL g, REAL power, REAL base, REAL *grad_x, REAL *lam, REAL *alpha,
                        REAL *middle)
{
    int m = how->elements;
    REAL y = NAMED(result)(w, m, base), of_weight, of_ratio[8], of_away[8], shared = 0, sum = 0, logs = 0, weights = 0;
    for (int j = 0; j < m; j++) {
        of_weight = g * (w->x[j] - y) / w->total;
        weights += of_weight;
        if (lam)
            logs += of_weight * w->powers[j] * LOGARITHM(w->ratio[j]);
        of_ratio[j] = of_weight * w->powers[j] * power / w->ratio[j];
        shared += of_ratio[j] * w->ratio[j];
    }
    shared /= (REAL)m;
    for (int j = 0; j < m; j++)
        sum += of_away[j] = (of_ratio[j] - shared) * 2 * w->away[j] / w->mean;
    for (int j = 0; j < m; j++)
        grad_x[how->to[j]] = g * (w->powers[j] + base) / w->total + of_away[j] + (middle ? 0 : -sum / (REAL)m);
    if (lam)
        *lam = logs * power;
    if (alpha)
        *alpha = weights * base;
    if (middle)
        *middle = -sum;
}

/* grad_x, x, power, base, middle or NULL, grad, contributions to lam and to alpha or NULL, the gradient of middle or NULL */
ROW(dpp_backward)
{
    OUT(0);
    IN(1);
    IN(2);
    IN(3);
    IN(4);
    IN(5);
    OUT(6);
    OUT(7);
    OUT(8);
    NAMED(state) w;
    EACH
    {
        NAMED(look)(&w, how, &AT(1), p4 ? &AT(4) : NULL, AT(2), AT(3));
        NAMED(pull)(&w, how, AT(5), AT(2), AT(3), &AT(0), p6 ? &AT(6) : NULL, p7 ? &AT(7) : NULL, p8 ? &AT(8) : NULL);
    }
}

#undef ROW
#undef IN
#undef OUT
#undef AT
#undef EACH
#undef REAL
#undef NAMED
#undef EXP
#undef POWER
#undef LOGARITHM
