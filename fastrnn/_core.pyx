# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The border between Python and C: check what protects memory, take addresses, release the GIL, call, return.

Messages here are for developers; users meet those of checks.py first. No arithmetic on data.
"""
import os
import threading

import numpy as np

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.string cimport memcpy, memset

from fastrnn._core cimport *

cnp.import_array()

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    void *PyErr_Occurred() noexcept
    unsigned long PyThread_get_thread_ident() nogil

# Signals are handled on the main thread alone, so no other is asked whether to stop.
cdef unsigned long main_thread = threading.main_thread().ident


def remember_main_thread():
    global main_thread
    main_thread = threading.main_thread().ident


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=remember_main_thread)


cdef int signalled() noexcept with gil:
    """Runs the handlers of signals that have come in; 1, with an exception left, where one of them raises."""
    return PyErr_CheckSignals() != 0


cdef interruption asked() noexcept:
    if PyThread_get_thread_ident() == main_thread:
        return signalled
    return NULL


cdef int dtype_of(cnp.ndarray a) except -1:
    if a.descr.type_num == cnp.NPY_FLOAT32:
        return 0
    if a.descr.type_num == cnp.NPY_FLOAT64:
        return 1
    raise TypeError(f"float32 or float64 expected, got {a.dtype}")


cdef int check(cnp.ndarray a, int dtype, bint writes) except -1:
    """What every array has in common: the dtype, the machine's byte order, alignment, leave to write."""
    if dtype_of(a) != dtype or not cnp.PyArray_ISBEHAVED_RO(a):
        raise TypeError("an array of another dtype, byte order or alignment")
    if writes and not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError("a read-only array to write to")
    return 0


