/* The families of formulas: which kernels a call runs, and on what.  What families.py, pools/s3.py and pools/max_unpool.py do in Python. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "plans.h"

static int64_t address(const void *p) { return (int64_t)(intptr_t)p; }

static void read_from(addresses *a, geometry *g, int slot, const view *v)
{
    a->words[slot] = address(v->data);
    operand(g, slot, v->strides);
}

/* Sum with an error that grows with the logarithm of n. */
static double pairwise(const char *memory, bool single, int64_t n)
{
    double sum = 0;
    if (n <= 128) {
        for (int64_t i = 0; i < n; i++)
            sum += single ? (double)((const float *)(const void *)memory)[i] : ((const double *)(const void *)memory)[i];
        return sum;
    }
    int64_t half = n / 2;
    return pairwise(memory, single, half) + pairwise(memory + half * (single ? 4 : 8), single, n - half);
}

/* ---------------------------------------------------------------- parameters of folds */

/* The array parameter of a call: its values in the kernel's arithmetic, one or one a channel. */
typedef struct {
    bool there, per_channel;
    int64_t n;
    char *values;
    double first;
} array_parameter;

static void store_real(char *memory, bool single, int64_t i, double value)
{
    if (single)
        ((float *)(void *)memory)[i] = (float)value;
    else
        ((double *)(void *)memory)[i] = value;
}

static void check_array_value(call *k, double value)
{
    const array_info *info = &k->pooling->array;
    double there = k->dtype == FLOAT64 ? value : (double)(float)value;
    if (!isfinite(there))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must be finite in %s, got %g", info->name, k->dtype == FLOAT64 ? "float64" : "float32", value);
    if (!(there > info->above))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must be above %g, got %g", info->name, info->above, value);
}

static array_parameter read_array(call *k)
{
    const array_info *info = &k->pooling->array;
    const DLTensor *t = k->r->array;
    array_parameter a = {.there = info->name != NULL, .n = 1};
    if (!a.there)
        return a;
    if (t) {
        parameter_tensor(k, t, info->name);
        a.per_channel = t->ndim == 1;
        if (t->ndim > 1 || (a.per_channel && t->shape[0] != k->x.dims[1]))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must have shape () or (%" PRId64 ",)", info->name, k->x.dims[1]);
        a.n = a.per_channel ? t->shape[0] : 1;
    }
    a.values = take(k->c, (size_t)a.n * 8);
    for (int64_t i = 0; i < a.n; i++) {
        double value = t ? parameter_value(t, &i) : array_number(k);
        check_array_value(k, value);
        store_real(a.values, k->dtype != FLOAT64, i, value);
        if (i == 0)
            a.first = value;
    }
    return a;
}

double array_number(call *k)
{
    double value = *(const double *)(const void *)((const char *)&k->p + k->pooling->array.offset);
    check_array_value(k, value);
    return value;
}

/* A number parameter, which must not vanish or overflow in the kernel's arithmetic. */
static double number_of(call *k, const number_info *info)
{
    double value = *(const double *)(const void *)((const char *)&k->p + info->offset), there = k->dtype == FLOAT64 ? value : (double)(float)value;
    if (!isfinite(value) || (info->positive && !(value > 0)))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must be %sfinite, got %g", info->name, info->positive ? "positive and " : "", value);
    if (!isfinite(there) || (there == 0) != (value == 0))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must lie in the range of float32, got %g", info->name, value);
    return value;
}

void read_numbers(call *k, double *numbers)
{
    for (int i = 0; i < k->pooling->n_numbers; i++)
        numbers[i] = k->pooling->fixed ? k->pooling->constants[i] : number_of(k, &k->pooling->numbers[i]);
}

static bool has_formula(const call *k, int formula)
{
    return k->c->device >= 0 ? cuda_has_formula(k, formula) : find_kernel(formula, k->r->backward, k->dtype, LOOP_GENERAL) != NULL;
}

int main_formula(const call *k)
{
    const pooling_info *p = k->pooling;
    if (p->family == FAMILY_UNPOOL)
        return FORMULA_INDEX;
    if (p->family == FAMILY_COMPOSED)
        return FORMULA_WEIGH;
    if (p->family != FAMILY_FOLD && (p->family != FAMILY_DRAW || k->p.training || by_rank(k)))
        return k->chooses;
    bool divided = k->p.divisor_override && p->ignoring_divided;
    return !k->p.ignore_nan || !p->ignoring ? p->formula : divided ? p->ignoring_divided : p->ignoring;
}

/* The formula that a call's parameters ask for: an option's always, one that is only faster where this build has its kernels. */
static int formula_of(const call *k, const array_parameter *array)
{
    if (k->p.ignore_nan && k->pooling->ignoring)
        return main_formula(k);
    for (int i = 0; i < k->pooling->n_variants; i++) {
        const variant_info *v = &k->pooling->variants[i];
        const char *field = (const char *)&k->p + v->offset;
        double value = v->is_double ? *(const double *)(const void *)field : (double)*(const int32_t *)(const void *)field;
        if (array->there && v->offset == k->pooling->array.offset) {
            if (array->n != 1)
                continue;
            value = array->first;
        }
        bool asked = value == v->value && (k->r->backward || !v->only_backward);
        if (asked && (!v->is_double || has_formula(k, v->formula)))
            return v->formula;
    }
    return k->pooling->formula;
}

/* On a device nobody looks at the values of a tensor. */
int cuda_formula_of(const call *k)
{
    array_parameter array = {.there = k->pooling->array.name != NULL, .n = k->r->array ? 2 : 1};
    if (array.there)
        array.first = *(const double *)(const void *)((const char *)&k->p + k->pooling->array.offset);
    return formula_of(k, &array);
}

/* ---------------------------------------------------------------- fold */

/* The general kernel, over all windows or over those that another one has left. */
static void fold_general(call *k, int formula, const geometry *g, addresses *a, int planes, const uint8_t *mask)
{
    bool backward = k->r->backward;
    plan made = planned(k, g, backward, planes, false, false, NULL, 0);
    launch(k, needed_kernel(k, formula, backward, LOOP_GENERAL), &made, backward, a, false, mask, NULL);
}

