"""Places in the flat state ``m`` of the cycle-level model, behind those of its memory (``cycle_dram``).

Scalars and parameters have fixed places. A table starts where its ``_AT`` entry says; a row of it is a run of fields.
"""

from __future__ import annotations

from sparsim.kernels.cycle_dram import MEMORY_SCALARS

FETCHERS = 16  # line visits, and elements of A, that can be asked for in one cycle (Table I: 16 fetchers)
REQUEST = 16  # elements of a partial result asked for at once
FARTHEST, ORACLE, LRU, OFF = 0, 1, 2, 3

# fmt: off
(
    # parameters of the machine
    LAYERS, WAYS, WIDTH, CAPACITY, RING_MASK, GROUPS, GROUP_WIDTH, LINES, LINE_ELEMENTS, FIRST_ELEMENTS, RUN_AHEAD,
    POLICY, WINDOW, PER_CYCLE, WRITER_FIFO, ELEMENT, PARTIAL_ELEMENT, POINTER, A_BASE, B_BASE, POINTER_BASE, HEAP_LIMIT,
    # tables
    LEAF_AT, FIFO_AT, RING_AT, NODE_AT, LAYER_AT, SLOT_AT, HEAP_AT, SLOT_OF_AT, NEXT_USE_AT, ASKED_AT, CHUNK_AT,
    STACK_AT,
    # the prefetch buffer, and counters of the run
    NOW, ERROR, OUTSTANDING, FREE_SLOT, FREE_SPARE, HEAP_SIZE, VISITS, POINTERS,
    HITS, MISSES, B_PAYLOAD, CHUNKS, MULTIPLIES, ENTRY_BUSY, DEMANDED, STRETCHES, STUCK,
    # of a round
    ROUND, LAST_ROUND, ELEMENTS, SHARE, REQUESTS, OUT_BASE, OUT_BYTES, OUT_MASK, PRODUCED, NEXT_WRITE, POSTED, HELD,
    WRITES_WAITING, ASKED, ASKED_BURSTS, HERE_BURSTS, ENTERED, FINISHED, STRETCH, FETCH_ELEMENT, FETCH_LINE,
    SET_SIZES, SET_1, SET_2,
    SCALARS,
) = range(MEMORY_SCALARS, MEMORY_SCALARS + 76)

# el[element]: an element of A in the order it enters; E_LINE is the first line of its row of B
E_ROW, E_LEAF, E_K, E_START, E_LENGTH, E_NEXT, E_SAME, E_LINE, E_BURSTS, E_DEMAND, ELEMENT_FIELDS = range(11)

# an input of the round; GO, MOVE and ASK are sets: the place of this leaf, then the members
(
    GO, GO_LIST, MOVE, MOVE_LIST, ASK, ASK_LIST, CURRENT, OFFSET, LOADED, WAIT, WAIT_NEXT, RESERVED, TAKE,
    PART, P_ASKED, P_HERE, P_MOVED, P_SIZE, P_BASE, P_AT, P_REQUESTS, P_HEAD, P_BURST, LEAF_FIELDS,
) = range(24)

# input of node f // 2; those below the number of ways come from node f, the others from a leaf
F_HEAD, F_TAIL, F_END, F_BOUND, F_NEED, FIFO_FIELDS = range(6)

# a node of the tree; READY, SHORT and URGENT are sets, by layer
(
    READY, READY_LIST, SHORT, SHORT_LIST, URGENT, URGENT_LIST, DEPTH, CLASS,
    SHORT_BLOCKER, SHORT_VERSION, URGENT_BLOCKER, URGENT_VERSION, NODE_STATE,
) = range(13)

# a layer; first the sizes of its nodes' sets
READY_SIZE, SHORT_SIZE, URGENT_SIZE, CHOSEN, BUSY_CYCLES, TAKEN, LAYER_FIELDS = range(7)

# a line of the buffer
S_LINE, S_PINS, S_FLIGHT, S_KEY, S_WAITERS, S_K, S_SEGMENT, S_SEEN, S_FREE, S_START, S_LENGTH, SLOT_FIELDS = range(12)

# a chunk of products
K_LEAF, K_ROW, K_START, K_LENGTH, CHUNK_FIELDS = range(5)
# fmt: on
