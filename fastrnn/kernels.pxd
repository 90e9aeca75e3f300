# kernels.pxd - the C interface for other programs' Cython: the structs of fastrnn.h, and functions that are called
# without linking. Functions have the names, arguments and meaning of those in fastrnn.h, which says what must hold:
# buffers begin at multiples of 64 bytes and have the sizes that the size functions return; the caller owns all memory.
# They run without the GIL. docs/c.md has examples. _core.pyx takes the structs from here.
#
# A module that cimports this compiles with include_dirs=[fastrnn.get_include()].
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint8_t

cdef extern from "fastrnn.h" nogil:
    const char *FRNN_VERSION
    enum:
        FRNN_ABI

    enum:
        FRNN_INTERRUPTED
        FRNN_FORKED
        FRNN_INVALID
        FRNN_MISSING

    enum:
        FRNN_F32
        FRNN_F64

    enum:
        FRNN_FULL
        FRNN_BFLOAT16_WEIGHTS
        FRNN_INT8
        FRNN_BFLOAT16

    enum:
        FRNN_CLIP
        FRNN_CELL_CLIP
        FRNN_RECURRENT_ACTIVATION
        FRNN_RECURRENT_DROPOUT
        FRNN_ZONEOUT
        FRNN_COUPLED
        FRNN_LAYER_NORM
        FRNN_PEEPHOLE
        FRNN_PROJ_SIZE
        FRNN_OPTIONS

    enum:
        FRNN_WEIGHT_LN_IH
        FRNN_WEIGHT_LN_HH
        FRNN_WEIGHT_LN_C
        FRNN_BIAS_LN_C
        FRNN_WEIGHT_PEEPHOLE
        FRNN_EXTRAS

    enum:
        FRNN_STATES_MOST
        FRNN_TOGETHER

    enum:
        FRNN_FOR_STEPS
        FRNN_FOR_PRODUCTS

    ctypedef struct frnn_cell:
        pass

    ctypedef struct frnn_cell_facts:
        const char *name
        const char *plain
        unsigned takes, has
        int gates, recurrent, states, aux
        int extra[5]

    ctypedef struct frnn_shape:
        const frnn_cell *cell
        int dtype, reverse
        int64_t steps, batch, input, hidden
        int ragged, has_ids
        int64_t projected, checkpoint
        int precision

    ctypedef struct frnn_sequence:
        void *data
        ptrdiff_t step, row

    ctypedef struct frnn_weights:
        const void *w_ih
        const void *w_hh
        const void *b_ih
        const void *b_hh
        const void *w_hr
        const float *scale_ih
        const float *scale_hh
        const float *scale_hr

    ctypedef struct frnn_variant:
        double number[9]
        double zoneout[4]
        const void *extra[5]

    ctypedef struct frnn_dropout_masks:
        const void *recurrent
        const void *zoneout[4]

    ctypedef struct frnn_rows:
        const int64_t *lengths
        const int64_t *sort_order
        const int64_t *inverse_order
        int64_t begin
        const uint8_t *mask
        const uint8_t *reset
        ptrdiff_t step
        int reset_to_first

    ctypedef struct frnn_ids:
        const int64_t *numbers
        ptrdiff_t step
        const void *table
        void *gradient
        int64_t *seen
        int64_t count

    ctypedef struct frnn_state:
        void *of[4]

    ctypedef struct frnn_forward_call:
        frnn_shape shape
        frnn_weights weights
        frnn_variant variant
        frnn_dropout_masks dropout
        const void *packed
        frnn_rows rows
        frnn_ids ids
        frnn_sequence x, y, aux
        frnn_state first, last
        void *tape
        void *work
        const void *plan
        int turned

    ctypedef struct frnn_pack_call:
        frnn_shape shape
        frnn_weights weights
        unsigned forms
        void *packed
        const void *like

    ctypedef struct frnn_backward_call:
        frnn_shape shape
        frnn_weights weights
        frnn_variant variant
        frnn_dropout_masks dropout
        frnn_rows rows
        frnn_ids ids
        frnn_sequence x, y
        frnn_state first
        const void *tape
        frnn_sequence dy
        frnn_state dlast
        frnn_sequence aux, dx, daux
        frnn_sequence dstate[4]
        frnn_state dfirst
        void *dw_ih
        void *dw_hh
        void *db_ih
        void *db_hh
        void *dw_hr
        void *dextra[5]
        void *work

# The library that Python imported: compare these two with FRNN_VERSION and FRNN_ABI, which the header had when the
# module was compiled. Structs may change until version 1.
cdef const char *frnn_version() noexcept nogil
cdef int frnn_abi() noexcept nogil

cdef const frnn_cell *frnn_cell_named(const char *name) noexcept nogil
cdef const frnn_cell_facts *frnn_facts_of(const frnn_cell *cell) noexcept nogil

cdef unsigned frnn_form_of(const frnn_shape *shape) noexcept nogil
cdef size_t frnn_packed_size(const frnn_shape *shape, unsigned forms) noexcept nogil
cdef size_t frnn_forward_size(const frnn_shape *shape) noexcept nogil
cdef size_t frnn_tape_size(const frnn_shape *shape) noexcept nogil
cdef size_t frnn_backward_size(const frnn_shape *shape) noexcept nogil
cdef size_t frnn_plan_size() noexcept nogil
cdef void frnn_plan(const frnn_shape *shape, void *plan) noexcept nogil

cdef int frnn_pack(const frnn_pack_call *calls, int count, int (*interrupted)() noexcept nogil) noexcept nogil
cdef int frnn_forward(const frnn_forward_call *calls, int count, int (*interrupted)() noexcept nogil) noexcept nogil
cdef int frnn_backward(const frnn_backward_call *calls, int count, int (*interrupted)() noexcept nogil) noexcept nogil

cdef void frnn_set_threads_here(int n) noexcept nogil

# A step of a `fastrnn.Stream`, with all its layers and options: from a dense x (batch, input) of the stream's dtype, or
# (batch,) int64 ids, to a dense y (batch, hidden). This function alone is not in fastrnn.h.
#
# stream: what fastrnn.kernels.stream_handle(stream) returned in Python, as an address. x_bytes, y_bytes: the sizes of
# both arrays. x and y may overlap. Returns 0; FRNN_INVALID, with nothing done, if an argument does not fit or an id is
# unknown; FRNN_BUSY, with nothing done, if another call of the stream is running or `grow` has ended this handle.
cdef enum:
    FRNN_BUSY = -5
cdef int frnn_stream_step(size_t stream, const void *x, size_t x_bytes, void *y, size_t y_bytes) noexcept nogil
