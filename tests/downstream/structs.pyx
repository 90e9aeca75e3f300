# cython: language_level=3
"""An LSTM by the structs of fastrnn.kernels: forward with a tape, and backward. For test_cython.py.

Every array is an address; `change` spoils a call before it is made.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastrnn.kernels cimport *


cdef frnn_shape shape_of(str cell, int dtype, sizes) except *:
    cdef frnn_shape s
    memset(&s, 0, sizeof(s))
    s.cell = frnn_cell_named(cell.encode())
    s.dtype = dtype
    s.steps, s.batch, s.input, s.hidden = sizes
    return s


cdef frnn_weights weights_of(addresses) except *:
    cdef frnn_weights w
    memset(&w, 0, sizeof(w))
    w.w_ih, w.w_hh = <void *><size_t>addresses[0], <void *><size_t>addresses[1]
    w.b_ih, w.b_hh = <void *><size_t>addresses[2], <void *><size_t>addresses[3]
    return w


cdef frnn_sequence sequence(const frnn_shape *s, size_t data, int64_t row):
    cdef frnn_sequence q
    q.data, q.row, q.step = <void *>data, row, row * s.batch
    return q


def same_header():
    return <bytes>frnn_version() == <bytes>FRNN_VERSION and frnn_abi() == FRNN_ABI


def sizes_of(str cell, int dtype, sizes):
    cdef frnn_shape s = shape_of(cell, dtype, sizes)
    cdef unsigned form = frnn_form_of(&s)
    return {"packed": frnn_packed_size(&s, form), "forward": frnn_forward_size(&s),
            "tape": frnn_tape_size(&s), "backward": frnn_backward_size(&s), "plan": frnn_plan_size()}


def forward(str cell, int dtype, sizes, weights, dict a, str change="", bint planned=False):
    """Packs and runs forward; `a` has the addresses. Returns the two statuses."""
    cdef frnn_pack_call packing
    cdef frnn_forward_call call
    cdef int64_t element = 4 if dtype == FRNN_F32 else 8, k
    cdef int packed, status, count = 1
    memset(&packing, 0, sizeof(packing))
    memset(&call, 0, sizeof(call))
    packing.shape = shape_of(cell, dtype, sizes)
    packing.weights = weights_of(weights)
    packing.forms = frnn_form_of(&packing.shape)
    packing.packed = <void *><size_t>a["packed"]
    if change == "matrix":
        packing.weights.w_hh = NULL
    elif change == "forms":
        packing.forms = 8
    elif change == "panels":
        packing.packed = NULL
    call.shape, call.weights, call.packed = packing.shape, packing.weights, packing.packed
    call.x = sequence(&call.shape, a["x"], call.shape.input * element)
    call.y = sequence(&call.shape, a["y"], call.shape.hidden * element)
    for k in range(2):
        call.first.of[k] = <void *><size_t>a["first"][k]
        call.last.of[k] = <void *><size_t>a["last"][k]
    call.tape, call.work = <void *><size_t>a["tape"], <void *><size_t>a["work"]
    if change == "planned shape":
        call.shape.steps = -1
    if planned:
        call.plan = <void *><size_t>a["plan"]
        frnn_plan(&call.shape, <void *>call.plan)
    if change == "cell":
        call.shape.cell = NULL
    elif change == "dtype":
        call.shape.dtype = 2
    elif change == "other dtype":
        call.shape.dtype = FRNN_F64 if dtype == FRNN_F32 else FRNN_F32
    elif change == "steps":
        call.shape.steps = -1
    elif change == "precision":
        call.shape.precision = 9
    elif change == "projected":
        call.shape.cell, call.shape.projected = frnn_cell_named("gru_after"), 2
    elif change == "work":
        call.work = <char *>call.work + 4
    elif change == "no work":
        call.work = NULL
    elif change == "tape":
        call.tape = <char *>call.tape + 8
    elif change == "x":
        call.x.data = NULL
    elif change == "y":
        call.y.data = NULL
    elif change == "state":
        call.first.of[1] = NULL
    elif change == "last":
        call.last.of[0] = NULL
    elif change == "count":
        count = 3
    elif change == "no calls":
        count = 0
    with nogil:
        frnn_set_threads_here(1)
        packed = frnn_pack(&packing, 1, NULL)
        status = frnn_forward(&call, count, NULL)
        frnn_set_threads_here(0)
    return packed, status


def backward(str cell, int dtype, sizes, weights, dict a, str change=""):
    """Runs backward after `forward`. Returns the status."""
    cdef frnn_backward_call call
    cdef int64_t element = 4 if dtype == FRNN_F32 else 8, k
    cdef int status
    memset(&call, 0, sizeof(call))
    call.shape = shape_of(cell, dtype, sizes)
    call.weights = weights_of(weights)
    call.x = sequence(&call.shape, a["x"], call.shape.input * element)
    call.y = sequence(&call.shape, a["y"], call.shape.hidden * element)
    call.dy = sequence(&call.shape, a["dy"], call.shape.hidden * element)
    call.dx = sequence(&call.shape, a["dx"], call.shape.input * element)
    for k in range(2):
        call.first.of[k] = <void *><size_t>a["first"][k]
        call.dlast.of[k] = <void *><size_t>a["dlast"][k]
        call.dfirst.of[k] = <void *><size_t>a["dfirst"][k]
    call.dw_ih, call.dw_hh = <void *><size_t>a["gradients"][0], <void *><size_t>a["gradients"][1]
    call.db_ih, call.db_hh = <void *><size_t>a["gradients"][2], <void *><size_t>a["gradients"][3]
    call.tape, call.work = <void *><size_t>a["tape"], <void *><size_t>a["backward"]
    if change == "tape":
        call.tape = NULL
    elif change == "work":
        call.work = NULL
    elif change == "precision":
        call.shape.precision = 1
    elif change == "matrix":
        call.weights.w_hh = NULL
    elif change == "dfirst":
        call.dfirst.of[0] = NULL
    elif change == "x":
        call.x.data = NULL
    elif change == "cell":
        call.shape.cell = NULL
    with nogil:
        status = frnn_backward(&call, 1, NULL)
    return status
