# _core.pxd - the functions of csrc/fastrnn.h for Cython, and the structs that kernels.pxd lacks. Their meaning is
# written there.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t

from fastrnn.kernels cimport (
    FRNN_ABI, FRNN_BIAS_LN_C, FRNN_BUSY, FRNN_EXTRAS, FRNN_F32, FRNN_F64, FRNN_FOR_PRODUCTS, FRNN_FOR_STEPS,
    FRNN_FORKED, FRNN_INT8, FRNN_INTERRUPTED, FRNN_INVALID, FRNN_MISSING, FRNN_OPTIONS, FRNN_PROJ_SIZE,
    FRNN_RECURRENT_DROPOUT, FRNN_STATES_MOST, FRNN_TOGETHER, FRNN_WEIGHT_PEEPHOLE, FRNN_ZONEOUT, frnn_backward_call,
    frnn_cell, frnn_cell_facts, frnn_dropout_masks, frnn_forward_call, frnn_ids, frnn_pack_call, frnn_rows,
    frnn_sequence, frnn_shape, frnn_state, frnn_variant, frnn_weights)

ctypedef int (*interruption)() noexcept nogil

cdef extern from "fastrnn.h" nogil:
    const char *frnn_version()
    int frnn_abi()
    const frnn_cell *frnn_cell_at(int)
    const frnn_cell *frnn_cell_named(const char *)
    const frnn_cell_facts *frnn_facts_of(const frnn_cell *)
    const char *frnn_precision_name(int)
    const char *frnn_option_name(int)
    const char *frnn_extra_name(int)

    ctypedef struct frnn_packed_facts:
        frnn_shape shape
        unsigned forms
        const char *version
        const char *isa

    ctypedef struct frnn_matrices:
        void *w_ih
        void *w_hh
        void *w_hr
        float *scale_ih
        float *scale_hh
        float *scale_hr

    ctypedef struct frnn_id_table_call:
        frnn_shape shape
        frnn_weights weights
        const void *packed
        int64_t count
        const void *x
        const int64_t *used
        void *table
        void *work

    ctypedef struct frnn_id_gradients_call:
        frnn_id_table_call table
        const void *gradient
        int64_t vocabulary
        const int64_t *used
        void *dw_ih
        void *dembedding
        void *work

    enum:
        FRNN_LINEAR
        FRNN_SIGMOID
        FRNN_SOFTMAX

    ctypedef struct frnn_dense_shape:
        int dtype, activation
        int64_t inputs, outputs

    ctypedef struct frnn_dense_call:
        const void *packed
        int64_t rows
        const void *x
        void *y

    int64_t frnn_tape_slots(const frnn_shape *)
    int64_t frnn_tape_units(const frnn_shape *)
    unsigned frnn_form_of(const frnn_shape *)
    size_t frnn_packed_size(const frnn_shape *, unsigned)
    size_t frnn_forward_size(const frnn_shape *)
    size_t frnn_tape_size(const frnn_shape *)
    size_t frnn_backward_size(const frnn_shape *)
    # The functions below with an `interruption` return 0 or one of these. After FRNN_INTERRUPTED an exception is set.
    int frnn_pack(const frnn_pack_call *, int, interruption)
    int frnn_read_packed(const void *, size_t, frnn_packed_facts *)
    enum:
        FRNN_HEADER
    int frnn_unpack(const frnn_shape *, const void *, const frnn_matrices *, interruption)
    size_t frnn_plan_size()
    void frnn_plan(const frnn_shape *, void *)
    int frnn_forward(const frnn_forward_call *, int, interruption)
    int frnn_backward(const frnn_backward_call *, int, interruption)
    size_t frnn_id_table_size(const frnn_shape *, int64_t)
    size_t frnn_id_table_work_size(const frnn_shape *, int64_t)
    int frnn_make_id_table(const frnn_id_table_call *, interruption)
    size_t frnn_id_gradient_size(const frnn_shape *, int64_t)
    size_t frnn_id_gradients_size(const frnn_id_gradients_call *)
    int frnn_id_gradients(const frnn_id_gradients_call *, interruption)
    size_t frnn_dense_size(const frnn_dense_shape *)
    void frnn_pack_dense(const frnn_dense_shape *, const void *, const void *, void *)
    int frnn_read_dense(const void *, size_t, frnn_dense_shape *)
    void frnn_unpack_dense(const void *, void *, void *)
    int frnn_dense(const frnn_dense_call *, interruption)
    int frnn_goes_by_blocks(int64_t)
    const char *frnn_isa()
    const char *frnn_isa_available(int)
    const char *frnn_isa_compiled(int)
    int frnn_isa_fused(const char *)
    int frnn_select(const char *)
    enum:
        FRNN_NO_EXTENSIONS
        FRNN_ALL_EXTENSIONS
    int frnn_use_extensions(int)
    const char *frnn_extension(int)
    const char *frnn_extension_compiled(int)
    const char *frnn_compiler()
    enum:
        FRNN_THREADS
    void frnn_set_threads(int)
    void frnn_set_threads_here(int)
    void frnn_exp(int, const void *, void *, int64_t)
    void frnn_sigmoid(int, const void *, void *, int64_t)
    void frnn_tanh(int, const void *, void *, int64_t)
    double frnn_probe_fma(int, int64_t)
    double frnn_probe_read(int, const void *, size_t, int64_t)