/* The loops for the windows that `small` names, where lanes are windows, and where they are channels. */
static const int small_loops[][2] = {
    [QUAD] = {LOOP_QUAD, LOOP_QUAD_CHANNELS}, [NINE] = {LOOP_NINE_CHANNELS, LOOP_NINE_CHANNELS}, [EIGHT] = {LOOP_EIGHT, LOOP_EIGHT},
    [THREE] = {LOOP_THREE_ROWS, LOOP_THREE_ROWS}, [PLANES] = {LOOP_PLANES, LOOP_PLANES},
};

/* The kernel of one pass for small windows and its plan, where both are there. */
static kernel_function fold_small(call *k, int formula, const geometry *g, plan *made)
{
    const formula_info *info = &formula_infos[formula];
    bool backward = k->r->backward, plain = info->plain_sum;
    geometry cut_one;
    shape s = small_of(k, g, backward, plain, &cut_one);
    if (s != PLANES && s != QUAD && s != THREE && s != EIGHT && !(s == NINE && plain))
        return NULL;
    kernel_function f = find_kernel(formula, backward, k->dtype, small_loops[s][k->lanes]);
    if (f)
        *made = small_plan(k, &cut_one, s, backward, info->way[backward].accumulators, info->way[backward].terms);
    return f;
}

static kernel_function fold_sweep(call *k, int formula, const geometry *g, plan *made)
{
    const formula_info *info = &formula_infos[formula];
    bool backward = k->r->backward;
    geometry seen = *g;
    if (info->plain_sum && k->memory_last)
        as_channels(k->c, &seen, backward);
    bool as_rows = info->plain_sum && !is_half(k->dtype) && straight(&seen, seen.strides[AT_X]);
    if (as_rows && !backward && !find_kernel(formula, backward, k->dtype, LOOP_SWEEP_STRAIGHT))
        as_rows = false;
    kernel_function f = find_kernel(formula, backward, k->dtype, as_rows && !backward ? LOOP_SWEEP_STRAIGHT : LOOP_SWEEP);
    if (!f || !sweep_plan(k, &seen, info->way[backward].accumulators, info->way[backward].terms, backward, as_rows, made))
        return NULL;
    return f;
}

/* Whether three.py joins planes in turn. */
static bool in_turn(shape s, const geometry *g) { return s == THREE && largest(g->axes[0].count, g->axes[0].outputs) > 1; }

/* Below which width planes are bundled, by the loop that would take them else. */
static int64_t fold_widest(call *k, int formula, const geometry *g)
{
    const formula_info *info = &formula_infos[formula];
    geometry cut_one;
    shape s = small_of(k, g, k->r->backward, info->plain_sum, &cut_one);
    if (s == QUAD || s == PLANES)
        return s == QUAD ? WIDEST_QUAD : 0;
    if (!info->common)
        return WIDEST_EXACT;
    if (s == THREE || s == EIGHT)
        return info->plain_sum && !in_turn(s, g) ? 0 : WIDEST_LIFTED_THREE;
    return k->r->backward ? WIDEST_SWEEP_BACK : WIDEST_SWEEP;
}

/* The kernel of one pass, in bundles where these suit, and for what it leaves, or for all, the general one. */
static void fold_launch(call *k, int formula, const geometry *g, addresses *a, int planes)
{
    plan made;
    uint8_t *left = NULL;
    bundle b;
    geometry there = *g;
    call *seen = in_bundles(&b, k, &there, fold_widest(k, formula, g), k->r->backward);
    if (seen != k && k->r->backward && formula_infos[formula].plain_sum)
        b.given.has[AT_X] = false; /* which is not read */
    kernel_function f = fold_small(seen, formula, &there, &made);
    if (!f)
        f = fold_sweep(seen, formula, &there, &made);
    if (!f)
        fold_general(seen, formula, &there, a, planes, NULL);
    else if (launch(seen, f, &made, k->r->backward, a, false, NULL, &left))
        fold_general(k, formula, g, a, planes, left);
}

static void store_array_gradient(call *k, const array_parameter *array, const char *sums)
{
    const DLTensor *t = k->r->grad_array;
    int64_t channels = k->out_dims[1], plane = product(k->out_dims + 2, 3), item = real_bytes(k->dtype);
    double total = 0;
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t n = 0; n < k->out_dims[0]; n++)
            sum += pairwise(sums + (n * channels + c) * plane * item, item == 4, plane);
        if (array->per_channel)
            parameter_store(t, &c, sum);
        total += sum;
    }
    if (!array->per_channel)
        parameter_store(t, (int64_t[]){0}, total);
}

/* Where the contributions to an array parameter's gradient go, one an output: kernels always make them. */
static char *contributions(call *k, const array_parameter *array, geometry *g, addresses *a)
{
    const DLTensor *t = k->r->grad_array;
    char name[64];
    snprintf(name, sizeof name, "grad_%s", k->pooling->array.name);
    if (t) {
        parameter_tensor(k, t, name);
        if (t->ndim > 1 || (t->ndim == 1 && t->shape[0] != array->n) || (t->ndim == 0 && array->per_channel))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "%s must have the shape of %s", name, k->pooling->array.name);
        disjoint(k, t, name);
    }
    int64_t strides[5], bytes = product(k->out_dims, 5) * real_bytes(k->dtype);
    dense(k->out_dims, false, strides);
    char *sums = take(k->c, (size_t)bytes);
    if (!k->dry)
        memset(sums, 0, (size_t)bytes);
    a->words[AT_GRAD_PARAM] = address(sums);
    operand(g, AT_GRAD_PARAM, strides);
    return sums;
}

static void fold_operands(call *k, geometry *g, addresses *a, const array_parameter *array, double *numbers)
{
    read_from(a, g, AT_X, &k->x);
    if (k->pooling->elements == 2) {
        view logit = tensor_view(k, k->r->logit, "logit", k->x.dims, k->dtype);
        read_from(a, g, AT_LOGIT, &logit);
    }
    read_numbers(k, numbers);
    a->words[AT_NUMBERS] = address(numbers);
    if (array->there) {
        int64_t strides[5] = {0, array->per_channel && array->n > 1, 0, 0, 0};
        a->words[AT_PARAM] = address(array->values);
        operand(g, AT_PARAM, strides);
    }
}

