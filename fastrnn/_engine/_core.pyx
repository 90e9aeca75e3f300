# cython: language_level=3, boundscheck=True, nonecheck=True, wraparound=False, cdivision=True
# cython: auto_pickle=False, autotestdict=False, freethreading_compatible=True
"""The boundary between Python and C.

A function checks everything that protects memory, takes addresses, releases the GIL and calls C. It computes nothing
from the data. Its messages are for developers; users get those of checks.py first.

Python may run without its global lock, so any two functions here may run at once. What objects have in common is one of
these: it never changes after __cinit__ (Weights, Dense, Exchange, Runner but for a number); one call at a time claims
it (Stepper); it is read and written in a critical section of its object, which costs nothing where there is a global
lock (Packed); it is a deque, whose methods are atomic (Workspaces). The shape and the address of an array are its
owner's to keep as they are while a call has it, as NumPy asks for too.
"""
# Lists of new objects are made by `append`: Cython 3.3.1's list comprehensions release an object twice if memory ends
# while the list grows.
import os
import threading

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_Clear
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyTypeObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy, memset

from fastrnn._engine._core cimport *

cnp.import_array()

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    void *PyErr_Occurred() noexcept
    bint PyObject_TypeCheck(object, PyTypeObject *) noexcept
    unsigned long PyThread_get_thread_ident() nogil

# Python handles signals on the main thread alone, so no other thread polls for interrupts.
cdef unsigned long main_thread = threading.main_thread().ident


def remember_main_thread():
    global main_thread
    main_thread = threading.main_thread().ident


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=remember_main_thread)


cdef int signalled() noexcept with gil:
    """Runs the handlers of pending signals. Returns 1, with the exception set, if one of them raises, else 0."""
    return PyErr_CheckSignals() != 0


cdef interruption poll_function() noexcept:
    if PyThread_get_thread_ident() == main_thread:
        return signalled
    return NULL


cdef int finished(int status) except -1 nogil:
    """Returns a call's status; RuntimeError for all but 0 and FRNN_INTERRUPTED, which is -1: the poll has set an
    exception."""
    if status == FRNN_FORKED:
        with gil:
            raise RuntimeError(
                "forked during a call: this child process does not have the parts of it that other threads were "
                "computing. Make the call again in the child, or fork where no call is running")
    if status < FRNN_INTERRUPTED:
        with gil:
            raise RuntimeError(f"the kernels refuse the call ({status}): this is a bug in fastrnn, please report it")
    return status


include "_arguments.pxi"
# The most bytes of a workspace. One more buffer has fewer than 2**63 bytes, so the sum does not overflow.
cdef size_t MOST_ROOM = <size_t>1 << 62

# Bytes: buffers begin at multiples of ALIGN (`aligned`), so every buffer has ALIGN more bytes, its slack.
globals()["ALIGN"] = ALIGN


ctypedef const char *(*naming)(int) noexcept nogil


cdef list names(naming name):
    found = []
    while name(<int>len(found)) != NULL:
        found.append(name(<int>len(found)).decode())
    return found


def cells():
    """All cells, one dict each, in the order of their indices. A plain cell comes before its variants.

    name: the cell's name. plain: the name of the cell that it is a variant of; for a plain cell its own name. takes,
    has: frozensets of the options that it can be given, and of those that it has built in. gates: those of W_ih.
    recurrent: those of W_hh. states: the number of arrays of a state. extras: the cell's extra parameters,
    name -> size in units of H.
    """
    cdef const frnn_cell_facts *facts
    cdef int i = 0, k
    cdef list options = names(frnn_option_name), extras = names(frnn_extra_name), found = []
    while frnn_cell_at(i) != NULL:
        facts = frnn_facts_of(frnn_cell_at(i))
        found.append({
            "name": facts.name.decode(),
            "plain": facts.plain.decode(),
            "takes": frozenset([option for k, option in enumerate(options) if facts.takes >> k & 1]),
            "has": frozenset([option for k, option in enumerate(options) if facts.has >> k & 1]),
            "gates": facts.gates,
            "recurrent": facts.recurrent,
            "states": facts.states,
            "extras": {name: facts.extra[k] for k, name in enumerate(extras) if facts.extra[k]},
        })
        i += 1
    return found