cdef void *dense(a, int dtype, int64_t rows, int64_t columns, bint writes=False) except? NULL:
    """The address of a C-contiguous array of rows * columns elements; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = a
    check(array, dtype, writes)
    if not cnp.PyArray_IS_C_CONTIGUOUS(array) or array.size != rows * columns:
        raise ValueError(f"a dense array of {rows} x {columns} expected, got {a.shape}")
    return cnp.PyArray_DATA(array)


cdef frnn_sequence sequence(a, int dtype, frnn_shape *shape, int64_t features, bint writes=False) except *:
    """Address and strides of a (steps, batch, features) array whose last axis is dense; NULL for None."""
    cdef frnn_sequence q
    memset(&q, 0, sizeof(q))
    if a is None:
        return q
    cdef cnp.ndarray array = a
    check(array, dtype, writes)
    if array.ndim != 3 or array.shape[0] != shape.steps or array.shape[1] != shape.batch:
        raise ValueError(f"an array of {shape.steps} x {shape.batch} x {features} expected, got {a.shape}")
    # An empty array may have any strides.
    if array.shape[2] != features or (
        array.size and features > 1 and array.strides[2] != cnp.PyArray_ITEMSIZE(array)
    ):
        raise ValueError(f"a dense last axis of {features} expected, got {a.shape}, strides {a.strides}")
    q.data = cnp.PyArray_DATA(array)
    q.step = array.strides[0]
    q.row = array.strides[1]
    return q


cdef enum:
    ALIGN = 64  # bytes; every size that C gives has as much slack for it


cdef void *aligned(cnp.ndarray buffer, size_t needed) except NULL:
    """The first boundary of ALIGN bytes in a buffer of `needed` bytes, slack included."""
    if buffer.descr.type_num != cnp.NPY_UINT8 or not cnp.PyArray_IS_C_CONTIGUOUS(buffer):
        raise TypeError("a dense byte buffer expected")
    if needed == 0 or <size_t>buffer.size < needed:
        raise ValueError(f"a buffer of {needed} bytes expected, got {buffer.size}")
    return <void *>((<uintptr_t>cnp.PyArray_DATA(buffer) + (ALIGN - 1)) & ~<uintptr_t>(ALIGN - 1))


cdef size_t known(size_t nbytes) except 0:
    if nbytes == 0:
        raise OverflowError("sizes too large")
    return nbytes


cdef int gates_of(int cell) except 0:
    cdef int gates = frnn_gates(cell)
    if gates == 0:
        raise ValueError("an unknown cell")
    return gates


cdef int size_units(frnn_shape *s, tuple weights) except -1:
    """Sets how many units there are, and to how many features h is projected, from w_hh and perhaps w_hr."""
    cdef cnp.ndarray w_hh = weights[1]
    if w_hh.ndim != 2:
        raise ValueError("an array of another rank")
    s.hidden = w_hh.shape[0] // gates_of(s.cell)
    s.projected = 0
    if len(weights) > 4 and weights[4] is not None:
        if frnn_states(s.cell) != 2 or w_hh.shape[1] >= s.hidden:
            raise ValueError("a projection to fewer features, of a cell with c, expected")
        s.projected = w_hh.shape[1]
    elif w_hh.shape[1] != s.hidden:
        raise ValueError("w_hh must be square for each gate")
    if w_hh.shape[1] < 1:
        raise ValueError("hidden must be positive")
    return 0


cdef int64_t features_of(frnn_shape *s) noexcept:
    return s.projected if s.projected else s.hidden


cdef frnn_shape shape_of(int cell, x, tuple weights, bint reverse) except *:
    cdef frnn_shape shape
    cdef cnp.ndarray xs = x, ws = weights[1]
    gates_of(cell)
    if xs.ndim != 3 or ws.ndim != 2:
        raise ValueError("an array of another rank")
    shape.cell = cell
    shape.dtype = dtype_of(ws)
    shape.reverse = reverse
    shape.steps = xs.shape[0]
    shape.batch = xs.shape[1]
    shape.input = xs.shape[2]
    shape.ragged = shape.tokens = 0
    shape.checkpoint = 0
    size_units(&shape, weights)
    return shape


cdef frnn_weights weights_of(frnn_shape *s, int64_t gates, tuple weights) except *:
    cdef frnn_weights w
    w.w_ih = dense(weights[0], s.dtype, gates * s.hidden, s.input)
    w.w_hh = dense(weights[1], s.dtype, gates * s.hidden, features_of(s))
    w.b_ih = dense(weights[2], s.dtype, gates * s.hidden, 1)
    w.b_hh = dense(weights[3], s.dtype, gates * s.hidden, 1)
    w.w_hr = dense(weights[4], s.dtype, s.projected, s.hidden) if s.projected else NULL
    if w.w_ih == NULL or w.w_hh == NULL or (s.projected and w.w_hr == NULL):
        raise ValueError("weights may not be None")
    return w


cdef int extras_of(frnn_shape *s, tuple weights, void **extra, bint writes) except -1:
    """The addresses of what `weights` has at 5, the parameters of a variant in the order of frnn_extra; of none NULL."""
    cdef int i
    cdef tuple extras = weights[5] if len(weights) > 5 else (None,) * FRNN_EXTRAS
    if len(extras) != FRNN_EXTRAS:
        raise ValueError(f"{FRNN_EXTRAS} extra parameters expected, got {len(extras)}")
    for i in range(FRNN_EXTRAS):
        extra[i] = dense(extras[i], s.dtype, frnn_extra_units(s.cell, i) * s.hidden, 1, writes)
        if extra[i] != NULL and frnn_extra_units(s.cell, i) == 0:
            raise ValueError(f"a cell that has no extra parameter {i}")
    return 0


cdef frnn_variant variant_of(frnn_shape *s, tuple weights) except *:
    """weights: after the extra parameters (clip, cell_clip, slope, what stays of h, of c)."""
    cdef frnn_variant v
    cdef int i
    memset(&v, 0, sizeof(v))
    extras_of(s, weights, <void **>v.extra, False)
    for i in range(FRNN_EXTRAS):
        if i not in (FRNN_PEEPHOLE, FRNN_SHIFT_C) and frnn_extra_units(s.cell, i) and v.extra[i] == NULL:
            raise ValueError(f"extra parameter {i} may not be None")
    if len(weights) > 6:
        v.clip, v.cell_clip, v.slope, v.stays[0], v.stays[1] = tuple_of(weights[6])
    return v


cdef frnn_noise noise_of(frnn_shape *s, noise) except *:
    """noise: None, or (factors (batch, features of h) or None, for each state (steps, batch, hidden) or nothing)."""
    cdef frnn_noise q
    cdef tuple stays
    cdef int i
    memset(&q, 0, sizeof(q))
    if noise is None:
        return q
    recurrent, stays = tuple_of(noise)
    q.recurrent = dense(recurrent, s.dtype, s.batch, features_of(s))
    if len(stays) not in (0, frnn_states(s.cell)) or (stays and s.projected):
        raise ValueError("noise for all states or none expected, and none where h is projected")
    for i in range(len(stays)):
        q.stays[i] = dense(stays[i], s.dtype, s.steps * s.batch, s.hidden)
    return q


cdef void *state_row(a, frnn_shape *s, int64_t numbers, int64_t row, bint writes) except? NULL:
    """The address of row `row` of a C-contiguous (rows, batch, numbers) array; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = a
    check(array, s.dtype, writes)
    if (not cnp.PyArray_IS_C_CONTIGUOUS(array) or array.ndim != 3 or array.shape[1] != s.batch
            or array.shape[2] != numbers or not 0 <= row < array.shape[0]):
        raise ValueError(f"row {row} of a dense array of {s.batch} x {numbers} expected, got {a.shape}")
    return <char *>cnp.PyArray_DATA(array) + row * s.batch * numbers * cnp.PyArray_ITEMSIZE(array)