static void fold_backward(call *k, int formula, geometry *g, addresses *a, const array_parameter *array)
{
    const request *r = k->r;
    bool two = k->pooling->elements == 2;
    view grad = tensor_view(k, r->grad, "grad", k->out_dims, k->dtype), grad_x = gradient_view(k, r->grad_x, "grad_x"), grad_logit = {0};
    read_from(a, g, AT_Y, &grad);
    a->words[AT_GRAD_X] = address(grad_x.data);
    if (two) {
        grad_logit = gradient_view(k, r->grad_logit, "grad_logit");
        a->words[AT_GRAD_LOGIT] = address(grad_logit.data);
    }
    char *sums = k->pooling->learns ? contributions(k, array, g, a) : NULL;
    fold_launch(k, formula, g, a, k->pooling->elements);
    settle_gradient(k, r->grad_x, "grad_x", &grad_x);
    if (two)
        settle_gradient(k, r->grad_logit, "grad_logit", &grad_logit);
    if (sums && r->grad_array && !k->dry)
        store_array_gradient(k, array, sums);
}

void run_fold(call *k)
{
    geometry g = geometry_of(k);
    addresses a = {{0}};
    double numbers[5] = {0};
    array_parameter array = read_array(k);
    fold_operands(k, &g, &a, &array, numbers);
    int formula = formula_of(k, &array);
    if (k->r->backward) {
        fold_backward(k, formula, &g, &a, &array);
        return;
    }
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    read_from(&a, &g, AT_Y, &y);
    fold_launch(k, formula, &g, &a, 1);
}

/* ---------------------------------------------------------------- select */

/* Whether positions in a plane need more than 32 bits; loops for those serve smaller planes, too. */
static bool wide(const call *k) { return product(k->x.dims + 2, 3) >= (int64_t)1 << 31; }

static kernel_function narrow_kernel(const call *k, bool backward, int loop)
{
    return wide(k) ? NULL : find_kernel(k->chooses, backward, k->dtype, loop);
}

static int places_loop(shape s)
{
    static const int loops[] = {[QUAD] = LOOP_PLACES_QUAD, [NINE] = LOOP_PLACES_NINE, [SHORT] = LOOP_PLACES_SHORT, [OWN] = LOOP_PLACES_OWN,
                                [WHOLE] = LOOP_PLACES_WHOLE, [SEPARATE] = LOOP_PLACES_SEPARATE};
    return s == NO_SHAPE ? LOOP_PLACES : loops[s];
}

/* A loop that this build may lack, and the general one in its place. */
static kernel_function places_kernel(call *k, bool backward, shape s)
{
    kernel_function f = s == SEPARATE ? find_kernel(k->chooses, backward, k->dtype, places_loop(s)) : narrow_kernel(k, backward, places_loop(s));
    if (!f && s != NO_SHAPE)
        f = narrow_kernel(k, backward, LOOP_PLACES);
    return f ? f : needed_kernel(k, k->chooses, backward, LOOP_PLACES_WIDE);
}

/* The maxima alone, by the loops that keep no places; false where none suits. */
static bool choose_values(call *k, const geometry *g, addresses *a)
{
    geometry cut_one;
    plan made;
    int formula = k->chooses;
    shape s = small_of(k, g, false, true, &cut_one);
    kernel_function f = s == NO_SHAPE ? NULL : find_kernel(formula, false, k->dtype, small_loops[s][k->lanes]);
    if (f) {
        made = small_plan(k, &cut_one, s, false, 1, 0);
        launch(k, f, &made, false, a, false, NULL, NULL);
        return true;
    }
    geometry seen = *g;
    if (k->memory_last)
        as_channels(k->c, &seen, false);
    bool as_rows = !is_half(k->dtype) && straight(&seen, seen.strides[AT_X]) && find_kernel(formula, false, k->dtype, LOOP_SWEEP_STRAIGHT);
    f = find_kernel(formula, false, k->dtype, as_rows ? LOOP_SWEEP_STRAIGHT : LOOP_SWEEP);
    if (!f || !sweep_plan(k, &seen, 1, 0, false, as_rows, &made))
        return false;
    launch(k, f, &made, false, a, false, NULL, NULL);
    return true;
}

/* families.places_widest */
static int64_t places_widest(shape s, bool beside, const geometry *g)
{
    if (s == QUAD || s == OWN)
        return WIDEST_PLACES_QUAD;
    if (s == SHORT && largest(g->axes[0].count, g->axes[0].outputs) == 1)
        return beside ? WIDEST_PLACES_SHORT_BESIDE : WIDEST_PLACES_SHORT;
    if (s == SEPARATE)
        return WIDEST_PLACES_SEPARATE;
    return s == WHOLE ? 0 : WIDEST_PLACES;
}

/* Below which width planes are bundled, by the loop that would take them else. */
static int64_t choice_widest(call *k, const geometry *g, bool indexed)
{
    geometry cut_one;
    plan made;
    if (indexed) {
        shape s = choices_plan(k, g, false, true, &made);
        return places_widest(s, made.integers[AT_W_STRIDE] == 1, g);
    }
    shape s = small_of(k, g, false, true, &cut_one);
    if (in_turn(s, g))
        return WIDEST_LIFTED_THREE;
    return s == PLANES || s == THREE || s == EIGHT ? 0 : s == QUAD ? WIDEST_QUAD : WIDEST_SWEEP;
}

/* Forward of a choice; index: where the places go, or NULL. */
static void choose(call *whole, const view *y, const view *index)
{
    geometry g = geometry_of(whole);
    addresses a = {{0}};
    plan made;
    bundle b;
    read_from(&a, &g, AT_X, &whole->x);
    read_from(&a, &g, AT_Y, y);
    if (index)
        read_from(&a, &g, AT_INDEX, index);
    call *k = in_bundles(&b, whole, &g, choice_widest(whole, &g, index != NULL), false);
    if (!index && choose_values(k, &g, &a))
        return;
    if (!index && wide(k)) { /* the loop for wide places also writes them */
        view places = fresh_view(whole, whole->out_dims, INT64, false);
        choose(whole, y, &places);
        return;
    }
    shape s = choices_plan(k, &g, false, index != NULL, &made);
    kernel_function f = index ? places_kernel(k, false, s) : needed_kernel(k, k->chooses, false, LOOP_GENERAL);
    launch(k, f, &made, false, &a, false, NULL, NULL);
}

