/* Operands of GPU calls, and how many elements a task takes side by side.  The first part of numbapool/cuda/families.py in C. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "plans.h"

void cuda_at(operands *o, int slot, uint64_t address, const int64_t strides[5])
{
    o->has[slot] = true;
    o->address[slot] = address;
    memcpy(o->strides[slot], strides, sizeof o->strides[slot]);
}

void cuda_view(operands *o, int slot, const view *v) { cuda_at(o, slot, (uint64_t)(uintptr_t)v->data, v->strides); }

/* Work memory for so many numbers an output, in the order of the lanes. */
void cuda_in_space(call *k, operands *o, int slot, int64_t rows, int item)
{
    int64_t strides[5];
    dense(k->out_dims, k->lanes, strides);
    cuda_at(o, slot, cuda_space(k, times(rows, product(k->out_dims, 5)), item), strides);
}

/* Whether all operands of the caller begin at a multiple of a vector. */
bool cuda_aligned(const operands *o, unsigned slots)
{
    uint64_t every = 0;
    for (int i = 0; i < CU_OPERANDS; i++)
        if (slots >> i & 1 && o->has[i])
            every |= o->address[i];
    return (every & (CU_VECTOR_BYTES - 1)) == 0;
}

static const int64_t *sizes_of(const call *k, int slot)
{
    return slot == CU_X || slot == CU_LOGIT || slot == CU_GRAD_X || slot == CU_GRAD_LOGIT ? k->x.dims : k->out_dims;
}

/* Whether the axes of a range that have more than one element step over multiples of `lanes`. */
static bool multiples(const int64_t strides[5], const int64_t dims[5], int without, int lanes)
{
    for (int i = 0; i < 5; i++)
        if (i != without && dims[i] > 1 && strides[i] % lanes)
            return false;
    return true;
}

static int lanes_at_most(bool crowded, dtype t)
{
    int lanes = CU_VECTOR_BYTES / item_bytes(t), most_lanes = crowded ? CU_FEW_LANES : CU_MOST_LANES;
    return lanes < most_lanes ? lanes : most_lanes;
}

/* How many channels a task takes at once: as many as one access reads, if they lie side by side in all operands. */
int cuda_lanes(const call *k, bool vectors, bool crowded, dtype t, const operands *o, unsigned slots)
{
    int lanes = vectors && k->lanes ? lanes_at_most(crowded, t) : 1;
    for (bool suits = false; lanes > 1; lanes /= 2) {
        suits = k->x.dims[1] % lanes == 0;
        for (int i = 0; i < CU_OPERANDS && suits; i++)
            if (slots >> i & 1)
                suits = o->strides[i][1] == 1 && multiples(o->strides[i], sizes_of(k, i), 1, lanes);
        if (suits)
            break;
    }
    return lanes;
}

/* Windows side by side in channels-first memory: sets the key's strip where these and the memory suit and there is a kernel. */
const cuda_row *cuda_strip(const call *k, bool vectors, bool crowded, const operands *o, unsigned reads, unsigned writes, kernel_key *key)
{
    const axis *a = &k->axes[2];
    kernel_key found = *key;
    int lanes = CU_VECTOR_BYTES / item_bytes(k->dtype);
    if (!vectors || k->lanes || !a->regular || a->step != 1 || a->planes || lanes == 1)
        return NULL;
    lanes = lanes_at_most(crowded, k->dtype);
    if (a->stride > CU_MOST_STRIDE || a->kernel > CU_MOST_KERNEL || -a->origin > CU_MOST_KERNEL || k->x.dims[4] % lanes)
        return NULL;
    found.whole = k->out_dims[4] % lanes == 0;
    for (int i = 0; i < CU_OPERANDS; i++) {
        bool read = reads >> i & 1, written = writes >> i & 1;
        if ((read || written) && o->strides[i][4] != 1)
            return NULL;
        if (read && !multiples(o->strides[i], sizes_of(k, i), 4, lanes))
            return NULL;
        if (written && !multiples(o->strides[i], sizes_of(k, i), 4, lanes))
            found.whole = 0;
    }
    found.lanes = lanes;
    found.channel = 0;
    found.kernel = (int)a->kernel;
    found.stride = (int)a->stride;
    found.left = (int)-a->origin;
    found.loop = key->loop == CU_FOLD_FORWARD ? CU_STRIP_FORWARD : key->loop == CU_FOLD_DISJOINT ? CU_STRIP_DISJOINT : CU_STRIP_SELECT;
    for (; found.whole >= 0; found.whole--)
        for (int uniform = found.uniform; uniform >= 0; uniform--) {
            kernel_key asked = found;
            asked.uniform = uniform;
            const cuda_row *row = cuda_find(&asked);
            if (row) {
                *key = asked;
                return row;
            }
        }
    return NULL;
}
