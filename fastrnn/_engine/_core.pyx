# cython: language_level=3, boundscheck=True, nonecheck=True, wraparound=False, cdivision=True
"""The boundary between Python and C: check what protects memory, take addresses, release the GIL, call, return.

Messages here are for developers; users meet those of checks.py first. No arithmetic on data.
"""
import os
import threading

import numpy as np

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.string cimport memcpy, memset

from fastrnn._engine._core cimport *

cnp.import_array()

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    void *PyErr_Occurred() noexcept
    unsigned long PyThread_get_thread_ident() nogil

# Signals are handled on the main thread alone, so no other polls for interrupts.
cdef unsigned long main_thread = threading.main_thread().ident


def remember_main_thread():
    global main_thread
    main_thread = threading.main_thread().ident


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=remember_main_thread)


cdef int signalled() noexcept with gil:
    """Runs the handlers of signals that have come in; 1, with an exception left, where one of them raises."""
    return PyErr_CheckSignals() != 0


cdef interruption poll_function() noexcept:
    if PyThread_get_thread_ident() == main_thread:
        return signalled
    return NULL


cdef int finished(int status) except -1 nogil:
    """Raises what ended a call before it was done."""
    if status == FRNN_FORKED:
        with gil:
            raise RuntimeError(
                "forked during a call: this child process does not have the parts of it that other threads were "
                "computing. Make the call again in the child, or fork where no call is running")
    return status


include "_arguments.pxi"

# Bytes: every buffer has as much slack, to begin on a boundary of as many.
globals()["ALIGN"] = ALIGN


ctypedef const char *(*naming)(int) noexcept nogil


cdef list names(naming name):
    found = []
    while name(<int>len(found)) != NULL:
        found.append(name(<int>len(found)).decode())
    return found