def precisions():
    """The names of the precisions of packed weights, at first that of the dtype, ""."""
    return tuple(names(frnn_precision_name))


def extras():
    """The names of all extra parameters, in the order of csrc/fastrnn.h."""
    return tuple(names(frnn_extra_name))


cdef class Sizes:
    """Bytes of every buffer of a direction of these sizes, slack included. dtype: a NumPy dtype.

    ValueError if a size does not fit size_t."""
    cdef readonly size_t packed, forward, tape, backward

    def __init__(self, int cell, dtype, int64_t steps, int64_t batch, int64_t input, int64_t hidden, *,
                 bint ragged=False, int64_t checkpoint=0, bint ids=False, int64_t projected=0):
        cdef frnn_shape s
        memset(&s, 0, sizeof(s))
        s.cell = cell_of(cell)
        s.dtype = dtype_of(np.empty(0, dtype))
        if min(steps, batch, input, hidden, checkpoint, projected) < 0:
            raise ValueError("a negative size")
        s.steps, s.batch, s.input, s.hidden = steps, batch, input, hidden
        s.ragged, s.has_ids, s.projected, s.checkpoint = ragged, ids, projected, checkpoint
        self.packed = known(frnn_packed_size(&s, frnn_form_of(&s)), &s)
        self.forward = known(frnn_forward_size(&s), &s)
        self.tape = known(frnn_tape_size(&s), &s)
        self.backward = known(frnn_backward_size(&s), &s)


cdef size_t taken(size_t *room, size_t nbytes, const frnn_shape *s) except? 0:
    """Adds a buffer of nbytes, slack included, to a workspace of `room` bytes so far. Returns the buffer's offset.

    The workspace has slack itself and offsets are multiples of ALIGN, so the buffers in it get no slack."""
    cdef size_t place = room[0]
    known(0 if nbytes == 0 or place > MOST_ROOM else 1, s)
    room[0] += (nbytes - 1) & ~<size_t>(ALIGN - 1)
    return place


include "_packed.pxi"
include "_workspaces.pxi"

# The fields of the named tuples of passes.py, ragged.py and dropout_masks.py, in their order. Fields are read by their
# index here, because reading them by name takes ten times as long. passes.py asserts that the order is the same.
DIRECTION_CALL = "reverse", "slot", "state", "parameters", "weights", "y", "last", "tape", "dropout_masks"
BACKWARD_BUFFERS = "dy", "dlast", "dx", "dfirst", "dparameters", "dweights", "dstates"
ROWS = "lengths", "mask", "reset", "reset_to", "sorted_lengths", "sort_order", "inverse_order"
DROPOUT_MASKS = "recurrent", "zoneout"


