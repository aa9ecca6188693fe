"""What a GPU kernel is given: one buffer of 8-byte integers, passed by value.  Written by cuda/plan.py, read by the loops.

A kernel's parameters are `f`, the header below, and `o`, one record an operand: its address and the distances of its elements along
(n, c, d, h, w).  Tables are arrays of int32 in device memory.  A task is one item of one plane: an item is an output or an input, or a few side by
side along the axis that is contiguous in memory; a plane is one (n, c), or with channels side by side one n.
"""
ITEMS, PLANES, GROUPS = 0, 1, 2               # items of a plane, planes, items along the contiguous axis
N, C, D, H, W, OD, OH, OW = range(3, 11)
D_STEP, H_STEP, W_STEP = 11, 12, 13           # dilation
D_FIRST, H_FIRST, W_FIRST = 14, 15, 16        # tables: first input index of window o, inside the input
D_COUNT, H_COUNT, W_COUNT = 17, 18, 19        # tables: elements of window o inside the input
D_SHARE, H_SHARE, W_SHARE = 20, 21, 22        # tables: its factor of the divisor
D_PLANE, H_PLANE, W_PLANE = 23, 24, 25        # distance between the first indices of two planes, 0 where all share one table
D_COVER, H_COVER, W_COVER = 26, 27, 28        # tables: from where, and to where, the lists below hold the outputs that cover input i
D_LIST, H_LIST, W_LIST = 29, 30, 31           # tables: these outputs
SHARE = 32                                    # the divisor, where all windows have one
NUMBER_1, NUMBER_2 = 33, 34                   # number parameters: bits of float64
SEED = 35
RANKS, RANK_ROW, RANK_CHANNEL, WEIGHTS = 36, 37, 38, 39  # order family: weights a row, table: row for n elements, distance of channels, address
OUTPUTS = 40                                  # outputs in all: the distance of two rows of the work memory
ACROSS, ALONG, SEGMENTS = 41, 42, 43          # a large window in parts: parts along its rows, of its rows, and in all
SLICES = 44                                   # parts that a plane is cut into
ITEM_BITS = 45                                # a block's threads along the items, as a power of two
RANK_COUNT, RANK_RANGE = 46, 47               # order family: table: elements of a row of weights; how many logits there are
GATE, GIVEN, SYMMETRIC = 48, 49, 50           # composed poolings: flags of sums by weights, and of details
HEAD = 51

X, LOGIT, Y, INDEX, GRAD_X, GRAD_LOGIT, PARAM, PARAM2, GRAD_PARAM, WORK, PARTS = range(11)
OPERANDS, RECORD = 11, 6
WORDS = HEAD + RECORD * OPERANDS