cdef frnn_state state_of(frnn_shape *s, tuple state, int64_t row, bint writes=False, bint required=True) except *:
    """Row `row` of h, and of c where the cell has one, from a tuple of arrays."""
    cdef frnn_state q
    memset(&q, 0, sizeof(q))
    cdef bint has_c = frnn_states(s.cell) == 2
    if len(state) != (2 if has_c else 1):
        raise ValueError("a tuple of the cell's states expected")
    q.h = state_row(state[0], s, features_of(s), row, writes)
    if has_c:
        q.c = state_row(state[1], s, s.hidden, row, writes)
    if required and (q.h == NULL or (has_c and q.c == NULL)):
        raise ValueError("states may not be None")
    return q


cdef int64_t *indices(a, int64_t count) except? NULL:
    """The address of `count` dense int64; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = a
    if (array.descr.type_num != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(array)
            or array.ndim != 1 or array.size != count):
        raise ValueError(f"{count} dense int64 expected, got {a.shape} of {a.dtype}")
    return <int64_t *>cnp.PyArray_DATA(array)


cdef uint8_t *flags(a, frnn_shape *s) except? NULL:
    """The address of a dense (steps, batch) array of bytes; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = a
    if (array.descr.type_num != cnp.NPY_BOOL or not cnp.PyArray_IS_C_CONTIGUOUS(array)
            or array.ndim != 2 or array.shape[0] != s.steps or array.shape[1] != s.batch):
        raise ValueError(f"a dense array of {s.steps} x {s.batch} booleans expected, got {a.shape} of {a.dtype}")
    return <uint8_t *>cnp.PyArray_DATA(array)


cdef frnn_rows rows_of(frnn_shape *s, rows) except *:
    """rows: the tuple (lengths, order, places, mask, reset, reset_to_first) as csrc/fastrnn.h has it."""
    cdef frnn_rows r
    cdef int64_t i
    memset(&r, 0, sizeof(r))
    lengths, order, places, mask, reset, r.reset_to_first = tuple_of(rows)
    r.lengths = indices(lengths, s.batch)
    r.order = indices(order, s.batch)
    r.places = indices(places, s.batch)
    if (r.order == NULL) != (r.places == NULL):
        raise ValueError("an order without places, or places without an order")
    r.mask = flags(mask, s)
    r.reset = flags(reset, s)
    r.step = s.batch
    for i in range(s.batch):
        if r.lengths != NULL and not 0 <= r.lengths[i] <= (s.steps if i == 0 else r.lengths[i - 1]):
            raise ValueError("lengths out of range or order")
        if r.order != NULL and (not 0 <= r.order[i] < s.batch or r.places[r.order[i]] != i):
            raise ValueError("an order of other rows, or other places than its")
    s.ragged = 1
    return r


