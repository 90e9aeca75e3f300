# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The border between Python and C: check what protects memory, take addresses, release the GIL, call, return.

Messages here are for developers; users meet those of checks.py first. No arithmetic on data.
"""
import numpy as np

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy, memset

from fastrnn._core cimport *

cnp.import_array()


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


cdef void *aligned(cnp.ndarray buffer, size_t needed) except NULL:
    """The first 64-byte boundary of a byte buffer that holds `needed` bytes, slack included."""
    if buffer.descr.type_num != cnp.NPY_UINT8 or not cnp.PyArray_IS_C_CONTIGUOUS(buffer):
        raise TypeError("a dense byte buffer expected")
    if needed == 0 or <size_t>buffer.size < needed:
        raise ValueError(f"a buffer of {needed} bytes expected, got {buffer.size}")
    return <void *>((<uintptr_t>cnp.PyArray_DATA(buffer) + 63) & ~<uintptr_t>63)


cdef frnn_shape shape_of(int cell, x, w_hh, bint reverse) except *:
    cdef frnn_shape shape
    cdef cnp.ndarray xs = x, ws = w_hh
    if not 0 <= cell < 5 or xs.ndim != 3 or ws.ndim != 2:
        raise ValueError("an unknown cell or an array of another rank")
    shape.cell = cell
    shape.dtype = dtype_of(ws)
    shape.reverse = reverse
    shape.steps = xs.shape[0]
    shape.batch = xs.shape[1]
    shape.input = xs.shape[2]
    shape.hidden = ws.shape[1]
    if shape.hidden < 1:
        raise ValueError("hidden must be positive")
    return shape


cdef frnn_weights weights_of(frnn_shape *s, int64_t gates, tuple weights) except *:
    cdef frnn_weights w
    w_ih, w_hh, b_ih, b_hh = weights
    w.w_ih = dense(w_ih, s.dtype, gates * s.hidden, s.input)
    w.w_hh = dense(w_hh, s.dtype, gates * s.hidden, s.hidden)
    w.b_ih = dense(b_ih, s.dtype, gates * s.hidden, 1)
    w.b_hh = dense(b_hh, s.dtype, gates * s.hidden, 1)
    if w.w_ih == NULL or w.w_hh == NULL:
        raise ValueError("weights may not be None")
    return w


cdef int gates_of(int cell):
    return 4 if cell == 2 else 3 if cell > 2 else 1


cdef frnn_state state_of(frnn_shape *s, state, bint writes=False, bint required=True) except *:
    """h, and c where the cell has one, from a tuple of arrays."""
    cdef frnn_state q
    memset(&q, 0, sizeof(q))
    if len(state) != (2 if s.cell == 2 else 1):
        raise ValueError("a tuple of the cell's states expected")
    q.h = dense(state[0], s.dtype, s.batch, s.hidden, writes)
    if s.cell == 2:
        q.c = dense(state[1], s.dtype, s.batch, s.hidden, writes)
    if required and (q.h == NULL or (s.cell == 2 and q.c == NULL)):
        raise ValueError("states may not be None")
    return q


cdef class Sizes:
    """Bytes of every buffer for a layer of the given sizes; OverflowError where one does not fit."""
    cdef readonly size_t packed, forward, tape, backward

    def __init__(self, int cell, int itemsize, int64_t steps, int64_t batch, int64_t input, int64_t hidden):
        cdef frnn_shape s
        if not 0 <= cell < 5:
            raise ValueError("an unknown cell")
        s.cell = cell
        s.dtype = 0 if itemsize == 4 else 1
        s.reverse = 0
        s.steps = steps
        s.batch = batch
        s.input = input
        s.hidden = hidden
        self.packed = frnn_packed_size(&s)
        self.forward = frnn_forward_size(&s)
        self.tape = frnn_tape_size(&s)
        self.backward = frnn_backward_size(&s)
        if not (self.packed and self.forward and self.tape and self.backward):
            raise OverflowError("sizes too large")


def forward(int cell, bint reverse, x, tuple first, tuple weights, y, tuple last, tape, work):
    """One layer, one direction, forward. Writes y, last and, unless it is None, tape."""
    cdef frnn_forward_call call
    cdef frnn_weights w
    cdef size_t packed
    call.shape = shape_of(cell, x, weights[1], reverse)
    w = weights_of(&call.shape, gates_of(cell), weights)
    call.x = sequence(x, call.shape.dtype, &call.shape, call.shape.input)
    call.y = sequence(y, call.shape.dtype, &call.shape, call.shape.hidden, True)
    call.first = state_of(&call.shape, first)
    call.last = state_of(&call.shape, last, True)
    call.tape = NULL if tape is None else aligned(tape, frnn_tape_size(&call.shape))
    packed = frnn_packed_size(&call.shape)
    call.packed = aligned(work, packed + frnn_forward_size(&call.shape))
    call.work = <char *>call.packed + (packed - 64)
    with nogil:
        frnn_pack(&call.shape, &w, <void *>call.packed)
        frnn_forward(&call)


def backward(int cell, bint reverse, x, tuple first, tuple weights, y, tape, dy, tuple dlast,
             dx, tuple dfirst, tuple dweights, work):
    """One layer, one direction, backward. Writes dx, dfirst and dweights; None among them is not computed."""
    cdef frnn_backward_call call
    cdef int gates = gates_of(cell)
    call.shape = shape_of(cell, x, weights[1], reverse)
    cdef frnn_shape *s = &call.shape
    call.weights = weights_of(s, gates, weights)
    call.x = sequence(x, s.dtype, s, s.input)
    call.y = sequence(y, s.dtype, s, s.hidden)
    call.first = state_of(s, first)
    call.tape = aligned(tape, frnn_tape_size(s))
    call.dy = sequence(dy, s.dtype, s, s.hidden)
    call.dlast = state_of(s, dlast, False, False)
    call.dx = sequence(dx, s.dtype, s, s.input, True)
    call.dfirst = state_of(s, dfirst, True)
    call.dw_ih = dense(dweights[0], s.dtype, gates * s.hidden, s.input, True)
    call.dw_hh = dense(dweights[1], s.dtype, gates * s.hidden, s.hidden, True)
    call.db_ih = dense(dweights[2], s.dtype, gates * s.hidden, 1, True)
    call.db_hh = dense(dweights[3], s.dtype, gates * s.hidden, 1, True)
    call.work = aligned(work, frnn_backward_size(s))
    with nogil:
        frnn_backward(&call)


cdef class Stepper:
    """One step of a stack of layers, again and again: weights packed once, addresses taken once.

    layers: a list of (cell, weights, packed, state), from the lowest up; packed and state are the caller's memory.
    outputs: a (batch, hidden) array for each layer's output; the last one's where `out` overlaps x.
    """
    cdef frnn_forward_call *calls
    cdef int count, dtype
    cdef int64_t batch, input, hidden
    cdef list kept
    cdef char *spare
    cdef size_t x_bytes, y_bytes

    def __cinit__(self, list layers, int64_t batch, work, list outputs):
        cdef frnn_forward_call *call
        cdef frnn_weights w
        cdef cnp.ndarray w_ih
        cdef int i
        self.count = len(layers)
        self.batch = batch
        self.kept = [layers, work, outputs]
        if self.count < 1 or len(outputs) != self.count:
            raise ValueError("layers and their outputs do not agree")
        self.calls = <frnn_forward_call *>PyMem_Malloc(self.count * sizeof(frnn_forward_call))
        if self.calls == NULL:
            raise MemoryError()
        memset(self.calls, 0, self.count * sizeof(frnn_forward_call))
        for i, (cell, weights, packed, state) in enumerate(layers):
            call = &self.calls[i]
            w_ih = weights[0]
            if not 0 <= cell < 5:
                raise ValueError("an unknown cell")
            call.shape.cell = cell
            call.shape.dtype = dtype_of(w_ih)
            call.shape.steps = 1
            call.shape.batch = batch
            call.shape.input = w_ih.shape[1]
            call.shape.hidden = (<cnp.ndarray?>weights[1]).shape[1]
            if call.shape.hidden < 1:
                raise ValueError("hidden must be positive")
            w = weights_of(&call.shape, gates_of(cell), weights)
            call.packed = aligned(packed, frnn_packed_size(&call.shape))
            call.work = aligned(work, frnn_forward_size(&call.shape))
            call.first = state_of(&call.shape, state, True)
            call.last = call.first
            if i > 0:
                if call.shape.input != call.shape.hidden or call.shape.hidden != self.calls[0].shape.hidden:
                    raise ValueError("a layer's input is not the output of the one below")
                call.x.data = dense(outputs[i - 1], call.shape.dtype, batch, call.shape.input, True)
                call.x.row = call.shape.input * w_ih.itemsize
                self.calls[i - 1].y = call.x
            frnn_pack(&call.shape, &w, <void *>call.packed)
        self.dtype = self.calls[0].shape.dtype
        self.input = self.calls[0].shape.input
        self.hidden = self.calls[0].shape.hidden
        self.spare = <char *>dense(outputs[self.count - 1], self.dtype, batch, self.hidden, True)
        self.y_bytes = <size_t>(batch * self.hidden) * (<cnp.ndarray>outputs[0]).itemsize
        self.x_bytes = <size_t>(batch * self.input) * (<cnp.ndarray>outputs[0]).itemsize

    def __dealloc__(self):
        PyMem_Free(self.calls)

    def step(self, cnp.ndarray x not None, cnp.ndarray out not None):
        """x (batch, input) to out (batch, hidden). False, with nothing done, where an array does not fit."""
        cdef int i
        cdef frnn_forward_call *last = &self.calls[self.count - 1]
        cdef int number = cnp.NPY_FLOAT32 if self.dtype == 0 else cnp.NPY_FLOAT64
        if (x.descr.type_num != number or out.descr.type_num != number or x.ndim != 2 or out.ndim != 2
                or x.shape[0] != self.batch or x.shape[1] != self.input
                or out.shape[0] != self.batch or out.shape[1] != self.hidden
                or not cnp.PyArray_ISCARRAY_RO(x) or not cnp.PyArray_ISCARRAY(out)):
            return False
        self.calls[0].x.data = cnp.PyArray_DATA(x)
        self.calls[0].x.row = x.strides[0]
        # A layer reads x while it writes y, so where the two overlap y comes by way of the spare array.
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef bint apart = source + self.x_bytes <= target or target + self.y_bytes <= source
        last.y.data = target if apart else self.spare
        last.y.row = out.strides[0]
        with nogil:
            for i in range(self.count):
                frnn_forward(&self.calls[i])
            if not apart:
                memcpy(target, self.spare, self.y_bytes)
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
