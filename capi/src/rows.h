/* The arithmetic of composed poolings on rows, for REAL numbers: elementwise.c takes this file in once for float and once for double.  The order of
 * operations is that of numbapool/composed.py and gated.py.  Legend: n elements; a where operands begin; s their steps, in elements. */

#define ROW(name) static void NAMED(name)(int64_t n, void *const *a, const int64_t *s)
#define IN(k) const REAL *p##k = a[k]
#define OUT(k) REAL *p##k = a[k]
#define AT(k) p##k[i * s[k]]
#define EACH                                \
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

/* g q (1 - q) */
ROW(through_sigmoid)
{
    OUT(0);
    IN(1);
    EACH AT(0) = AT(0) * AT(1) * (1 - AT(1));
}

#undef ROW
#undef IN
#undef OUT
#undef AT
#undef EACH
#undef REAL
#undef NAMED