def forward(x, tuple passes not None, rows, ids, int64_t checkpoint, work):
    """Runs the directions of one layer forward, at once.

    x: (T, B, I), or None if ids is an `ids.Ids`. passes: for each direction a `DirectionCall`, whose weights are
    `Weights`, which are packed for this call, or `Packed`. Its y and last are written, and its tape unless that is
    None. rows: a `ragged.Rows` or None. checkpoint: 0, or the number of steps between two checkpoints of the tape.
    Returns 0. If `work` is too small, it does nothing and returns the bytes that `work` must have.
    """
    cdef frnn_forward_call calls[2]
    cdef frnn_forward_call *call
    cdef frnn_pack_call packing[2]
    cdef frnn_id_table_call tables[2]
    cdef AnyWeights weights
    cdef int i, count = count_of(passes), of_ids = ids is not None, tabulates = of_ids
    cdef interruption interrupted = poll_function()
    cdef size_t room = 0
    cdef char *begin
    cdef size_t offsets[2][4]
    cdef AnyWeights first_weights = None
    cdef bint reverse, packed = False
    cdef int64_t slot
    cdef tuple state, last
    cdef list held = None  # buffers of `Packed`, which may have others soon
    inputs = ids.rows if of_ids else None  # keeps the array alive while C reads it
    memset(calls, 0, count * sizeof(frnn_forward_call))
    for i in range(count):
        reverse, slot, state, _, weights, y, last, tape, masks = tuple_of(passes[i])
        call = &calls[i]
        call.shape = shape_of(weights, x, ids, reverse, checkpoint)
        if i == 0:
            first_weights, packed = weights, isinstance(weights, Packed)
            held = [] if packed else None
            tabulates = of_ids and not (packed and inputs is None)
        alike(&weights.shape, &first_weights.shape)
        if packed != isinstance(weights, Packed):
            raise ValueError("one direction packed and one not")
        call.rows = rows_of(&call.shape, rows)
        if of_ids:
            call.ids = ids_of(&call.shape, ids, not tabulates)
            call.x.data = <void *>call.ids.numbers  # x has no features: C reads nothing there
        else:
            call.x = required(x, call.shape.dtype, &call.shape, call.shape.input)
        if tabulates:
            tables[i] = table_of(weights, inputs, ids.used, call.ids.count)
        call.weights = weights.weights
        call.variant = weights.variant
        call.dropout = masks_of(&call.shape, masks)
        call.y = required(y, call.shape.dtype, &call.shape, features_of(&call.shape), True)
        call.first = state_of(&call.shape, state, slot)
        call.last = state_of(&call.shape, last, slot, True)
        call.tape = NULL if tape is None else aligned(tape, frnn_tape_size(&call.shape))
        if packed:
            take_packed(call, <Packed>weights, tabulates, held)
            tables[i].packed = call.packed
        else:
            packing[i] = packing_of(call, frnn_form_of(&call.shape), NULL)
            offsets[i][0] = taken(&room, frnn_packed_size(&call.shape, packing[i].forms), &call.shape)
        offsets[i][1] = taken(&room, frnn_forward_size(&call.shape), &call.shape)
        if tabulates:
            offsets[i][2] = taken(&room, frnn_id_table_work_size(&tables[i].shape, tables[i].count), &tables[i].shape)
            offsets[i][3] = taken(&room, frnn_id_table_size(&tables[i].shape, call.ids.count), &tables[i].shape)
    if <size_t>array_of(work).size < room + ALIGN:
        return room + ALIGN
    begin = <char *>aligned(work, room + ALIGN)
    for i in range(count):
        if not packed:
            calls[i].packed = packing[i].packed = begin + offsets[i][0]
        calls[i].work = begin + offsets[i][1]
        if tabulates:
            tables[i].work = begin + offsets[i][2]
            calls[i].ids.table = tables[i].table = begin + offsets[i][3]
    with nogil:
        for i in range(count if tabulates else 0):
            finished(frnn_make_id_table(&tables[i], interrupted))
        if not packed:
            finished(frnn_pack(packing, count, interrupted))
        finished(frnn_forward(calls, count, interrupted))
    return 0


cdef int take_packed(frnn_forward_call *call, Packed weights, bint tabulates, list held) except -1:
    """Fills in a call's packed weights, and the id table of one-hot ids; appends their buffers to `held`.

    tabulates: the call makes an id table of its own, from weights that are packed for products."""
    cdef unsigned forms = frnn_form_of(&call.shape)
    if call.shape.has_ids:
        forms = FRNN_FOR_PRODUCTS if tabulates else 0
    elif forms == 0:  # without `Packed` the pass packs W_ih itself, for products
        forms = FRNN_FOR_PRODUCTS
    cdef cnp.ndarray buffer = weights.in_forms(forms)
    held.append(buffer)
    call.packed = boundary_of(buffer)
    if call.shape.has_ids and not tabulates:
        if call.ids.count != weights.shape.input:
            raise ValueError("as many ids as inputs expected")
        buffer = weights.one_hot_table()
        held.append(buffer)
        call.ids.table = boundary_of(buffer)
    return 0