/* The kernel for indices within windows of two columns side by side, or within whole planes, and its plan, where the windows are such. */
static kernel_function scatter_owned(call *k, const geometry *g, const axis *windows, plan *made)
{
    geometry owned = *g;
    int64_t strides[5];
    if (!windows || wide(k) || !find_kernel(FORMULA_INDEX, true, k->dtype, LOOP_SCATTER_OWN))
        return NULL;
    memcpy(owned.axes, windows, sizeof owned.axes);
    dense(k->x.dims, k->memory_last, strides);
    operand(&owned, AT_X, strides);
    shape s = choices_plan(k, &owned, true, false, made);
    if (s == OWN && !k->lanes && k->x.dims[4] < WIDEST_SCATTER_OWN)
        return NULL;
    return s == OWN || s == WHOLE ? find_kernel(FORMULA_INDEX, true, k->dtype, s == OWN ? LOOP_SCATTER_OWN : LOOP_SCATTER_WHOLE) : NULL;
}

/* A result that is 0 but where indices put values: of the planes of x.  windows: three axes of those in which they most likely lie, or NULL. */
void scatter(call *k, const view *values, const view *index, const view *result, bool add, const axis *windows)
{
    geometry g = geometry_of(k);
    addresses a = {{0}};
    dtype own = k->dtype;
    bool lanes = k->lanes, unused;
    k->dtype = values->dtype; /* which the kernel, its scratch and its caches go by */
    if (differs(&g)) {        /* indices are those of any windows, so that channels may be lanes */
        for (int i = 0; i < 3; i++)
            without_windows(k->c, &g.axes[i], k->out_dims[2 + i]);
        order_in_memory(&k->x, &k->lanes, &unused);
        g.channel_lanes = k->lanes;
        windows = NULL;
    }
    read_from(&a, &g, AT_Y, values);
    read_from(&a, &g, AT_INDEX, index);
    a.words[AT_GRAD_X] = address(result->data);
    plan made;
    uint8_t *left = NULL;
    kernel_function f = scatter_owned(k, &g, windows, &made);
    if (!f || launch(k, f, &made, true, &a, false, NULL, &left)) {
        f = needed_kernel(k, FORMULA_INDEX, true, add ? LOOP_SCATTER_ADD : LOOP_SCATTER_REPLACE);
        in_a_row(k->c, &g);
        made = planned(k, &g, true, 1, true, false, NULL, 0);
        launch(k, f, &made, true, &a, true, left, NULL);
    }
    k->dtype = own;
    k->lanes = lanes;
}

/* The gradient with the elements chosen again. */
static void choose_again(call *k, const view *grad, const view *grad_x)
{
    geometry g = geometry_of(k);
    addresses a = {{0}};
    plan made;
    if (k->grad_dtype != k->dtype) { /* of integers, by their places */
        view y = fresh_view(k, k->out_dims, k->dtype, false), index = fresh_view(k, k->out_dims, INT64, false);
        choose(k, &y, &index);
        scatter(k, grad, &index, grad_x, true, NULL);
        return;
    }
    read_from(&a, &g, AT_X, &k->x);
    read_from(&a, &g, AT_Y, grad);
    a.words[AT_GRAD_X] = address(grad_x->data);
    shape s = choices_plan(k, &g, true, false, &made);
    bundle b;
    k = in_bundles(&b, k, &g, places_widest(s, false, &g), true);
    s = choices_plan(k, &g, true, false, &made);
    if (s == OWN && !find_kernel(k->chooses, true, k->dtype, LOOP_PLACES_OWN))
        s = largest(k->axes[1].count, k->axes[1].outputs) == 2 ? QUAD : NO_SHAPE;
    launch(k, places_kernel(k, true, s), &made, true, &a, false, NULL, NULL);
}

/* The backward pass of choices and draws, by the indices or, without, by `again`. */
static void backward_by_index(call *k, void (*again)(call *k, const view *grad, const view *grad_x))
{
    const request *r = k->r;
    view grad = tensor_view(k, r->grad, "grad", k->out_dims, k->grad_dtype), grad_x = gradient_view(k, r->grad_x, "grad_x");
    if (r->indices_in) {
        view index = tensor_view(k, r->indices_in, "indices", k->out_dims, INT64);
        scatter(k, &grad, &index, &grad_x, true, k->axes);
    } else {
        again(k, &grad, &grad_x);
    }
    settle_gradient(k, r->grad_x, "grad_x", &grad_x);
}

void run_select(call *k)
{
    if (k->r->backward) {
        backward_by_index(k, choose_again);
        return;
    }
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype), index;
    if (k->r->indices)
        index = result_view(k, k->r->indices, "indices", k->out_dims, INT64);
    choose(k, &y, k->r->indices ? &index : NULL);
}

/* ---------------------------------------------------------------- vote */

/* The elements of the largest window. */
static int64_t most_taps(const call *k)
{
    int64_t taps = 1;
    for (int i = 0; i < 3; i++)
        taps = times(taps, k->axes[i].outputs ? largest(k->axes[i].count, k->axes[i].outputs) : 0);
    return taps;
}

/* The most frequent elements and their places. */
static void count_votes(call *k, const view *y, const view *index)
{
    geometry g = geometry_of(k);
    addresses a = {{0}};
    bool few = most_taps(k) <= VOTES;
    read_from(&a, &g, AT_X, &k->x);
    read_from(&a, &g, AT_Y, y);
    read_from(&a, &g, AT_INDEX, index);
    bundle b;
    k = in_bundles(&b, k, &g, WIDEST_VOTE, false);
    plan made = planned(k, &g, false, 1, false, !few, NULL, 0);
    launch(k, needed_kernel(k, k->chooses, false, few ? LOOP_VOTE_FEW : LOOP_VOTE_SORTED), &made, false, &a, false, NULL, NULL);
}

static void vote_again(call *k, const view *grad, const view *grad_x)
{
    view y = fresh_view(k, k->out_dims, k->dtype, k->memory_last), index = fresh_view(k, k->out_dims, INT64, k->memory_last);
    count_votes(k, &y, &index);
    scatter(k, grad, &index, grad_x, true, NULL);
}