cdef frnn_tokens tokens_of(frnn_shape *s, tokens, int i) except *:
    """tokens: (ids, count, for each pass a table of so many rows or None, and the same of their gradients)."""
    cdef frnn_tokens q
    cdef cnp.ndarray ids
    cdef int64_t k, count
    cdef size_t size
    memset(&q, 0, sizeof(q))
    ids, count, tables, gradients = tuple_of(tokens)
    if ids.ndim != 2 or ids.shape[0] != s.steps or ids.shape[1] != s.batch or s.input != 0 or count < 0:
        raise ValueError("ids of another shape, or an input besides")
    q.ids = indices(ids.reshape(-1), s.steps * s.batch)
    q.step = s.batch
    for k in range(s.steps * s.batch):
        if not 0 <= q.ids[k] < count:
            raise ValueError("ids out of range")
    if gradients is not None:
        q.gradient = dense(gradients[i], s.dtype, count, gates_of(s.cell) * s.hidden, True)
    if tables is not None:
        size = known(frnn_table_size(s, count))
        q.table = aligned(tables[i], size)
    s.tokens = 1
    return q


cdef class Sizes:
    """Bytes of every buffer for a layer of the given sizes; OverflowError where one does not fit."""
    cdef readonly size_t packed, forward, tape, backward

    def __init__(self, int cell, int itemsize, int64_t steps, int64_t batch, int64_t input, int64_t hidden,
                 bint ragged=False, int64_t checkpoint=0, bint tokens=False, int64_t projected=0):
        cdef frnn_shape s
        gates_of(cell)
        s.cell = cell
        s.dtype = 0 if itemsize == 4 else 1
        s.reverse = 0
        s.steps = steps
        s.batch = batch
        s.input = input
        s.hidden = hidden
        s.ragged = ragged
        s.tokens = tokens
        s.projected = projected
        s.checkpoint = checkpoint
        self.packed = frnn_packed_size(&s)
        self.forward = frnn_forward_size(&s)
        self.tape = frnn_tape_size(&s)
        self.backward = frnn_backward_size(&s)
        if not (self.packed and self.forward and self.tape and self.backward):
            raise OverflowError("sizes too large")


cdef tuple tuple_of(a):
    """A tuple, a named one too."""
    if not isinstance(a, tuple):
        raise TypeError(f"a tuple expected, got {type(a).__name__}")
    return <tuple>a


cdef int count_of(tuple passes) except -1:
    if not 1 <= len(passes) <= FRNN_TOGETHER:
        raise ValueError(f"1 to {FRNN_TOGETHER} passes expected, got {len(passes)}")
    return <int>len(passes)


cdef int alike(frnn_shape *a, frnn_shape *b) except -1:
    if a.hidden != b.hidden or a.projected != b.projected or a.dtype != b.dtype:
        raise ValueError("passes of different sizes")
    return 0


cdef int steps_between(int64_t checkpoint) except -1:
    if checkpoint < 0:
        raise ValueError("a negative number of steps")
    return 0