def cells():
    """The cells that there are, one dict each, in the order of their indices; plain ones before their variants.

    name, plain: its own name, and that of the cell that it is a variant of (its own where it is none). takes, has:
    the options that it can be given, and those that it has built in, as frozensets. gates, states:
    numbers. extras: the parameters that it has besides, name -> size in units of H.
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


def extras():
    """The names of all extra parameters, in the order of csrc/fastrnn.h."""
    return tuple(names(frnn_extra_name))


cdef class Sizes:
    """Bytes of every buffer for a layer of the given sizes; OverflowError where one does not fit."""
    cdef readonly size_t packed, forward, tape, backward

    def __init__(self, int cell, int itemsize, int64_t steps, int64_t batch, int64_t input, int64_t hidden,
                 bint ragged=False, int64_t checkpoint=0, bint ids=False, int64_t projected=0):
        cdef frnn_shape s
        s.cell = cell_of(cell)
        if itemsize not in (4, 8):
            raise ValueError(f"elements of 4 or 8 bytes expected, got {itemsize}")
        if min(steps, batch, input, hidden, checkpoint, projected) < 0:
            raise ValueError("a negative size")
        s.dtype = 0 if itemsize == 4 else 1
        s.reverse = 0
        s.steps = steps
        s.batch = batch
        s.input = input
        s.hidden = hidden
        s.ragged = ragged
        s.has_ids = ids
        s.projected = projected
        s.checkpoint = checkpoint
        self.packed = frnn_packed_size(&s, frnn_form_of(&s))
        self.forward = frnn_forward_size(&s)
        self.tape = frnn_tape_size(&s)
        self.backward = frnn_backward_size(&s)
        if not (self.packed and self.forward and self.tape and self.backward):
            raise OverflowError("sizes too large")


def forward(int cell, x, tuple passes not None, rows, ids, int64_t checkpoint, work):
    """One layer forward, its directions at once.

    passes: for each direction (reverse, row, first, weights, y, last, tape, dropout), the states in that row of their
    arrays; y, last and, unless it is None, tape are written. weights: w_ih, w_hh, b_ih, b_hh, then perhaps w_hr or
    None, and what extras_of and variant_of say. rows, ids, dropout: see rows_of and so on; checkpoint: 0, or the steps
    between those that the tape keeps something of. Returns 0; or, with nothing done, how many bytes `work` must have.
    """
    cdef frnn_forward_call calls[2]
    cdef frnn_forward_call *call
    cdef frnn_pack_call packing[2]
    cdef int i, count = count_of(passes)
    cdef unsigned form
    cdef interruption interrupted = poll_function()
    cdef size_t packed, needed
    cdef char *place
    cdef bint reverse
    cdef int64_t row
    cdef tuple first, weights, last
    steps_between(checkpoint)
    memset(calls, 0, count * sizeof(frnn_forward_call))
    for i in range(count):
        reverse, row, first, weights, y, last, tape, dropout = tuple_of(passes[i])
        call = &calls[i]
        call.shape = shape_of(cell, x, weights, reverse)
        alike(&call.shape, &calls[0].shape)
        call.shape.checkpoint = checkpoint
        if rows is not None:
            call.rows = rows_of(&call.shape, rows)
        if ids is not None:
            call.ids = ids_of(&call.shape, ids, i)
            if call.ids.table == NULL:
                raise ValueError("a table expected")
        call.weights = weights_of(&call.shape, weights)
        if len(weights) > 5 or dropout is not None:
            call.variant = variant_of(&call.shape, weights)
            call.dropout = dropout_of(&call.shape, dropout)
        call.x = required(x, call.shape.dtype, &call.shape, call.shape.input)
        call.y = required(y, call.shape.dtype, &call.shape, features_of(&call.shape), True)
        call.first = state_of(&call.shape, first, row)
        call.last = state_of(&call.shape, last, row, True)
        call.tape = NULL if tape is None else aligned(tape, frnn_tape_size(&call.shape))
    form = frnn_form_of(&calls[0].shape)
    packed = known(frnn_packed_size(&calls[0].shape, form)) - ALIGN
    needed = packed + known(frnn_forward_size(&calls[0].shape)) - ALIGN
    if <size_t>array_of(work).size < count * needed + ALIGN:
        return count * needed + ALIGN
    place = <char *>aligned(work, count * needed + ALIGN)
    for i in range(count):
        packing[i] = packing_of(&calls[i], form, place + i * needed)
        calls[i].packed = packing[i].packed
        calls[i].work = place + i * needed + packed
    with nogil:
        finished(frnn_pack(packing, count, interrupted))
        finished(frnn_forward(calls, count, interrupted))
    return 0


def backward(int cell, x, tuple passes not None, rows, ids, int64_t checkpoint, work):
    """One layer backward, its directions at once.

    passes: for each direction the pass as forward took it, then dy, dlast, dx, dfirst, dweights, dstates (the gradients
    of the states after each step); the last four are written, what is None among them is not computed. Returns 0; or,
    with nothing done, how many bytes `work` must have.
    """
    cdef frnn_backward_call calls[2]
    cdef frnn_backward_call *call
    cdef frnn_shape *s
    cdef int i, k, count = count_of(passes)
    cdef interruption interrupted = poll_function()
    cdef size_t needed
    cdef char *place
    cdef bint reverse
    cdef int64_t row
    cdef tuple first, weights, dlast, dfirst, dweights, dstates
    steps_between(checkpoint)
    memset(calls, 0, sizeof(calls))
    for i in range(count):
        one_pass, dy, dlast, dx, dfirst, dweights, dstates = tuple_of(passes[i])
        reverse, row, first, weights, y, _, tape, dropout = tuple_of(one_pass)
        call = &calls[i]
        call.shape = shape_of(cell, x, weights, reverse)
        s = &call.shape
        alike(s, &calls[0].shape)
        s.checkpoint = checkpoint
        if rows is not None:
            call.rows = rows_of(s, rows)
        if ids is not None:
            call.ids = ids_of(s, ids, i)
            if call.ids.gradient == NULL or (checkpoint and call.ids.table == NULL):
                raise ValueError("a gradient expected, and with checkpoints a table")
        call.weights = weights_of(s, weights)
        if len(weights) > 5:
            call.variant = variant_of(s, weights)
            call.dropout = dropout_of(s, dropout)
            extras_of(s, dweights, call.dextra, True)
        call.x = required(x, s.dtype, s, s.input)
        call.y = required(y, s.dtype, s, features_of(s))
        call.first = state_of(s, first, row)
        call.tape = aligned(tape, frnn_tape_size(s))
        call.dy = sequence(dy, s.dtype, s, features_of(s))
        call.dlast = state_of(s, dlast, row, False, False)
        call.dx = sequence(dx, s.dtype, s, s.input, True)
        for k in range(frnn_facts_of(s.cell).states):
            call.dstate[k] = sequence(dstates[k], s.dtype, s, numbers_of_state(s, k), True)
        call.dfirst = state_of(s, dfirst, row, True)
        call.dw_ih = dense(dweights[0], s.dtype, gate_rows(s), s.input, True)
        call.dw_hh = dense(dweights[1], s.dtype, recurrent_rows(s), features_of(s), True)
        call.db_ih = dense(dweights[2], s.dtype, gate_rows(s), 1, True)
        call.db_hh = dense(dweights[3], s.dtype, recurrent_rows(s), 1, True)
        call.dw_hr = dense(dweights[4], s.dtype, s.projected, s.hidden, True) if s.projected else NULL
    needed = known(frnn_backward_size(&calls[0].shape)) - ALIGN
    if <size_t>array_of(work).size < count * needed + ALIGN:
        return count * needed + ALIGN
    place = <char *>aligned(work, count * needed + ALIGN)
    for i in range(count):
        calls[i].work = place + i * needed
    with nogil:
        finished(frnn_backward(calls, count, interrupted))
    return 0


def boundary(cnp.ndarray buffer not None):
    """Where in a byte buffer the kernels begin to write: elements before its first boundary of ALIGN bytes."""
    return <char *>boundary_of(buffer) - <char *>cnp.PyArray_DATA(buffer)


def tape_slots(int cell, cnp.ndarray tape not None, int dtype, int64_t steps, int64_t batch, int64_t hidden):
    """A tape of every step as an array (steps, batch, slots, units), a view; what it is a view of must be held."""
    cdef frnn_shape s
    cdef cnp.npy_intp sizes[4]
    memset(&s, 0, sizeof(s))
    s.cell = cell_of(cell)
    s.dtype, s.steps, s.batch, s.hidden = dtype, steps, batch, hidden
    sizes[0], sizes[1], sizes[2], sizes[3] = steps, batch, frnn_tape_slots(&s), frnn_tape_units(&s)
    return cnp.PyArray_SimpleNewFromData(
        4, sizes, cnp.NPY_FLOAT64 if dtype else cnp.NPY_FLOAT32, aligned(tape, known(frnn_tape_size(&s))))


def table_size(int cell, int dtype, int64_t hidden, int64_t count):
    cdef frnn_shape s
    memset(&s, 0, sizeof(s))
    s.cell = cell_of(cell)
    s.dtype, s.hidden = dtype, hidden
    return known(frnn_id_table_size(&s, count))


def tabulate(int cell, x, tuple weights not None, int64_t count, table, work):
    """The table of `count` ids into a byte buffer: of the rows of x (count, input), or with None of the features one by
    one. Returns 0, or how many bytes `work` must have, nothing being done yet."""
    cdef frnn_id_table_call call
    cdef cnp.ndarray w_ih = matrix_of(weights[0])
    cdef interruption interrupted = poll_function()
    cdef size_t needed
    memset(&call, 0, sizeof(call))
    call.shape.cell = cell_of(cell)
    call.shape.dtype = dtype_of(w_ih)
    call.shape.input = w_ih.shape[1]
    size_units(&call.shape, weights)
    call.weights = weights_of(&call.shape, weights)
    call.count = count
    call.x = dense(x, call.shape.dtype, count, call.shape.input)
    if x is None and count != call.shape.input:
        raise ValueError("as many ids as inputs expected")
    call.table = aligned(table, known(frnn_id_table_size(&call.shape, count)))
    needed = known(frnn_id_table_work_size(&call.shape))
    if <size_t>array_of(work).size < needed:
        return needed
    call.work = aligned(work, needed)
    with nogil:
        finished(frnn_make_id_table(&call, interrupted))
    return 0


def goes_by_blocks(int64_t rows):
    """Whether a sum over so many rows goes by blocks. Then the gradient of a table of ids is a pair: three gradients in
    one array, and the counts of the ids (ids_of)."""
    return bool(frnn_goes_by_blocks(rows))


def product(cnp.ndarray a not None, b, c, work):
    """a (m, k), dense or the transpose of what is dense, times b (k, n) into c. Returns 0; or, with nothing done, how
    many bytes `work` must have."""
    cdef frnn_product_call call
    cdef interruption interrupted = poll_function()
    cdef size_t needed
    cdef bint transposed = cnp.PyArray_IS_F_CONTIGUOUS(a)
    memset(&call, 0, sizeof(call))
    call.dtype = dtype_of(a)
    call.m, call.k, call.n = matrix_of(a).shape[0], matrix_of(a).shape[1], matrix_of(b).shape[1]
    call.a = dense(a.T if transposed else a, call.dtype, call.m, call.k)
    call.a_row = a.itemsize if transposed else call.k * a.itemsize
    call.a_k = call.m * a.itemsize if transposed else a.itemsize
    call.b = dense(array_of(b), call.dtype, call.k, call.n)
    call.c = dense(array_of(c), call.dtype, call.m, call.n, True)
    needed = known(frnn_product_size(call.dtype, call.m, call.n, call.k))
    if <size_t>array_of(work).size < needed:
        return needed
    call.work = aligned(work, needed)
    with nogil:
        finished(frnn_product(&call, interrupted))
    return 0


include "_stepper.pxi"


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
    """Whether an instruction set fuses multiply and add; all that do give the same bits."""
    return bool(frnn_isa_fused(isa.encode()))


def isas_available():
    return names(frnn_isa_available)


def select_isa(str isa not None):
    """Chooses an instruction set by name; False where there is none of that name here."""
    return frnn_select(isa.encode()) == 0


def compiler():
    return frnn_compiler().decode()


most_threads = FRNN_THREADS


def set_num_threads(int n):
    """For every call in the process."""
    frnn_set_threads(n)


def set_threads_here(int n):
    """For the calls of this thread alone; 0: as many as the process' calls again."""
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
