/* Calls on CUDA devices: what a call launches (cuda_plan.c, cuda_families.c), and the driver that does it (cuda_driver.c).
 *
 * The planner says in C what numbapool/cuda/plan.py and families.py say in Python: tests/test_capi_cuda.py compares the launches of both.  A call
 * gathers its launches in a program; nothing has happened when a check fails.  Memory in between lies in the call's workspace on the device,
 * whose address is not known before the program runs: until then it begins at WORKSPACE, where no memory is. */
#ifndef NUMBAPOOL_CUDA_H
#define NUMBAPOOL_CUDA_H

#include "cuda_kernels.h"
#include "families.h"

#define WORKSPACE ((uint64_t)1 << 62)

#ifndef NUMBAPOOL_CUDA_REACH
#define NUMBAPOOL_CUDA_REACH ((int64_t)1 << 31) /* from here on places take 64 bits; tests set it to 1 */
#endif

/* ---------------------------------------------------------------- tables written by capi/cuda.py */

typedef struct {
    uint64_t key;
    const char *name;
    int module;
} cuda_row;

extern const cuda_row cuda_rows[];
extern const int cuda_row_count;
extern const unsigned char *const cuda_images[]; /* of modules: eight sizes, of cubins, of PTX, and last of the stream, which follows */
extern const int cuda_image_count;
extern const int cuda_architectures[CU_ARCHITECTURES];
extern const bool cuda_crowded[FORMULA_COUNT]; /* formulas whose lanes are few */
extern const bool cuda_apart[FORMULA_COUNT];   /* formulas that take each window by its own reference */

/* ---------------------------------------------------------------- programs */

enum { CU_MOST_TASKS = 48, CU_MOST_TABLES = 64, CU_MOST_KNOWN = 512 }; /* of a call; words of a task that hold tables; tables of a call */

/* plan.py's Task.  A kernel with the words that it is given; or (no row) `count` words of memory that are set to a value. */
typedef struct {
    const cuda_row *row;
    int64_t words[CU_WORDS];
    int64_t grid[2];
    int n_tables;
    unsigned char tables[CU_MOST_TABLES]; /* words that hold places in the tables */
    uint64_t at;
    uint32_t value;
    uint64_t count;
} cuda_task;

struct program {
    cuda_task *tasks[CU_MOST_TASKS];
    int n_tasks;
    unsigned char *tables;
    size_t table_bytes, table_room;
    struct {
        const void *table;
        size_t at;
    } known[CU_MOST_KNOWN];
    int n_known;
    size_t work; /* bytes of the workspace, but for tables */
    bool drawn;  /* windows that no later call has again: tables are not kept */
};

/* Memory of the workspace, at a multiple of 256 bytes. */
uint64_t cuda_space(call *k, int64_t items, int item);

void cuda_drawn(call *k); /* tables are not kept where windows are drawn */

/* Run what a call has gathered, on params->stream; or tell how much workspace it needs. */
void cuda_run(context *c, const numbapool_params *params, bool dry);

/* ---------------------------------------------------------------- plans (cuda_plan.c) */

typedef struct {
    bool has[CU_OPERANDS];
    uint64_t address[CU_OPERANDS];
    int64_t strides[CU_OPERANDS][5];
} operands;

/* plan.py's Header: what the tasks of a call share. */
typedef struct {
    call *k;
    bool channel; /* items are channels side by side, where a kernel does that */
    int64_t share; /* the divisor of all windows, 0: they differ */
    int64_t taps;
    const int32_t *bounds[3], *lists[3]; /* which outputs cover an input, once asked for */
    int64_t list_sizes[3];
    int64_t across, along; /* parts that windows are cut into */
} cuda_head;

typedef struct {
    unsigned slots;    /* the operands that it sees, as bits */
    bool over_inputs, covers;
    int n_numbers;
    const double *numbers;
    int64_t items;     /* of a plane, where tasks are neither outputs nor inputs; else 0 */
    bool of_no_plane;  /* or of nothing but a few numbers */
} cuda_launch;

cuda_head cuda_head_of(call *k, bool channel);
int64_t cuda_slices(int64_t threads, int64_t cells); /* of planes of so many cells, where each slice is the work of so many threads */
bool cuda_wide(const cuda_head *h, const operands *o, unsigned slots);
bool cuda_cuts(const cuda_head *h);
void cuda_segments(cuda_head *h);
const cuda_row *cuda_find(const kernel_key *key);
const cuda_row *cuda_nearest(kernel_key *wanted, bool widen); /* NULL: there is none */
const cuda_row *cuda_pick(call *k, kernel_key *wanted, bool widen); /* the nearest kernel that this build has, which `wanted` then tells */
size_t cuda_place(context *c, const void *table, const void *data, size_t bytes); /* `table`: by which it is known */
cuda_task *cuda_add(cuda_head *h, const kernel_key *key, const cuda_row *row, const operands *o, const cuda_launch *l);
void cuda_set_word(context *c, cuda_task *t, int word, size_t place); /* a word that holds a place in the tables */
void cuda_fill(context *c, uint64_t at, uint32_t value, uint64_t count);

/* ---------------------------------------------------------------- operands (cuda_operands.c) */

#define BIT(slot) (1U << (slot))

void cuda_at(operands *o, int slot, uint64_t address, const int64_t strides[5]);
void cuda_view(operands *o, int slot, const view *v);
void cuda_in_space(call *k, operands *o, int slot, int64_t rows, int item); /* work memory for so many numbers an output, in the order of the lanes */
bool cuda_aligned(const operands *o, unsigned slots);                      /* whether all begin at a multiple of a vector */
int cuda_lanes(const call *k, bool vectors, bool crowded, dtype t, const operands *o, unsigned slots);
const cuda_row *cuda_strip(const call *k, bool vectors, bool crowded, const operands *o, unsigned reads, unsigned writes, kernel_key *key);

/* ---------------------------------------------------------------- families (cuda_fold.c, cuda_select.c, cuda_ranks.c) */

void cuda_fold(call *k);
uint64_t cuda_number(call *k, double value); /* memory of a number, set in the stream's order */

/* Sums over the last two of three axes, into a tensor. */
typedef struct {
    uint64_t from;
    int64_t sizes[3], strides[3];
    const DLTensor *to;
    int64_t step; /* from one sum to the next */
} cuda_sums;

void cuda_add_up(call *k, const cuda_sums *s); /* by the kernels of average pooling */
void cuda_select(call *k); /* choices and draws */
void cuda_order(call *k);
void cuda_unpool(call *k, const view *values);

/* ---------------------------------------------------------------- unpacking (cuda_unpack.c) */

/* LZMA, as capi/cuda_images.py packs: lc 0, lp 0, pb 4, no header.  Whether `size` bytes came out. */
bool cuda_unpack(const unsigned char *from, size_t packed, unsigned char *to, size_t size);

#endif