def backward(x, tuple passes not None, gradients not None, rows, ids, int64_t checkpoint, work):
    """Runs the directions of one layer backward, at once.

    passes: as forward took them. gradients: for each pass a `BackwardBuffers`, whose dweights are `Gradients`. Its dx,
    dfirst, dweights and dstates are written; those that are None are not computed. Returns 0. If `work` is too small,
    it does nothing and returns the bytes that `work` must have.
    """
    cdef frnn_backward_call calls[2]
    cdef frnn_id_table_call tables[2]
    cdef frnn_id_gradients_call brought[2]
    cdef int i, count = count_of(passes), of_ids = ids is not None
    cdef interruption interrupted = poll_function()
    cdef size_t room = 0
    cdef char *begin
    cdef size_t offsets[2][6]
    cdef size_t bytes_of_gradient = 0, bytes_of_counts = 0, bytes_of_work
    cdef AnyWeights weights, first_weights = None
    inputs = ids.rows if of_ids else None  # keeps the array alive while C reads it
    if len(gradients) != count:
        raise ValueError("gradients for each of the passes expected")
    memset(calls, 0, sizeof(calls))
    for i in range(count):
        weights = backward_call(&calls[i], x, passes[i], gradients[i], rows, ids, checkpoint)
        first_weights = first_weights or weights
        alike(&weights.shape, &first_weights.shape)
        offsets[i][0] = taken(&room, frnn_backward_size(&calls[i].shape), &calls[i].shape)
        if of_ids:
            tables[i] = table_of(weights, inputs, ids.used, calls[i].ids.count)
            brought[i] = id_gradients_of(&tables[i], gradients[i], ids)
            bytes_of_gradient = known(frnn_id_gradient_size(&calls[i].shape, tables[i].count), &tables[i].shape)
            offsets[i][1] = taken(&room, bytes_of_gradient, &tables[i].shape)
            if frnn_goes_by_blocks(calls[i].shape.steps * calls[i].shape.batch):
                bytes_of_counts = <size_t>tables[i].count * sizeof(int64_t)
                offsets[i][2] = taken(&room, bytes_of_counts + ALIGN, &tables[i].shape)
            offsets[i][3] = taken(&room, frnn_id_gradients_size(&brought[i]), &tables[i].shape)
            if checkpoint:
                bytes_of_work = frnn_id_table_work_size(&tables[i].shape, tables[i].count)
                offsets[i][4] = taken(&room, bytes_of_work, &tables[i].shape)
                offsets[i][5] = taken(&room, frnn_id_table_size(&tables[i].shape, tables[i].count), &tables[i].shape)
    if <size_t>array_of(work).size < room + ALIGN:
        return room + ALIGN
    begin = <char *>aligned(work, room + ALIGN)
    for i in range(count):
        calls[i].work = begin + offsets[i][0]
        if of_ids:
            calls[i].ids.gradient = begin + offsets[i][1]
            brought[i].gradient = calls[i].ids.gradient
            if frnn_goes_by_blocks(calls[i].shape.steps * calls[i].shape.batch):
                calls[i].ids.seen = <int64_t *>(begin + offsets[i][2])
            brought[i].work = begin + offsets[i][3]
            if checkpoint:
                tables[i].work = begin + offsets[i][4]
                calls[i].ids.table = tables[i].table = begin + offsets[i][5]
    with nogil:
        for i in range(count if of_ids else 0):
            memset(calls[i].ids.gradient, 0, bytes_of_gradient - ALIGN)
            if calls[i].ids.seen != NULL:
                memset(calls[i].ids.seen, 0, bytes_of_counts)
            if checkpoint:
                finished(frnn_make_id_table(&tables[i], interrupted))
        finished(frnn_backward(calls, count, interrupted))
        for i in range(count if of_ids else 0):
            finished(frnn_id_gradients(&brought[i], interrupted))
    return 0