def forward(int cell, x, tuple passes, rows, tokens, int64_t checkpoint, work):
    """One layer forward, its directions at once.

    passes: for each direction (reverse, row, first, weights, y, last, tape, noise), the states in that row of their
    arrays; y, last and, unless it is None, tape are written. weights: w_ih, w_hh, b_ih, b_hh, then perhaps w_hr or
    None, and what extras_of and variant_of say. rows, tokens, noise: see rows_of and so on; checkpoint: 0, or the steps
    between those that the tape keeps something of. Returns 0, or how many bytes `work` must have, nothing being done yet.
    """
    cdef frnn_forward_call calls[2]
    cdef frnn_forward_call *call
    cdef int i, count = count_of(passes)
    cdef interruption interrupted = asked()
    cdef size_t packed, needed
    cdef char *place
    cdef bint reverse
    cdef int64_t row
    cdef tuple first, weights, last
    steps_between(checkpoint)
    memset(calls, 0, count * sizeof(frnn_forward_call))
    for i in range(count):
        reverse, row, first, weights, y, last, tape, noise = tuple_of(passes[i])
        call = &calls[i]
        call.shape = shape_of(cell, x, weights, reverse)
        alike(&call.shape, &calls[0].shape)
        call.shape.checkpoint = checkpoint
        if rows is not None:
            call.rows = rows_of(&call.shape, rows)
        if tokens is not None:
            call.tokens = tokens_of(&call.shape, tokens, i)
            if call.tokens.table == NULL:
                raise ValueError("a table expected")
        call.weights = weights_of(&call.shape, gates_of(cell), weights)
        if len(weights) > 5 or noise is not None:
            call.variant = variant_of(&call.shape, weights)
            call.noise = noise_of(&call.shape, noise)
        call.x = sequence(x, call.shape.dtype, &call.shape, call.shape.input)
        call.y = sequence(y, call.shape.dtype, &call.shape, features_of(&call.shape), True)
        call.first = state_of(&call.shape, first, row)
        call.last = state_of(&call.shape, last, row, True)
        call.tape = NULL if tape is None else aligned(tape, frnn_tape_size(&call.shape))
    packed = known(frnn_packed_size(&calls[0].shape)) - ALIGN
    needed = packed + known(frnn_forward_size(&calls[0].shape)) - ALIGN
    if <size_t>(<cnp.ndarray?>work).size < count * needed + ALIGN:
        return count * needed + ALIGN
    place = <char *>aligned(work, count * needed + ALIGN)
    for i in range(count):
        calls[i].packed = place + i * needed
        calls[i].work = place + i * needed + packed
    with nogil:
        frnn_pack(calls, count, interrupted)
        frnn_forward(calls, count, interrupted)
    return 0


def backward(int cell, x, tuple passes, rows, tokens, int64_t checkpoint, work):
    """One layer backward, its directions at once.

    passes: for each direction the pass as forward took it, then dy, dlast, dx, dfirst, dweights, dstates (the gradients
    of the states after each step); the last four are written, what is None among them is not computed. Returns 0, or how many bytes `work` must have, nothing being done
    yet.
    """
    cdef frnn_backward_call calls[2]
    cdef frnn_backward_call *call
    cdef frnn_shape *s
    cdef int i, gates = gates_of(cell), count = count_of(passes)
    cdef interruption interrupted = asked()
    cdef size_t needed
    cdef char *place
    cdef bint reverse
    cdef int64_t row
    cdef tuple first, weights, dlast, dfirst, dweights, dstates
    steps_between(checkpoint)
    memset(calls, 0, sizeof(calls))
    for i in range(count):
        made, dy, dlast, dx, dfirst, dweights, dstates = tuple_of(passes[i])
        reverse, row, first, weights, y, _, tape, noise = tuple_of(made)
        call = &calls[i]
        call.shape = shape_of(cell, x, weights, reverse)
        s = &call.shape
        alike(s, &calls[0].shape)
        s.checkpoint = checkpoint
        if rows is not None:
            call.rows = rows_of(s, rows)
        if tokens is not None:
            call.tokens = tokens_of(s, tokens, i)
            if call.tokens.gradient == NULL or (checkpoint and call.tokens.table == NULL):
                raise ValueError("a gradient expected, and with checkpoints a table")
        call.weights = weights_of(s, gates, weights)
        if len(weights) > 5:
            call.variant = variant_of(s, weights)
            call.noise = noise_of(s, noise)
            extras_of(s, dweights, call.dextra, True)
        call.x = sequence(x, s.dtype, s, s.input)
        call.y = sequence(y, s.dtype, s, features_of(s))
        call.first = state_of(s, first, row)
        call.tape = aligned(tape, frnn_tape_size(s))
        call.dy = sequence(dy, s.dtype, s, features_of(s))
        call.dlast = state_of(s, dlast, row, False, False)
        call.dx = sequence(dx, s.dtype, s, s.input, True)
        call.dh = sequence(dstates[0], s.dtype, s, features_of(s), True)
        call.dc = sequence(dstates[1] if frnn_states(cell) == 2 else None, s.dtype, s, s.hidden, True)
        call.dfirst = state_of(s, dfirst, row, True)
        call.dw_ih = dense(dweights[0], s.dtype, gates * s.hidden, s.input, True)
        call.dw_hh = dense(dweights[1], s.dtype, gates * s.hidden, features_of(s), True)
        call.db_ih = dense(dweights[2], s.dtype, gates * s.hidden, 1, True)
        call.db_hh = dense(dweights[3], s.dtype, gates * s.hidden, 1, True)
        call.dw_hr = dense(dweights[4], s.dtype, s.projected, s.hidden, True) if s.projected else NULL
    needed = known(frnn_backward_size(&calls[0].shape)) - ALIGN
    if <size_t>(<cnp.ndarray?>work).size < count * needed + ALIGN:
        return count * needed + ALIGN
    place = <char *>aligned(work, count * needed + ALIGN)
    for i in range(count):
        calls[i].work = place + i * needed
    with nogil:
        frnn_backward(calls, count, interrupted)
    return 0


