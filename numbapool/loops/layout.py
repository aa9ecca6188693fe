"""The plan: every integer that a kernel needs besides addresses, in one int64 buffer.  Written by plan.py, read by the loops.

Kernels have one signature, `kernel(plan, data, slot, lo, hi)`:

plan   address of the int64 buffer below (the same for every call of the same shapes, so it is cached)
data   address of the int64 array of operand addresses, in the order of the operands below
slot   which part of the scratch memory `WORK` this call may use (one a thread)
lo, hi the range of tasks: rows of output (forward) or planes (backward)

A plane is one (n, g): with lanes along a spatial axis g is the channel, with lanes along the channels
(channels-last memory) g is a group of `WIDTH` of them.
"""
# header: sizes, steps, and where in the buffer each table begins
N, G, WIDTH, CHANNELS, D, H, W, OD, OH, OW = range(10)
D_STEP, H_STEP, W_STEP = 10, 11, 12       # dilation along each axis
D_FIRST, H_FIRST, W_FIRST = 13, 14, 15    # -> first input index of window o; one table, or one a plane
D_PLANE, H_PLANE, W_PLANE = 16, 17, 18    # distance between the tables of two planes, 0 where all share one
D_COUNT, H_COUNT = 19, 20                 # -> number of elements of window o
D_SHARE, H_SHARE = 21, 22                 # -> divisor of window o
UNITS, UNIT_TABLE = 23, 24                # number of units, -> the units
CHANNEL_LANES = 25                        # 1: lanes are channels, 0: lanes are windows along the last axis
ROWS, RUN, GAP = 26, 27, 28               # a plane of the gradient in memory: ROWS runs of RUN elements, GAP apart
WORK_SIZE = 29                            # bytes of scratch a slot
RANKS = 30                                # order family: weights a row
RANK_ROW, RANK_CHANNEL = 31, 32           # order family: -> row of weights for a window of n; distance between channels
SORT_AT, SORT_SIZE = 33, 34               # order family: where in a slot the buffers begin, elements in each
PAST_CACHE = 35                           # 1: the result is so large that it is written past the caches; 2: the index is; 3: both are
# sweeps (cpu/sweep.py)
CHUNKS, CHUNK_TABLE = 36, 37              # the windows along the last axis in chunks whose cells fit a row, for the forward pass
SLICES, SLICE_TABLE = 38, 39              # the same for the backward pass: the inputs in parts, with the windows that cover them
W_STRIDE, W_TAPS, W_COUNT, W_SHARE = 40, 41, 42, 43  # distance of the windows (0: any) and their taps, padding included; -> as D_COUNT, D_SHARE
ROW_CELLS, RING_D, RING_H, TAGS_AT = 44, 45, 46, 47  # the ring of lifted rows: cells a row, masks of d and h, where its tags are
HELD_CELLS, HELD_D, HELD_H, HELD_AT, HELD_TAGS_AT = range(48, 53)  # the same for rows of terms
D_COVER, H_COVER, W_COVER, H_SAME = range(53, 57)  # -> where the outputs that cover input i are listed; whether they are those of i - 1
W_SPREAD, W_LEAD = 57, 58                 # how columns spread: 1 and 2 for these strides, 0 by the table; padding of a row of terms
TURN = 59                                 # rows that are turned together, so that windows along the last axis join columns as lanes do; 0: none are
COVER_FIRST, COVER_COUNT = 60, 61         # for these: -> the first output that covers an input, how many do
TODO_AT = 62                              # where in a slot rows of windows are listed whose terms are to be made
# choices (cpu/select.py), besides the fields of sweeps
W_POWER, W_PARTS = 63, 64                 # columns of a part of a window, a power of two; parts that make any window
SCRATCH_PLANE = 65                        # 1: contributions are added up in scratch memory, and each plane is then written once
ASK = 66                                  # so many elements before they are read, loops ask for them; 0: not at all, since the caches hold all
# sweeps of windows that overlap much (slide_down in cpu/cells.py): rows of the tallest window, 0 where it is not for them; where in a slot it works
JOIN_TALL, JOIN_AT, COVER_TALL, COVER_AT = range(67, 71)  # for rows of elements, and for rows of terms
RECORDS = 71                              # one record an operand follows
RECORD = 6                                # distances in elements along n, g, d, h, w and from lane to lane

# a unit: windows side by side that have the same number of taps, taken together
UNIT = 5
U_FIRST, U_LANES, U_STEP, U_COUNT, U_SHARE = range(5)  # output index, lanes, distance of the windows (0: see W_FIRST), taps, divisor

# a chunk: outputs from C_OUT on, C_LANES of them; their cells are positions C_START to C_START + C_LENGTH, those of [C_LO, C_HI) lie in
# the input; [C_FROM, C_TO) are the inputs whose gradient it makes
CHUNK = 8
C_OUT, C_LANES, C_START, C_LENGTH, C_LO, C_HI, C_FROM, C_TO = range(8)

# operands
X, LOGIT, Y, INDEX, GRAD_X, GRAD_LOGIT, PARAM, PARAM2, GRAD_PARAM, GRAD_PARAM2, TARGET = range(11)
OPERANDS = 11
NUMBERS, WORK, FAULT, WEIGHTS, GRAD_WEIGHTS, SEED, MASK, KERNEL = range(11, 19)  # addresses without a record
DATA = 19

# bundles (cpu/bundle.py): a plan of their own, whose tasks are bundles of B_LANES planes that another kernel then takes as lanes
B_PLANES, B_CHANNELS, B_LANES = 0, 1, 2   # planes in all, planes of an entry of the batch, planes of a bundle
B_TASKS, B_MARKS, B_PLAN = 3, 4, 5        # tasks of that kernel, tasks a plane of the one that does again what it leaves; -> its plan
B_WORK, B_MASK, B_SCRATCH = 6, 7, 8       # bytes of scratch a slot; where in it the mask and the scratch of that kernel begin
B_INPUTS, B_OPERANDS, B_ASK = 9, 10, 11   # records of inputs, and of all; whether inputs are asked for a bundle ahead
B_RECORDS = 12
B_RECORD = 13
B_SLOT, B_ITEM, B_AT, B_PITCH = range(4)  # operand, bytes of an element, where in scratch memory, distance of planes without gaps (0: they have some)
B_PAST = 12                               # where in scratch memory planes are turned that are then written past the caches; 0: in their place
B_SIZE, B_STEP = 4, 7                     # positions along d, h, w; distances along n, c, d, h, w
