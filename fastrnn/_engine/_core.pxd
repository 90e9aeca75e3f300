# _core.pxd - the declarations of csrc/fastrnn.h for Cython. Their meaning is written there.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint8_t

ctypedef int (*interruption)() noexcept nogil

cdef extern from "fastrnn.h" nogil:
    ctypedef struct frnn_cell:
        pass
    const frnn_cell *frnn_cell_at(int)

    enum:
        FRNN_F32
        FRNN_F64

    enum:
        FRNN_INT8

    enum:
        FRNN_STATES_MOST
        FRNN_PROJ_SIZE
        FRNN_RECURRENT_DROPOUT
        FRNN_ZONEOUT
        FRNN_WEIGHT_PEEPHOLE
        FRNN_BIAS_LN_C
        FRNN_EXTRAS
        FRNN_OPTIONS

    ctypedef struct frnn_cell_facts:
        const char *name
        const char *plain
        unsigned takes, has
        int gates, recurrent, states, aux
        int extra[5]
    const frnn_cell_facts *frnn_facts_of(const frnn_cell *)
    const char *frnn_precision_name(int)
    const char *frnn_option_name(int)
    const char *frnn_extra_name(int)

    ctypedef struct frnn_shape:
        const frnn_cell *cell
        int dtype, reverse
        int64_t steps, batch, input, hidden
        int ragged, has_ids
        int64_t projected, checkpoint
        int precision

    ctypedef struct frnn_rows:
        const int64_t *lengths
        const int64_t *sort_order
        const int64_t *inverse_order
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

    ctypedef struct frnn_matrices:
        void *w_ih
        void *w_hh
        void *w_hr
        float *scale_ih
        float *scale_hh
        float *scale_hr

    ctypedef struct frnn_variant:
        double number[9]
        double zoneout[4]
        const void *extra[5]

    ctypedef struct frnn_dropout_masks:
        const void *recurrent
        const void *zoneout[4]

    ctypedef struct frnn_state:
        void *of[4]

    enum:
        FRNN_TOGETHER

    ctypedef struct frnn_forward_call:
        frnn_shape shape
        frnn_weights weights
        frnn_variant variant
        frnn_dropout_masks dropout
        const void *packed
        frnn_rows rows
        frnn_ids ids
        frnn_sequence x, y
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
        frnn_sequence dx
        frnn_sequence dstate[4]
        frnn_state dfirst
        void *dw_ih
        void *dw_hh
        void *db_ih
        void *db_hh
        void *dw_hr
        void *dextra[5]
        void *work

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
    enum:
        FRNN_FOR_STEPS
        FRNN_FOR_PRODUCTS
    unsigned frnn_form_of(const frnn_shape *)
    size_t frnn_packed_size(const frnn_shape *, unsigned)
    size_t frnn_forward_size(const frnn_shape *)
    size_t frnn_tape_size(const frnn_shape *)
    size_t frnn_backward_size(const frnn_shape *)
    enum:
        FRNN_INTERRUPTED
        FRNN_FORKED
    # The functions below with an `interruption` return 0 or one of these. After FRNN_INTERRUPTED an exception is set.
    int frnn_pack(const frnn_pack_call *, int, interruption)
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