def tape_slots(int cell, cnp.ndarray tape not None, int dtype, int64_t steps, int64_t batch, int64_t hidden):
    """A tape of every step as an array (steps, batch, slots, units), a view; what it is a view of must be held."""
    cdef frnn_shape s
    cdef cnp.npy_intp sizes[4]
    memset(&s, 0, sizeof(s))
    gates_of(cell)
    s.cell, s.dtype, s.steps, s.batch, s.hidden = cell, dtype, steps, batch, hidden
    sizes[0], sizes[1], sizes[2], sizes[3] = steps, batch, frnn_tape_slots(&s), frnn_tape_units(&s)
    return cnp.PyArray_SimpleNewFromData(
        4, sizes, cnp.NPY_FLOAT64 if dtype else cnp.NPY_FLOAT32, aligned(tape, known(frnn_tape_size(&s))))


def table_size(int cell, int dtype, int64_t hidden, int64_t count):
    cdef frnn_shape s
    memset(&s, 0, sizeof(s))
    s.cell, s.dtype, s.hidden = cell, dtype, hidden
    return known(frnn_table_size(&s, count))


def tabulate(int cell, x, tuple weights, int64_t count, table, work):
    """The table of `count` ids into a byte buffer: of the rows of x (count, input), or with None of the features one by
    one. Returns 0, or how many bytes `work` must have, nothing being done yet."""
    cdef frnn_table_call call
    cdef cnp.ndarray w_ih = weights[0]
    cdef interruption interrupted = asked()
    cdef size_t needed
    memset(&call, 0, sizeof(call))
    call.shape.cell = cell
    call.shape.dtype = dtype_of(w_ih)
    call.shape.input = w_ih.shape[1]
    size_units(&call.shape, weights)
    call.weights = weights_of(&call.shape, gates_of(cell), weights)
    call.count = count
    call.x = dense(x, call.shape.dtype, count, call.shape.input)
    if x is None and count != call.shape.input:
        raise ValueError("as many ids as inputs expected")
    call.table = aligned(table, known(frnn_table_size(&call.shape, count)))
    needed = known(frnn_tabulate_size(&call.shape))
    if <size_t>(<cnp.ndarray?>work).size < needed:
        return needed
    call.work = aligned(work, needed)
    with nogil:
        frnn_tabulate(&call, interrupted)
    return 0