cdef AnyWeights backward_call(frnn_backward_call *call, x, p, gradients, rows, ids, int64_t checkpoint):
    """Fills in a direction's call, without its workspace. Returns its weights."""
    cdef AnyWeights weights
    cdef Gradients dweights
    cdef tuple state, dlast, dfirst, dstates
    cdef frnn_shape *s = &call.shape
    cdef bint reverse
    cdef int64_t slot
    cdef int i, states
    reverse, slot, state, _, weights, y, _, tape, masks = tuple_of(p)
    dy, dlast, dx, dfirst, _, dweights, dstates = tuple_of(gradients)
    if isinstance(weights, Packed):
        raise TypeError("weights that are not packed expected")
    states = frnn_facts_of(weights.shape.cell).states
    s[0] = shape_of(weights, x, ids, reverse, checkpoint)
    alike(&dweights.of.shape, &weights.shape)
    call.rows = rows_of(s, rows)
    if ids is None:
        call.x = required(x, s.dtype, s, s.input)
        call.dx = sequence(dx, s.dtype, s, s.input, True)
        call.dw_ih = dweights.w_ih
    else:
        call.ids = ids_of(s, ids)
        call.x.data = <void *>call.ids.numbers  # x has no features: C reads nothing there
    call.weights = weights.weights
    call.variant = weights.variant
    call.dropout = masks_of(s, masks)
    call.y = required(y, s.dtype, s, features_of(s))
    call.first = state_of(s, state, slot)
    call.tape = aligned(tape, frnn_tape_size(s))
    call.dy = sequence(dy, s.dtype, s, features_of(s))
    call.dlast = state_of(s, dlast, slot, False, False)
    if len(dstates) != states:
        raise ValueError("an array, or None, for each of the cell's states expected")
    for i in range(states):
        call.dstate[i] = sequence(dstates[i], s.dtype, s, numbers_of_state(s, i), True)
    call.dfirst = state_of(s, dfirst, slot, True)
    call.dw_hh, call.db_ih, call.db_hh, call.dw_hr = dweights.w_hh, dweights.b_ih, dweights.b_hh, dweights.w_hr
    memcpy(call.dextra, dweights.extra, sizeof(call.dextra))
    return weights


cdef frnn_id_gradients_call id_gradients_of(const frnn_id_table_call *table, gradients, ids) except *:
    """The call that turns an id table's gradient into those of W_ih and of the embedding, without its buffers."""
    cdef frnn_id_gradients_call call
    cdef Gradients dweights
    cdef int64_t k
    _, _, dx, _, _, dweights, _ = tuple_of(gradients)
    memset(&call, 0, sizeof(call))
    call.table = table[0]
    call.vocabulary = ids.vocabulary
    call.used = table.used
    call.dw_ih = dweights.w_ih
    if call.dw_ih == NULL:
        raise ValueError("an array for the gradient of w_ih expected")
    if table.x == NULL and (call.vocabulary != table.shape.input or dx is not None):
        raise ValueError("a vocabulary of the inputs, and no dx, expected without an embedding")
    if call.used == NULL and call.vocabulary != table.count:
        raise ValueError("an id table of the complete vocabulary expected without `used`")
    call.dembedding = dense(dx, table.shape.dtype, call.vocabulary, table.shape.input, True)
    for k in range(table.count if call.used != NULL else 0):
        if not 0 <= call.used[k] < call.vocabulary:
            raise ValueError("ids out of range")
    return call


def boundary(cnp.ndarray buffer not None):
    """The offset of the first address in a byte buffer that is aligned to ALIGN bytes: there the kernels begin."""
    return <char *>boundary_of(buffer) - <char *>cnp.PyArray_DATA(buffer)


def tape_size(AnyWeights weights not None, int64_t steps, int64_t batch, int64_t checkpoint=0):
    """Bytes of a tape, slack included."""
    cdef frnn_shape s = weights.shape
    if min(steps, batch, checkpoint) < 0:
        raise ValueError("a negative size")
    s.steps, s.batch, s.checkpoint = steps, batch, checkpoint
    return known(frnn_tape_size(&s), &s)


def tape_slots(AnyWeights weights not None, cnp.ndarray tape not None, int64_t steps, int64_t batch):
    """A view of a tape without checkpoints, as an array (steps, batch, slots, units).

    The view does not keep the tape alive: its caller must."""
    cdef frnn_shape s = weights.shape
    cdef cnp.npy_intp sizes[4]
    s.steps, s.batch = steps, batch
    if min(steps, batch) < 0:
        raise ValueError("a negative size")
    sizes[0], sizes[1], sizes[2], sizes[3] = steps, batch, frnn_tape_slots(&s), frnn_tape_units(&s)
    return cnp.PyArray_SimpleNewFromData(
        4, sizes, cnp.NPY_FLOAT64 if s.dtype == FRNN_F64 else cnp.NPY_FLOAT32,
        aligned(tape, known(frnn_tape_size(&s), &s)))


