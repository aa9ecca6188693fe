/* numbapool: every pooling of convolutional networks, forward and backward, 1-d, 2-d and 3-d, without Python.
 *
 * This file is the one source of the interface: cffi parses it, the build writes numbapool.h from it (adding the functions of each
 * pooling where they belong), and a compiled module checks every declaration against the built library.
 *
 *     numbapool_params params;
 *     numbapool_params_init(&params, sizeof params);
 *     params.rank = 2;
 *     params.kernel_size[0] = params.kernel_size[1] = 2;
 *     if (numbapool_soft_pool(&x, &y, &params) != NUMBAPOOL_OK)
 *         fprintf(stderr, "%s\n", numbapool_error_message());
 *
 * TENSORS are DLPack's DLTensor in CPU memory (kDLCPU) or on a CUDA device (kDLCUDA; see CUDA below), all of a call in one place: (N, C, spatial...)
 * or (C, spatial...), with channels_last (N, spatial..., C) or (spatial..., C); rank is the number of spatial axes.  Strides count elements and are free, negative and zero ones included; NULL strides mean
 * row-major order.  byte_offset is honoured; data must be aligned to its elements.  The library borrows every tensor for the time of the call,
 * and owns nothing that the caller passes.
 *
 * DTYPES: float16, bfloat16 (both computed in float32), float32, float64; max, min, mode, s3 in training, fractional_max and max_unpool also take
 * signed and unsigned integers of 8 to 64 bits, and booleans.  Every tensor of a call has the dtype of x but indices, which are int64,
 * parameters (p, a, beta, omega, lam, alpha, weight, samples and their gradients), which are float32 or float64, and the gradients of integers (grad and grad_x), which are
 * both of one floating dtype.
 *
 * OUTPUTS are allocated by the caller, in the shape that the pooling's _shape function tells (it looks at x's shape alone, not at its data), with
 * any strides that permute, reverse or space out axes; those under which two elements share memory are refused.  They may not overlap an input.  Nothing outside of them is written.  A gradient that is not dense in channels-first or
 * channels-last order is computed in the workspace and copied.
 *
 * RETURNS: every function that returns int returns NUMBAPOOL_OK or another numbapool_status; numbapool_error_message then tells what is wrong, and
 * names the argument.  Arguments are checked before any memory is touched.  One thing is found later: an index out of range in max_unpool or a
 * backward pass, after which the outputs hold undefined values.
 *
 * THREADS: every function may be called from any thread at any time, and in a child after fork.  Large calls run on the library's own threads,
 * on those of the host (params.parallel_for), or on the caller's alone (num_threads = 1); results do not depend on how many.  A thread that
 * runs kernels needs 1 MB of stack.
 *
 * MEMORY: a call works in params.workspace; without one, it takes what it needs with malloc and frees it before it returns (small calls need none).
 *
 * CUDA: tensors on a device are pooled there, where the library was built for it (capi.build --cuda); else the call returns NUMBAPOOL_UNSUPPORTED.
 * The driver, libcuda.so.1 or what the environment variable NUMBAPOOL_LIBCUDA names, is loaded at the first such call; CUDA 11.2 is needed, and
 * compute capability 7.5.  Work happens in the device's primary context, on params.stream, and is not waited for: a status says that it was
 * queued.  params.workspace is then memory of the device, which may be used again by what follows on the stream; without one, the call allocates
 * what it needs with cuMemAllocAsync and frees it with cuMemFreeAsync.  Small tables of windows are sent to the device by the first call of their
 * kind, and stay there until the process ends; later ones can be captured into a CUDA graph, but not those that draw windows.
 * Of tensors nobody reads the values: parameters (p, a, beta, omega, lam, alpha, weight, samples) are tensors on the device in the dtype that x is
 * computed in (float64 for float64, else float32), as are their gradients, and are not checked, nor are indices: those out of range are left out.
 * fractional_max's samples are in CPU memory.  A child after fork cannot use a driver that its parent has used.
 */

/* dlpack: begin */
typedef enum {
    kDLCPU = 1,
    kDLCUDA = 2
} DLDeviceType;

typedef struct {
    DLDeviceType device_type;
    int32_t device_id;
} DLDevice;

typedef enum {
    kDLInt = 0U,
    kDLUInt = 1U,
    kDLFloat = 2U,
    kDLBfloat = 4U,
    kDLBool = 6U
} DLDataTypeCode;

typedef struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
} DLDataType;

typedef struct {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;
    int64_t *strides;
    uint64_t byte_offset;
} DLTensor;
/* dlpack: end */