def product(cnp.ndarray a not None, b, c, work):
    """a (m, k), dense or the transpose of what is dense, times b (k, n) into c. Returns 0, or how many bytes `work` must
    have, nothing being done yet."""
    cdef frnn_product_call call
    cdef interruption interrupted = asked()
    cdef size_t needed
    cdef bint transposed = cnp.PyArray_IS_F_CONTIGUOUS(a)
    memset(&call, 0, sizeof(call))
    call.dtype = dtype_of(a)
    call.m, call.k, call.n = a.shape[0], a.shape[1], (<cnp.ndarray?>b).shape[1]
    call.a = dense(a.T if transposed else a, call.dtype, call.m, call.k)
    call.a_row = a.itemsize if transposed else call.k * a.itemsize
    call.a_k = call.m * a.itemsize if transposed else a.itemsize
    call.b = dense(b, call.dtype, call.k, call.n)
    call.c = dense(c, call.dtype, call.m, call.n, True)
    needed = known(frnn_product_size(call.dtype, call.n, call.k))
    if <size_t>(<cnp.ndarray?>work).size < needed:
        return needed
    call.work = aligned(work, needed)
    with nogil:
        frnn_product(&call, interrupted)
    return 0


cdef int passed() except -1:
    """Raises the exception that a signal's handler has left, if there is one."""
    return -1 if PyErr_Occurred() != NULL else 0


cdef enum:
    LOOK_AFTER = 10000000  # multiply-adds of one gate: less than 10 ms