void run_vote(call *k)
{
    if (k->r->backward) {
        backward_by_index(k, vote_again);
        return;
    }
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    view index = k->r->indices ? result_view(k, k->r->indices, "indices", k->out_dims, INT64) : fresh_view(k, k->out_dims, INT64, k->memory_last);
    count_votes(k, &y, &index);
}

/* ---------------------------------------------------------------- draw */

/* The samples in the kernel's arithmetic, in a copy, or the seed. */
static void read_samples(call *k, geometry *g, addresses *a)
{
    const DLTensor *t = k->r->samples;
    if (!t) {
        a->words[AT_SEED] = k->p.seed & 0x7FFFFFFFFFFFFFFF;
        return;
    }
    parameter_tensor(k, t, "samples");
    checked_shape(k, t, "samples", k->out_dims);
    int64_t shape[5] = {0}, n = 1, index[5] = {0};
    for (int i = 0; i < t->ndim; i++)
        n *= shape[i] = t->shape[i];
    char *copy = take(k->c, (size_t)n * (size_t)real_bytes(k->dtype));
    for (int64_t i = 0; i < n; i++) {
        double value = parameter_value(t, index);
        if (!(value >= 0 && value < 1))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "samples must lie in [0, 1)");
        store_real(copy, k->dtype != FLOAT64, i, value);
        for (int j = t->ndim - 1; j >= 0 && ++index[j] == shape[j]; j--)
            index[j] = 0;
    }
    int64_t strides[5];
    dense(k->out_dims, k->last, strides);
    a->words[AT_PARAM] = address(copy);
    operand(g, AT_PARAM, strides);
}

static bool is_quad(const call *k, const geometry *g, bool gradient)
{
    return (!gradient || k->memory_last == k->lanes) && small(g, gradient) == QUAD;
}

/* A probability of ranks; default 0.5. */
double rank_share(call *k)
{
    double alpha = k->p.alpha == 0 ? 0.5 : k->p.alpha;
    if (!(alpha > 0 && alpha <= 1) || (k->dtype != FLOAT64 && (float)alpha == 0))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "alpha must be above 0 and at most 1, got %g", alpha);
    return alpha;
}

static void draw_launch(call *k, geometry *g, addresses *a, bool backward, bool indexed)
{
    double numbers[1] = {0};
    bool sort = by_rank(k) && most_taps(k) > MOST_TAPS;
    if (by_rank(k))
        numbers[0] = rank_share(k);
    a->words[AT_NUMBERS] = address(numbers);
    bool quad = is_quad(k, g, backward), places = backward || indexed;
    int loop = places ? k->lanes ? LOOP_PLACES_QUAD_CHANNELS : LOOP_PLACES_QUAD : k->lanes ? LOOP_QUAD_CHANNELS : LOOP_QUAD;
    kernel_function f = quad ? narrow_kernel(k, backward, loop) : NULL;
    if (!f)
        f = needed_kernel(k, k->chooses, backward, places ? LOOP_PLACES_WIDE : LOOP_GENERAL_WIDE);
    plan made = planned(k, g, backward, 1, false, sort, NULL, 0);
    launch(k, f, &made, backward, a, false, NULL, NULL);
}

static void draw_again(call *k, const view *grad, const view *grad_x)
{
    geometry g = geometry_of(k);
    addresses a = {{0}};
    read_samples(k, &g, &a);
    read_from(&a, &g, AT_X, &k->x);
    read_from(&a, &g, AT_Y, grad);
    a.words[AT_GRAD_X] = address(grad_x->data);
    draw_launch(k, &g, &a, true, false);
}

void run_draw(call *k)
{
    if (k->r->backward) {
        backward_by_index(k, draw_again);
        return;
    }
    geometry g = geometry_of(k);
    addresses a = {{0}};
    read_samples(k, &g, &a);
    view y = result_view(k, k->r->y, "y", k->out_dims, k->dtype);
    read_from(&a, &g, AT_X, &k->x);
    read_from(&a, &g, AT_Y, &y);
    if (k->r->indices) {
        view index = result_view(k, k->r->indices, "indices", k->out_dims, INT64);
        read_from(&a, &g, AT_INDEX, &index);
    }
    draw_launch(k, &g, &a, false, k->r->indices != NULL);
}

/* ---------------------------------------------------------------- order */

/* Weights by rank: the parameter (1 or C rows), if there is one, and a row of weights for each number of elements that windows have. */
typedef struct {
    int64_t rows, range; /* of the parameter; range: as many ranks as have a weight */
    double *given;
    bool unknown; /* what is given is on a device */
    int64_t n_counts, *counts, ranks;
    int64_t *row_of; /* by number of elements */
    double *weights; /* (rows, n_counts, ranks) */
    double *gradient, *total; /* of one row, and what it is made of */
} rank_table;

/* Every number once, ascending; returns how many they are.  Neighbours are mostly equal. */
static int64_t distinct(call *k, const int64_t *numbers, int64_t n, int64_t *found)
{
    ranked *sorted = take(k->c, (size_t)n * sizeof *sorted);
    int64_t changes = 0, count = 0;
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || numbers[i] != numbers[i - 1])
            sorted[changes++] = (ranked){(double)numbers[i], numbers[i]};
    sort_ranked(sorted, changes);
    for (int64_t i = 0; i < changes; i++)
        if (!count || sorted[i].place != found[count - 1])
            found[count++] = sorted[i].place;
    return count;
}

/* All products of a window's counts along the axes, ascending. */
static void window_counts(call *k, rank_table *t)
{
    int64_t *found[3], sizes[3], n = 0;
    for (int i = 0; i < 3; i++) {
        found[i] = take_words(k->c, k->axes[i].outputs);
        sizes[i] = distinct(k, k->axes[i].count, k->axes[i].outputs, found[i]);
    }
    int64_t *products = take_words(k->c, sizes[0] * sizes[1] * sizes[2]);
    for (int64_t d = 0; d < sizes[0]; d++)
        for (int64_t h = 0; h < sizes[1]; h++)
            for (int64_t w = 0; w < sizes[2]; w++)
                products[n++] = found[0][d] * found[1][h] * found[2][w];
    t->counts = take_words(k->c, n);
    t->n_counts = distinct(k, products, n, t->counts);
}