/* What a call returns. */
typedef enum {
    NUMBAPOOL_OK = 0,
    NUMBAPOOL_VALUE_ERROR = 1,    /* a shape, a size or a parameter is wrong, or an index out of range */
    NUMBAPOOL_TYPE_ERROR = 2,     /* a dtype that the pooling does not take, or that does not fit the other tensors */
    NUMBAPOOL_BUFFER_ERROR = 3,   /* memory that cannot be used: of another device, NULL, misaligned, overlapping, a workspace that is too small */
    NUMBAPOOL_MEMORY_ERROR = 4,   /* malloc failed, or a CUDA device's memory is full */
    NUMBAPOOL_UNSUPPORTED = 5,    /* this build of the library lacks the kernel (on the CPU never so in a full build), a CUDA device has none for the
                                     pooling, or is too old */
    NUMBAPOOL_CUDA_ERROR = 6      /* there is no CUDA driver, it is too old, or it cannot do something */
} numbapool_status;

/* Where the windows are. */
typedef enum {
    NUMBAPOOL_SLIDING = 0,        /* kernel_size, stride, padding, dilation, ceil_mode */
    NUMBAPOOL_ADAPTIVE = 1,       /* output_size near-equal spans an axis */
    NUMBAPOOL_GLOBAL = 2          /* one window, the whole input */
} numbapool_form;

/* How padding is given. */
typedef enum {
    NUMBAPOOL_EXPLICIT = 0,       /* by padding and padding_after */
    NUMBAPOOL_SAME = 1,           /* for ceil(size / stride) outputs, the surplus after the input */
    NUMBAPOOL_SAME_LOWER = 2      /* the same, the surplus before the input */
} numbapool_padding_mode;

/* lp: the norm, or the power average. */
typedef enum {
    NUMBAPOOL_SUM = 0,
    NUMBAPOOL_MEAN = 1
} numbapool_norm;

/* soft, backward: the true gradient, or the paper's, which treats the weights as constants. */
typedef enum {
    NUMBAPOOL_EXACT = 0,
    NUMBAPOOL_CONSTANT = 1
} numbapool_gradient;

/* median: which of the two in the middle of an even number of elements. */
typedef enum {
    NUMBAPOOL_LOWER = 0,
    NUMBAPOOL_BOTH = 1 /* their mean */
} numbapool_even;

/* blur, max_blur: what stands beyond the border. */
typedef enum {
    NUMBAPOOL_REFLECT = 0,
    NUMBAPOOL_REPLICATE = 1,
    NUMBAPOOL_ZEROS = 2
} numbapool_pad_mode;

/* The host's threads: call body(argument, i) for every i of [0, n), in any order and on any threads, and return when all are done. */
typedef void (*numbapool_body)(void *argument, int64_t i);
typedef void (*numbapool_parallel_for)(void *context, int64_t n, numbapool_body body, void *argument);

/* What a call reads besides tensors.  numbapool_params_init sets the defaults given here; entries [0, rank) of arrays count, in the order of
 * the spatial axes.  A call never changes the struct. */