def step_size(list layers not None, int64_t batch, bint of_ids=False):
    """Bytes of the workspace that one step of a stack needs, slack included. layers, of_ids: as for `Stepper`."""
    cdef frnn_shape s
    cdef AnyWeights one
    cdef size_t most = 0
    cdef int i
    for i in range(<int>len(layers)):
        one = layers[i]
        s = one.shape
        s.steps, s.batch = 1, batch
        if i == 0 and of_ids:
            s.input, s.has_ids = 0, 1
        most = max(most, known(0 if batch < 0 else frnn_forward_size(&s), &s))
    return most


include "_dense.pxi"
include "_stepper.pxi"
include "_runner.pxi"
include "_tensors.pxi"
include "_capsules.pxi"


cdef extern from *:
    """extern const char frnn_build_id[]; /* setup.py writes the file that defines it. */"""
    const char *frnn_build_id


def build_id():
    """The id of the sources that this module was built from (_build.py)."""
    return frnn_build_id.decode()


def isa():
    return frnn_isa().decode()


def isas_compiled():
    return names(frnn_isa_compiled)


def isa_is_fused(str isa not None):
    """Returns whether an instruction set fuses multiply and add. All such sets give the same bits."""
    return bool(frnn_isa_fused(isa.encode()))


def isas_available():
    return names(frnn_isa_available)


def select_isa(str isa not None):
    """Chooses an instruction set by name. Returns False if this build or machine has none of that name."""
    return frnn_select(isa.encode()) == 0


def extensions():
    return names(frnn_extension)


def extensions_compiled():
    return names(frnn_extension_compiled)


def use_extensions(int which):
    """0, 1, 2: weights packed from now on are multiplied with no instructions besides the set's, with those that are
    fast on this CPU, with all that it has. Returns what was in force."""
    if not FRNN_NO_EXTENSIONS <= which <= FRNN_ALL_EXTENSIONS:
        raise ValueError(f"0, 1 or 2 expected, got {which}")
    return frnn_use_extensions(which)


def compiler():
    return frnn_compiler().decode()


most_threads = FRNN_THREADS


def set_num_threads(int n):
    """Sets the number of threads for every call in the process."""
    frnn_set_threads(n)


def set_threads_here(int n):
    """Sets the number of threads for the calls of this thread alone. 0 stands for the number of the process."""
    frnn_set_threads_here(n)


def apply(str function not None, x):
    """exp, sigmoid or tanh of a dense array as the kernels compute it. For tests."""
    cdef cnp.ndarray a = array_of(x), y = np.empty(x.size, x.dtype)
    cdef int dtype = dtype_of(a)
    cdef void *source = dense(a, dtype, a.size, 1)
    cdef void *target = cnp.PyArray_DATA(y)
    cdef int64_t n = a.size
    if function == "exp":
        frnn_exp(dtype, source, target, n)
    elif function == "sigmoid":
        frnn_sigmoid(dtype, source, target, n)
    elif function == "tanh":
        frnn_tanh(dtype, source, target, n)
    else:
        raise ValueError(f"function must be exp, sigmoid or tanh, got {function!r}")
    return y.reshape(x.shape)


def probe_fma(int64_t rounds, int dtype=0):
    """Runs multiply-adds in registers; returns the flops done."""
    cdef double flops
    if dtype not in (0, 1):
        raise ValueError(f"a dtype of 0 or 1 expected, got {dtype}")
    with nogil:
        flops = frnn_probe_fma(dtype, rounds)
    return flops


def probe_read(cnp.ndarray buffer not None, int64_t rounds):
    """Reads a byte buffer, whose size is a multiple of 1024, `rounds` times."""
    cdef void *data = cnp.PyArray_DATA(buffer)
    cdef size_t n = <size_t>buffer.size
    if buffer.descr.type_num != cnp.NPY_UINT8 or n % 1024 or not cnp.PyArray_IS_C_CONTIGUOUS(buffer):
        raise ValueError("a dense byte buffer of a multiple of 1024 bytes expected")
    with nogil:
        frnn_probe_read(0, data, n, rounds)