static void read_weights(call *k, rank_table *t)
{
    const DLTensor *weight = k->r->weight;
    if (!weight)
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "weight must not be NULL");
    (k->c->device >= 0 ? real_tensor : parameter_tensor)(k, weight, "weight");
    bool rows = weight->ndim == 2;
    if (weight->ndim < 1 || weight->ndim > 2 || weight->shape[weight->ndim - 1] < 1 || (rows && weight->shape[0] != k->x.dims[1]))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "weight must have shape (pool_range,) or (%" PRId64 ", pool_range)", k->x.dims[1]);
    t->rows = rows ? weight->shape[0] : 1;
    t->range = weight->shape[weight->ndim - 1];
    t->unknown = k->c->device >= 0;
    if (t->unknown)
        return;
    t->given = take(k->c, (size_t)(t->rows * t->range) * sizeof(double));
    for (int64_t i = 0; i < t->rows * t->range; i++) {
        int64_t index[2] = {i / t->range, i % t->range};
        t->given[i] = parameter_value(weight, rows ? index : index + 1);
        if (!isfinite(t->given[i]))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "weight must be finite");
        if (k->r->pooling == POOLING_ORDINAL && t->given[i] < 0)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "weight must not be negative, got %g", t->given[i]);
    }
}

/* The parameters of a pooling by rank. */
static void read_ranks(call *k, rank_table *t, int64_t longest)
{
    t->rows = 1;
    if (k->r->pooling == POOLING_MEDIAN) {
        t->range = longest / 2 + 1;
    } else if (k->r->pooling == POOLING_RANK) {
        if ((k->p.t == 0) == (k->p.alpha == 0))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "pass either t or alpha, got t = %" PRId64 " and alpha = %g", k->p.t, k->p.alpha);
        if (k->p.t < 0)
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "t must be positive, got %" PRId64, k->p.t);
        if (k->p.t == 0 && !(k->p.alpha > 0 && k->p.alpha <= 1))
            fail(k->c, NUMBAPOOL_VALUE_ERROR, "alpha must be above 0 and at most 1, got %g", k->p.alpha);
        t->range = k->p.t ? k->p.t : longest;
    } else if (by_rank(k)) {
        t->range = longest;
    } else {
        read_weights(k, t);
    }
}

/* pools/sort.py's rank_weights: softmax of the first n logits. */
static void softmax(const double *logits, int64_t n, double *weights)
{
    double most = logits[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        most = logits[i] > most ? logits[i] : most;
    for (int64_t i = 0; i < n; i++)
        sum += weights[i] = exp(logits[i] - most);
    for (int64_t i = 0; i < n; i++)
        weights[i] /= sum;
}

/* pools/ordinal.py's `total`. */
static double ordinal_total(call *k, const double *given, int64_t n, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += given[i];
    if (!(sum > 0 && isfinite(sum)))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "weight must have a positive finite sum for windows of %" PRId64 " elements, got %g", count, sum);
    return sum;
}

/* The `rank_weights` of a pooling's file: the first n ranks, of a window of `count` elements. */
static void weights_by_rank(call *k, const double *given, int64_t n, int64_t count, double *weights)
{
    int pooling = k->r->pooling;
    if (pooling == POOLING_SORT) {
        softmax(given, n, weights);
        return;
    }
    double total = pooling == POOLING_ORDINAL ? ordinal_total(k, given, n, count) : 1, alpha = by_rank(k) ? rank_share(k) : k->p.alpha, sum = 0;
    double share = alpha;
    for (int64_t i = 0; i < n; i++) {
        if (pooling == POOLING_ORDINAL)
            weights[i] = given[i] / total;
        else if (pooling != POOLING_MEDIAN)
            weights[i] = pooling == POOLING_RANK && k->p.t ? 1.0 / (double)n : share;
        sum += share;
        share *= 1 - alpha;
    }
    for (int64_t i = 0; by_rank(k) && i < n; i++)
        weights[i] /= sum;
    if (pooling == POOLING_MEDIAN) { /* the others are 0 */
        bool both = count % 2 == 0 && k->p.even == NUMBAPOOL_BOTH;
        weights[count / 2] = both ? 0.5 : 1;
        if (both)
            weights[count / 2 - 1] = 0.5;
    }
}

static int64_t ranks_of(const rank_table *t, int64_t count) { return count < t->range ? count : t->range; }

static rank_table make_ranks(call *k)
{
    rank_table t = {0};
    window_counts(k, &t);
    int64_t longest = t.counts[t.n_counts - 1];
    read_ranks(k, &t, longest);
    t.ranks = ranks_of(&t, longest);
    t.row_of = take_zeros(k->c, longest + 1);
    size_t size = (size_t)(t.rows * t.n_counts * t.ranks) * sizeof(double);
    t.weights = memset(take(k->c, size), 0, size);
    for (int64_t i = 0; i < t.n_counts; i++) {
        t.row_of[t.counts[i]] = i;
        for (int64_t r = 0; r < t.rows && !t.unknown; r++)
            weights_by_rank(k, t.given ? t.given + r * t.range : NULL, ranks_of(&t, t.counts[i]), t.counts[i],
                            t.weights + (r * t.n_counts + i) * t.ranks);
    }
    return t;
}

/* The weights as the kernels read them. */
static const char *real_weights(call *k, const rank_table *t)
{
    int64_t n = t->rows * t->n_counts * t->ranks;
    char *memory = take(k->c, (size_t)n * 8);
    for (int64_t i = 0; i < n; i++)
        store_real(memory, k->dtype != FLOAT64, i, t->weights[i]);
    return memory;
}

rank_weights rank_weights_of(call *k)
{
    rank_table t = make_ranks(k);
    return (rank_weights){.ranks = t.ranks, .channel = t.rows == 1 ? 0 : t.n_counts * t.ranks, .n_rows = t.counts[t.n_counts - 1] + 1,
                          .n_weights = t.rows * t.n_counts * t.ranks, .rows = t.rows, .range = t.range, .n_counts = t.n_counts, .row_of = t.row_of,
                          .counts = t.counts, .weights = t.unknown ? NULL : real_weights(k, &t)};
}