typedef struct {
    size_t size;                   /* sizeof(numbapool_params) where the caller was compiled */
    int32_t rank;                  /* spatial axes: 1, 2 or 3; default 2 */
    int32_t channels_last;         /* shapes have the channels last; default 0 */

    /* windows */
    int32_t form;                  /* numbapool_form; default NUMBAPOOL_SLIDING */
    int32_t padding_mode;          /* numbapool_padding_mode; default NUMBAPOOL_EXPLICIT */
    int32_t ceil_mode;             /* a last window may hang over the end; default 0 */
    int32_t count_include_pad;     /* avg: padded positions count in the divisor; default 1 */
    int64_t kernel_size[3];        /* default 0, which is refused where kernel_size is needed, but for lip (3), sort, ada and max_blur (2) */
    int64_t stride[3];             /* default 0: kernel_size, but for lip, blur and max_blur (2) */
    int64_t padding[3];            /* before the input; default -1: 0, but for lip (1) */
    int64_t padding_after[3];      /* default -1: as padding */
    int64_t dilation[3];           /* default 1 */
    int64_t output_size[3];        /* adaptive: default 0, which keeps an axis as it is; fractional_max with kernel_size; max_unpool (0: the smallest
                                      preimage); else not read */

    /* parameters of one pooling */
    int64_t divisor_override;      /* avg: divide by this; default 0: by the count */
    double norm_type;              /* lp: p, above 0; default 0, which is refused */
    double p;                      /* gem, where no tensor is given: the exponent, above 0; default 3 */
    double eps;                    /* gem: what smaller elements are raised to; default 1e-6 */
    double temperature;            /* soft: above 0; default 1 */
    double alpha;                  /* rank: the weight of the largest element, above 0 and at most 1; default 0: by t; rank_stochastic: its
                                      probability, default 0: 0.5; auto, where no tensor is given: the sharpness, of any sign; default 0 */
    int64_t t;                     /* rank: how many of the largest elements are averaged; default 0: by alpha */
    int32_t norm;                  /* lp: numbapool_norm; default NUMBAPOOL_SUM */
    int32_t gradient;              /* soft, backward: numbapool_gradient; default NUMBAPOOL_EXACT */
    int32_t training;              /* stochastic, rank_stochastic, s3: draw (1), or take the mean (0); default 1 */
    int32_t overlapping;           /* fractional without kernel_size: a window takes the first element of the next one too; default 0 */
    int32_t pseudo_random;         /* the same: boundaries ceil(alpha (i + u)), else shuffled sizes; default 0 */
    int32_t even;                  /* median: numbapool_even; default NUMBAPOOL_LOWER */
    int64_t seed;                  /* stochastic, rank_stochastic, s3, fractional: of the draws; default 0 */
    int64_t grid_size[3];          /* s3: positions of a strip; default 0: kernel_size */
    double pooling_ratio[3];       /* fractional without kernel_size: input by output size, at least 1; default 0, which is refused */
    double output_ratio[3];        /* fractional_max with kernel_size: outputs as a share of the input; default 0: see output_size */
    const int64_t *sequences[3];   /* instead of a draw: fractional without kernel_size: boundaries from 0 to the input's size; s3: first positions
                                      of windows; default NULL */
    int64_t sequence_sizes[3];     /* their lengths */

    /* how to run */
    int32_t num_threads;           /* at most so many; default 0: see numbapool_set_num_threads; 1: the caller's thread alone */
    int32_t reserved_too;          /* 0 */
    numbapool_parallel_for parallel_for; /* the host's threads, of which at most num_threads (0: numbapool_get_num_threads) work at once; default NULL */
    void *parallel_context;        /* passed on to parallel_for */
    void *workspace;               /* memory that the call may use, of any alignment; default NULL */
    size_t workspace_size;         /* its bytes */
    size_t *workspace_needed;      /* if not NULL: the call checks everything, stores here how many bytes of workspace it would need, and computes
                                      nothing; default NULL */

    /* CUDA */
    void *stream;                  /* the CUstream (cudaStream_t) that a call on a CUDA device works on; default NULL, the legacy default stream */

    /* parameters of further poolings */
    double r;                      /* lse, where no tensor is given: the sharpness, above 0; default 1 */
    double a;                      /* mixed, where no tensor is given: the maximum's share; default NaN, which is refused */
    double beta;                   /* ada, where no tensor is given: eDSCW's share; default NaN, which is refused */
    double correction;             /* std: taken from the number of elements in the divisor; default 0 */
    int32_t ignore_nan;            /* avg, max, min, sum, std: NaN are left out; default 0 */
    int32_t pad_mode;              /* blur, max_blur: numbapool_pad_mode; default NUMBAPOOL_REFLECT */
    int32_t symmetric;             /* dpp: elements below the window's average count as details, too; default 1 */
    int32_t reserved_third;        /* 0 */
    int64_t filter_size[3];        /* blur, max_blur: taps of the filter; default 0: 4 */
} numbapool_params;

/* Set every field to its default.  size: sizeof(numbapool_params); a library that is newer than the header knows by it what the caller has.
 * Fails where params is NULL or size is none that this library knows. */
int numbapool_params_init(numbapool_params *params, size_t size);

/* What is wrong with this thread's last call that failed: "numbapool_soft_pool: y must have shape (1, 3, 8, 8), got (1, 3, 8, 9)"; "" before the
 * first.  The text stays until this thread's next call that fails. */
const char *numbapool_error_message(void);

/* The library's version as text, "0.1.0", and its binary interface's number, which is also in the name of the shared library. */
const char *numbapool_version(void);
int numbapool_abi_version(void);

/* The instruction set that was chosen for this processor: "x86-64", "x86-64-v3", "x86-64-v4", or "generic" elsewhere.  The environment variable
 * NUMBAPOOL_ISA, read once, names a lesser one. */
const char *numbapool_isa(void);

/* How many threads a large call uses: the number last set, else the environment variable NUMBAPOOL_NUM_THREADS, else the processors of this process.
 * Setting 0 returns to that default; a negative number fails. */
int numbapool_get_num_threads(void);
int numbapool_set_num_threads(int threads);

/* The boundaries that fractional pooling without kernel_size draws for params (pooling_ratio, pseudo_random, seed), one array an axis:
 * sequences[i] has room for the outputs of axis i + 1 numbers.  Passed as params.sequences they give the same windows. */
int numbapool_fractional_sequences(const DLTensor *x, const numbapool_params *params, int64_t *const *sequences);

/* The first positions that S3 pooling draws for params (kernel_size, grid_size, seed), one array an axis: positions[i] has room for
 * the outputs of axis i. */
int numbapool_s3_positions(const DLTensor *x, const numbapool_params *params, int64_t *const *positions);

/* poolings: the build puts the functions of every pooling here */