cdef class Stepper:
    """One step of a stack of layers, again and again: weights packed once, addresses taken once.

    layers: a list of (cell, weights, packed), from the lowest up, packed being the caller's memory; state: a tuple of
    (layers, batch, hidden) arrays, in and out.
    outputs: a (batch, hidden) array for each layer's output; the last one's where `out` overlaps x.
    """
    cdef frnn_forward_call *calls
    cdef int count, dtype
    cdef int64_t batch, input, hidden  # features of x and of h
    cdef list kept
    cdef char *spare
    cdef size_t x_bytes, y_bytes
    cdef int64_t steps_between  # two looks whether to stop

    def __cinit__(self, list layers, int64_t batch, tuple state, work, list outputs):
        cdef frnn_forward_call *call
        cdef cnp.ndarray w_ih
        cdef int i
        self.count = len(layers)
        self.batch = batch
        self.kept = [layers, state, work, outputs]
        if self.count < 1 or len(outputs) != self.count:
            raise ValueError("layers and their outputs do not agree")
        self.calls = <frnn_forward_call *>PyMem_Malloc(self.count * sizeof(frnn_forward_call))
        if self.calls == NULL:
            raise MemoryError()
        memset(self.calls, 0, self.count * sizeof(frnn_forward_call))
        for i, (cell, weights, packed) in enumerate(layers):
            call = &self.calls[i]
            w_ih = weights[0]
            gates_of(cell)
            call.shape.cell = cell
            call.shape.dtype = dtype_of(w_ih)
            call.shape.steps = 1
            call.shape.batch = batch
            call.shape.input = w_ih.shape[1]
            size_units(&call.shape, weights)
            call.weights = weights_of(&call.shape, gates_of(cell), weights)
            call.variant = variant_of(&call.shape, weights)
            call.packed = aligned(packed, frnn_packed_size(&call.shape))
            call.work = aligned(work, frnn_forward_size(&call.shape))
            call.first = state_of(&call.shape, state, i, True)
            call.last = call.first
            if i > 0:
                alike(&call.shape, &self.calls[0].shape)
                if call.shape.input != features_of(&call.shape):
                    raise ValueError("a layer's input is not the output of the one below")
                call.x.data = dense(outputs[i - 1], call.shape.dtype, batch, call.shape.input, True)
                call.x.row = call.shape.input * w_ih.itemsize
                self.calls[i - 1].y = call.x
            frnn_pack(call, 1, NULL)
        self.dtype = self.calls[0].shape.dtype
        self.input = self.calls[0].shape.input
        self.hidden = features_of(&self.calls[0].shape)
        self.calls[0].x.row = self.input * (<cnp.ndarray>outputs[0]).itemsize
        self.calls[self.count - 1].y.row = self.hidden * (<cnp.ndarray>outputs[0]).itemsize
        self.steps_between = 1 + LOOK_AFTER // (batch * self.count * self.hidden * (self.hidden + self.input) + 1)
        self.spare = <char *>dense(outputs[self.count - 1], self.dtype, batch, self.hidden, True)
        self.y_bytes = <size_t>(batch * self.hidden) * (<cnp.ndarray>outputs[0]).itemsize
        self.x_bytes = <size_t>(batch * self.input) * (<cnp.ndarray>outputs[0]).itemsize

    def __dealloc__(self):
        PyMem_Free(self.calls)

    cdef bint fits(self, cnp.ndarray x, cnp.ndarray out, int before) noexcept:
        """Whether x and out are dense, have `before` axes and then (batch, input) and (batch, hidden)."""
        cdef int number = cnp.NPY_FLOAT32 if self.dtype == 0 else cnp.NPY_FLOAT64
        return (x.descr.type_num == number and out.descr.type_num == number
                and x.ndim == before + 2 and out.ndim == before + 2
                and x.shape[before] == self.batch and x.shape[before + 1] == self.input
                and out.shape[before] == self.batch and out.shape[before + 1] == self.hidden
                and cnp.PyArray_ISCARRAY_RO(x) and cnp.PyArray_ISCARRAY(out))

    cdef int advance(self, char *x, char *y) except -1 nogil:
        """One step of all layers, from dense rows to dense rows apart from them."""
        cdef int i
        self.calls[0].x.data = x
        self.calls[self.count - 1].y.data = y
        for i in range(self.count):
            frnn_forward(&self.calls[i], 1, NULL)
        return 0

    def step(self, cnp.ndarray x not None, cnp.ndarray out not None):
        """x (batch, input) to out (batch, hidden). False, with nothing done, where an array does not fit."""
        if not self.fits(x, out, 0):
            return False
        # A layer reads x while it writes y, so where the two overlap y comes by way of the spare array.
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef bint apart = source + self.x_bytes <= target or target + self.y_bytes <= source
        with nogil:
            self.advance(source, target if apart else self.spare)
            if not apart:
                memcpy(target, self.spare, self.y_bytes)
        return True

    def feed(self, cnp.ndarray x not None, cnp.ndarray out not None):
        """Steps from x (steps, batch, input) to out (steps, batch, hidden). False, with nothing done, where an array does
        not fit or the two overlap. An exception that a signal's handler raises ends it after some step."""
        if not self.fits(x, out, 1) or x.shape[0] != out.shape[0]:
            return False
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef int64_t t, steps = x.shape[0], until_look = self.steps_between
        cdef interruption interrupted = asked()
        if source + <size_t>steps * self.x_bytes > target and target + <size_t>steps * self.y_bytes > source:
            return False
        with nogil:
            for t in range(steps):
                self.advance(source + t * self.x_bytes, target + t * self.y_bytes)
                until_look -= 1
                if until_look <= 0 and interrupted != NULL:
                    until_look = self.steps_between
                    if interrupted():
                        break
        passed()
        return True


def isa():
    return frnn_isa().decode()


ctypedef const char *(*naming)(int) noexcept nogil


cdef list names(naming name):
    found = []
    while name(<int>len(found)) != NULL:
        found.append(name(<int>len(found)).decode())
    return found


def isas_compiled():
    return names(frnn_isa_compiled)


def isas_available():
    return names(frnn_isa_available)


def select_isa(str isa):
    """Chooses an instruction set by name; False where there is none of that name here."""
    return frnn_select(isa.encode()) == 0


def compiler():
    return frnn_compiler().decode()


def set_num_threads(int n):
    frnn_set_threads(n)


def apply(str function, x):
    """exp, sigmoid or tanh of a dense array as the kernels compute it. For tests."""
    cdef cnp.ndarray a = x, y = np.empty(x.size, x.dtype)
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