/* The rank_gradient of pools/sort.py or ordinal.py, from sums[n][c][count][rank] of g times the element of each rank. */
static void store_weight_gradient(call *k, const rank_table *t, const double *sums)
{
    int64_t channels = k->out_dims[1], block = t->n_counts * t->ranks;
    for (int64_t r = 0; r < t->rows; r++) {
        double *gradient = t->gradient, *total = t->total;
        memset(gradient, 0, (size_t)t->range * sizeof(double));
        for (int64_t i = 0; i < t->n_counts; i++) {
            const double *w = t->weights + (r * t->n_counts + i) * t->ranks;
            double mean = 0;
            memset(total, 0, (size_t)t->ranks * sizeof(double));
            for (int64_t n = 0; n < k->out_dims[0]; n++)
                for (int64_t c = t->rows == 1 ? 0 : r; c < (t->rows == 1 ? channels : r + 1); c++)
                    for (int64_t j = 0; j < t->ranks; j++)
                        total[j] += sums[(n * channels + c) * block + i * t->ranks + j];
            int64_t ranks = ranks_of(t, t->counts[i]);
            bool sort = k->r->pooling == POOLING_SORT;
            double all = sort ? 1 : ordinal_total(k, t->given + r * t->range, ranks, t->counts[i]);
            for (int64_t j = 0; j < ranks; j++)
                mean += w[j] * total[j];
            for (int64_t j = 0; j < ranks; j++)
                gradient[j] += sort ? w[j] * (total[j] - mean) : (total[j] - mean) / all;
        }
        for (int64_t j = 0; j < t->range; j++) {
            int64_t index[2] = {r, j};
            parameter_store(k->r->grad_weight, k->r->grad_weight->ndim == 2 ? index : index + 1, gradient[j]);
        }
    }
}

static void check_weight_gradient(call *k)
{
    const DLTensor *t = k->r->grad_weight, *weight = k->r->weight;
    parameter_tensor(k, t, "grad_weight");
    if (t->ndim != weight->ndim || memcmp(t->shape, weight->shape, (size_t)t->ndim * sizeof *t->shape))
        fail(k->c, NUMBAPOOL_VALUE_ERROR, "grad_weight must have the shape of weight");
    disjoint(k, t, "grad_weight");
}

static kernel_function order_kernel(call *k, const geometry *g, bool backward, int64_t longest)
{
    kernel_function f = NULL;
    if (is_quad(k, g, backward))
        f = find_kernel(k->chooses, backward, k->dtype, k->lanes ? LOOP_QUAD_CHANNELS : LOOP_QUAD);
    int loop = longest <= MOST_TAPS ? LOOP_FEW_SHORT : longest <= INSERTION ? LOOP_SHORT_ONES : LOOP_LONG_ONES;
    return f ? f : needed_kernel(k, k->chooses, backward, loop);
}

static double *order_backward_operands(call *k, rank_table *t, geometry *g, addresses *a)
{
    int64_t block = t->n_counts * t->ranks, n = k->out_dims[0] * k->out_dims[1] * block;
    int64_t own[5] = {k->out_dims[1] * block, block, 0, 0, 0};
    operand(g, AT_GRAD_PARAM, own);
    double *sums = take(k->c, (size_t)n * sizeof(double));
    memset(sums, 0, (size_t)n * sizeof(double));
    t->gradient = take(k->c, (size_t)t->range * sizeof(double));
    t->total = take(k->c, (size_t)t->ranks * sizeof(double));
    a->words[AT_GRAD_WEIGHTS] = address(sums);
    return sums;
}

void run_order(call *k)
{
    const request *r = k->r;
    geometry g = geometry_of(k);
    addresses a = {{0}};
    rank_table t = make_ranks(k);
    view y = r->backward ? tensor_view(k, r->grad, "grad", k->out_dims, k->dtype) : result_view(k, r->y, "y", k->out_dims, k->dtype), grad_x = {0};
    bool learns = r->backward && r->grad_weight;
    double *sums = NULL;
    if (learns)
        check_weight_gradient(k);
    read_from(&a, &g, AT_X, &k->x);
    read_from(&a, &g, AT_Y, &y);
    a.words[AT_WEIGHTS] = address(real_weights(k, &t));
    if (r->backward) {
        grad_x = gradient_view(k, r->grad_x, "grad_x");
        a.words[AT_GRAD_X] = address(grad_x.data);
        sums = order_backward_operands(k, &t, &g, &a);
    }
    int64_t longest = t.counts[t.n_counts - 1];
    extra fields[] = {{AT_RANKS, t.ranks, NULL, 0}, {AT_RANK_ROW, 0, t.row_of, longest + 1},
                      {AT_RANK_CHANNEL, t.rows == 1 ? 0 : t.n_counts * t.ranks, NULL, 0}};
    bundle b;
    int64_t widest = r->backward || t.rows > 1 || longest > MOST_TAPS ? 0 : is_quad(k, &g, false) ? WIDEST_RANK_QUAD : WIDEST_RANK;
    call *seen = in_bundles(&b, k, &g, widest, false);
    plan made = planned(seen, &g, r->backward, 1, false, true, fields, 3);
    launch(seen, order_kernel(seen, &g, r->backward, longest), &made, r->backward, &a, false, NULL, NULL);
    if (r->backward)
        settle_gradient(k, r->grad_x, "grad_x", &grad_x);
    if (learns && !k->dry)
        store_weight_gradient(k, &t, sums);
}

/* ---------------------------------------------------------------- unpool */

void fake_axes(call *k)
{
    for (int i = 0; i < 3; i++)
        without_windows(k->c, &k->axes[i], k->out_dims[2 + i]);
}

/* The windows side by side of which the maxima were most likely taken, where they are as many as these. */
static bool windows_of(call *k, axis windows[3])
{
    int64_t kernel[3];
    bool beside = true;
    for (int i = 0; i < 3; i++) {
        int own = i - (3 - k->ndim);
        kernel[i] = own < 0 ? 1 : k->p.kernel_size[own];
        beside = beside && (own < 0 || ((k->p.stride[own] == 0 || k->p.stride[own] == kernel[i]) && k->p.padding[own] <= 0));
        beside = beside && k->x.dims[2 + i] / kernel[i] == k->out_dims[2 + i] && k->out_dims[2 + i] > 0;
    }
    for (int i = 0; beside && i < 3; i++)
        sliding(k->c, &windows[i], k->x.dims[2 + i], kernel[i], kernel[i], 0, 0, 1, false, ONE);
    return beside;
}

static void unpool_forward(call *k, const view *values)
{
    view index = tensor_view(k, k->r->indices_in, "indices", k->out_dims, INT64);
    view y = result_view(k, k->r->y, "y", k->x.dims, k->dtype);
    int64_t strides[5];
    bool lies_well = true;
    dense(k->x.dims, k->memory_last, strides);
    for (int i = 0; i < 5; i++)
        lies_well &= k->x.dims[i] == 1 || y.strides[i] == strides[i];
    view made = lies_well ? y : fresh_view(k, k->x.dims, k->dtype, k->memory_last);
    axis windows[3];
    scatter(k, values, &index, &made, false, windows_of(k, windows) ? windows : NULL);
    if (!lies_well && !k->dry)
        copy_view(&made, &y);
}

static void unpool_backward(call *k)
{
    geometry g = geometry_of(k);
    addresses a = {{0}};
    view grad = tensor_view(k, k->r->grad, "grad", k->x.dims, k->dtype);
    view grad_x = result_view(k, k->r->grad_x, "grad_x", k->out_dims, k->dtype);
    view index = tensor_view(k, k->r->indices_in, "indices", k->out_dims, INT64);
    read_from(&a, &g, AT_X, &grad);
    read_from(&a, &g, AT_Y, &grad_x);
    read_from(&a, &g, AT_INDEX, &index);
    in_a_row(k->c, &g);
    plan made = planned(k, &g, false, 1, false, false, NULL, 0);
    launch(k, needed_kernel(k, FORMULA_INDEX, false, LOOP_GATHER), &made, false, &a, true, NULL, NULL);
}

/* y has the plane that the indices point into, x the outputs' shape: a call with the roles exchanged. */
void run_unpool(call *k)
{
    view values = k->x;
    int64_t size[3];
    fake_axes(k);
    unpooled_size(k, size);
    memcpy(k->x.dims + 2, size, sizeof size);
    k->lanes = k->memory_last; /* of single elements x says nothing of y's planes */
    if (k->c->device >= 0) {
        cuda_unpool(k, &values);
        return;
    }
    if (k->r->backward)
        unpool_backward(k);
    else
        unpool_forward(k, &values);
}

/* ---------------------------------------------------------------- S3 outside of training */

/* The params of the maxima, and of their average, which is padded to as many outputs as size / kernel. */
static void s3_params(const call *k, numbapool_params *maxima, numbapool_params *average)
{
    *maxima = k->p;
    maxima->size = sizeof *maxima;
    maxima->padding_mode = NUMBAPOOL_EXPLICIT;
    maxima->form = NUMBAPOOL_SLIDING;
    maxima->ceil_mode = maxima->count_include_pad = 0;
    maxima->divisor_override = maxima->ignore_nan = 0;
    *average = *maxima;
    for (int i = 0; i < k->ndim; i++) {
        int64_t kernel = k->p.kernel_size[i], size = k->x.dims[5 - k->ndim + i], before = kernel > 1 ? kernel / 2 : 0;
        int64_t after = (size / kernel - 1) * kernel + kernel - before - (size - kernel + 1);
        maxima->stride[i] = maxima->dilation[i] = average->dilation[i] = 1;
        maxima->padding[i] = maxima->padding_after[i] = 0;
        average->stride[i] = kernel;
        average->padding[i] = before;
        average->padding_after[i] = after > 0 ? after : 0;
    }
}

/* Max pooling of stride 1, and its average with the window and stride; backward through both. */
void run_s3_inference(call *k)
{
    const request *r = k->r;
    numbapool_params maxima, average;
    int64_t dims[5], shape[5], strides[5], more_shape[5], more_strides[5], last_shape[5], last_strides[5];
    if (!is_float(k->dtype))
        fail(k->c, NUMBAPOOL_TYPE_ERROR, "x must be float16, bfloat16, float32 or float64 with training = 0");
    if (r->backward) { /* which the calls below see beside other tensors alone */
        tensor_view(k, r->grad, "grad", k->out_dims, k->dtype);
        result_view(k, r->grad_x, "grad_x", k->x.dims, k->dtype);
    } else {
        result_view(k, r->y, "y", k->out_dims, k->dtype);
    }
    s3_params(k, &maxima, &average);
    memcpy(dims, k->x.dims, sizeof dims);
    for (int i = 0; i < k->ndim; i++)
        dims[5 - k->ndim + i] -= k->p.kernel_size[i] - 1;
    view y = fresh_view(k, dims, k->dtype, k->memory_last), index = {0}, through = {0};
    DLTensor y_tensor = tensor_of(k, &y, shape, strides), index_tensor = {0}, through_tensor;
    if (r->backward) {
        index = fresh_view(k, dims, INT64, k->memory_last);
        through = fresh_view(k, dims, k->dtype, k->memory_last);
        index_tensor = tensor_of(k, &index, more_shape, more_strides);
    }
    in_context(k->c, &(request){.pooling = POOLING_MAX, .where = r->where, .x = r->x, .y = &y_tensor, .indices = r->backward ? &index_tensor : NULL,
                                .params = &maxima}, k->dry);
    if (!r->backward) {
        in_context(k->c, &(request){.pooling = POOLING_AVG, .where = r->where, .x = &y_tensor, .y = r->y, .params = &average}, k->dry);
        return;
    }
    through_tensor = tensor_of(k, &through, last_shape, last_strides);
    in_context(k->c, &(request){.pooling = POOLING_AVG, .backward = true, .where = r->where, .grad = r->grad, .x = &y_tensor,
                                .grad_x = &through_tensor, .params = &average}, k->dry);
    in_context(k->c, &(request){.pooling = POOLING_MAX, .backward = true, .where = r->where, .grad = &through_tensor, .x = r->x,
                                .indices_in = &index_tensor, .grad_x = r->grad_x, .params = &maxima}, k->dry);
}
