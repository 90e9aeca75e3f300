# _arguments.pxi - a part of _core.pyx: it turns arguments from Python into the structs of csrc/fastrnn.h, after checks
# of everything that protects memory. An address is valid as long as the caller keeps its array alive.
#
# It must not know: when anything is computed.
cdef cnp.ndarray array_of(a):
    """The same object as an array; TypeError if it is no array, None included."""
    if not cnp.PyArray_Check(a):
        raise TypeError(f"an array expected, got {type(a).__name__}")
    return <cnp.ndarray>a


cdef cnp.ndarray matrix_of(a):
    cdef cnp.ndarray matrix = array_of(a)
    if matrix.ndim != 2:
        raise ValueError(f"a matrix expected, got {matrix.ndim} axes")
    return matrix


cdef int dtype_of(cnp.ndarray a) except -1:
    if a.descr.type_num == cnp.NPY_FLOAT32:
        return FRNN_F32
    if a.descr.type_num == cnp.NPY_FLOAT64:
        return FRNN_F64
    raise TypeError(f"float32 or float64 expected, got {a.dtype}")


cdef int check(cnp.ndarray a, int dtype, bint writes) except -1:
    """Checks the dtype, byte order and alignment of an array, and that it is writeable if C `writes` to it."""
    if dtype_of(a) != dtype or not cnp.PyArray_ISBEHAVED_RO(a):
        raise TypeError("an array of another dtype, byte order or alignment")
    if writes and not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError("a read-only array to write to")
    return 0


cdef bint is_product(int64_t size, int64_t rows, int64_t columns) noexcept:
    """Returns whether size is rows * columns, also where the product would overflow."""
    if rows == 0 or columns == 0:
        return size == 0
    return size % columns == 0 and size // columns == rows


cdef void *dense(a, int dtype, int64_t rows, int64_t columns, bint writes=False) except? NULL:
    """The address of a C-contiguous array of rows * columns elements; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = array_of(a)
    check(array, dtype, writes)
    if not cnp.PyArray_IS_C_CONTIGUOUS(array) or not is_product(array.size, rows, columns):
        raise ValueError(f"a dense array of {rows} x {columns} expected, got {a.shape}")
    return cnp.PyArray_DATA(array)


cdef frnn_sequence sequence(a, int dtype, const frnn_shape *shape, int64_t features, bint writes=False) except *:
    """Address and strides of a (steps, batch, features) array whose last axis is dense; NULL for None."""
    cdef frnn_sequence q
    memset(&q, 0, sizeof(q))
    if a is None:
        return q
    cdef cnp.ndarray array = array_of(a)
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


cdef frnn_sequence required(a, int dtype, const frnn_shape *shape, int64_t features, bint writes=False) except *:
    """The same as `sequence`, but None is refused."""
    return sequence(array_of(a), dtype, shape, features, writes)


cdef enum:
    ALIGN = 64  # bytes; every size that C returns includes as many bytes of slack, to align the begin


cdef void *boundary_of(cnp.ndarray buffer) noexcept:
    """The first address in a buffer that is aligned to ALIGN bytes."""
    return <void *>((<uintptr_t>cnp.PyArray_DATA(buffer) + (ALIGN - 1)) & ~<uintptr_t>(ALIGN - 1))


cdef void *aligned(a, size_t needed) except NULL:
    """The first address in a buffer that is aligned to ALIGN bytes. `needed` includes ALIGN bytes of slack, which an
    aligned buffer may lack."""
    cdef cnp.ndarray buffer = array_of(a)
    cdef void *begin = boundary_of(buffer)
    cdef size_t before = <uintptr_t>begin - <uintptr_t>cnp.PyArray_DATA(buffer)
    if buffer.descr.type_num != cnp.NPY_UINT8 or not cnp.PyArray_IS_C_CONTIGUOUS(buffer):
        raise TypeError("a dense byte buffer expected")
    if needed < ALIGN or <size_t>buffer.size < before + needed - ALIGN:
        raise ValueError(f"a buffer of {needed} bytes expected, got {buffer.size}")
    return begin


cdef size_t known(size_t nbytes, const frnn_shape *s) except 0:
    """The size itself. ValueError for 0, which C returns if a size does not fit size_t."""
    if nbytes == 0:
        raise ValueError(
            f"x of T = {s.steps} steps, B = {s.batch} rows and {s.input} features with hidden_size = {s.hidden} needs "
            "more bytes than can be addressed: use fewer steps or rows at a time")
    return nbytes


cdef const frnn_cell *cell_of(int index) except NULL:
    cdef const frnn_cell *cell = frnn_cell_at(index)
    if cell == NULL:
        raise ValueError("an unknown cell")
    return cell


cdef int64_t gate_rows(const frnn_shape *s) noexcept:
    """The length of W_ih: the units of all gates."""
    return frnn_facts_of(s.cell).gates * s.hidden


cdef int64_t recurrent_rows(const frnn_shape *s) noexcept:
    """The length of W_hh."""
    return frnn_facts_of(s.cell).recurrent * s.hidden


cdef int64_t features_of(const frnn_shape *s) noexcept:
    """Features of h and y."""
    return s.projected if s.projected else s.hidden


cdef int64_t numbers_of_state(const frnn_shape *s, int state) noexcept:
    """The number of elements that a batch row has in a state: of h its features, of c H."""
    return features_of(s) if state == 0 else s.hidden


cdef int extras_of(const frnn_shape *s, dict extras, void **addresses, bint writes) except -1:
    """Fills in the addresses of a cell's extra parameters, from a dict by name; NULL if one is None or absent."""
    cdef int i
    cdef set unknown = set(extras)
    for i in range(FRNN_EXTRAS):
        name = frnn_extra_name(i).decode()
        unknown.discard(name)
        addresses[i] = dense(extras.get(name), s.dtype, frnn_facts_of(s.cell).extra[i] * s.hidden, 1, writes)
        if addresses[i] != NULL and frnn_facts_of(s.cell).extra[i] == 0:
            raise ValueError(f"{name} of a cell that has none")
    if unknown:
        raise ValueError(f"unknown extra parameters {unknown}")
    return 0


cdef int numbers_of(dict given, double *numbers) except -1:
    """Fills in the options that are numbers, from a dict by name."""
    cdef int i
    cdef set unknown = set(given)
    for i in range(FRNN_OPTIONS):
        name = frnn_option_name(i).decode()
        if name in given:
            numbers[i] = given[name]
            unknown.discard(name)
    if unknown:
        raise ValueError(f"unknown options {unknown}")
    return 0


@cython.internal
cdef class AnyWeights:
    """The parameters of one direction of a layer and the numbers of its options, checked once for any number of calls:
    what `Weights` and `Packed` have in common.

    cell: its index. hidden: H. b_ih, b_hh: (G*H,) and (R*H,), or None. extras: name -> array. numbers: name -> value
    for options that are numbers; for recurrent_activation the slope. zoneout: a rate for each state, or ().
    """
    cdef frnn_shape shape  # cell, dtype, input, hidden, projected, precision
    cdef frnn_weights weights
    cdef frnn_variant variant
    cdef tuple held

    cdef int take_matrices(self, w_ih, w_hh, w_hr) except -1:
        """Checks the matrices of the shape's cell, and takes the dtype and the other sizes from them."""
        cdef frnn_shape *s = &self.shape
        cdef const frnn_cell_facts *facts = frnn_facts_of(s.cell)
        s.dtype = dtype_of(matrix_of(w_ih))
        s.input = matrix_of(w_ih).shape[1]
        if s.precision and s.dtype != FRNN_F32:
            raise ValueError("float32 weights expected with a precision")
        if s.hidden < 1 or not is_product(matrix_of(w_ih).shape[0], facts.gates, s.hidden):
            raise ValueError(f"w_ih of {facts.gates} * hidden rows expected, and hidden = {s.hidden} of 1 at least, "
                             f"got {w_ih.shape}")
        if w_hr is not None:
            s.projected = matrix_of(w_hr).shape[0]
            if not facts.takes >> FRNN_PROJ_SIZE & 1 or not 0 < s.projected < s.hidden:
                raise ValueError("a projection to fewer features, of a cell that takes one, expected")
        if (w_hh is None) != (facts.recurrent == 0):
            raise ValueError("w_hh of a cell that has recurrent gates expected, and of no other")
        self.weights.w_ih = dense(w_ih, s.dtype, gate_rows(s), s.input)
        self.weights.w_hh = dense(w_hh, s.dtype, recurrent_rows(s), features_of(s))
        self.weights.w_hr = dense(w_hr, s.dtype, s.projected, s.hidden)
        return 0

    cdef int take_others(self, b_ih, b_hh, dict extras, dict numbers, tuple zoneout) except -1:
        """Checks all but the matrices, once the shape is known."""
        cdef frnn_shape *s = &self.shape
        cdef const frnn_cell_facts *facts = frnn_facts_of(s.cell)
        cdef int i
        if b_hh is not None and facts.recurrent == 0:
            raise ValueError("b_hh of a cell that has recurrent gates expected, and of no other")
        self.weights.b_ih = dense(b_ih, s.dtype, gate_rows(s), 1)
        self.weights.b_hh = dense(b_hh, s.dtype, recurrent_rows(s), 1)
        extras_of(s, extras, <void **>self.variant.extra, False)
        for i in range(FRNN_EXTRAS):
            if i not in (FRNN_WEIGHT_PEEPHOLE, FRNN_BIAS_LN_C) and facts.extra[i] and self.variant.extra[i] == NULL:
                raise ValueError(f"{frnn_extra_name(i).decode()} may not be None")
        numbers_of(numbers, self.variant.number)
        if len(zoneout) not in (0, facts.states):
            raise ValueError("a zoneout rate for each state, or none, expected")
        for i in range(<int>len(zoneout)):
            self.variant.zoneout[i] = zoneout[i]
        return 0


cdef class Weights(AnyWeights):
    """Weights as a layer has them. Each call reads the arrays.

    It takes what `AnyWeights` describes. w_ih: (G*H, I). w_hh: (R*H, H), None for a cell without recurrent gates
    (R = 0). w_hr: (P, H) or None; with it w_hh is (R*H, P).
    """
    def __cinit__(self, int cell, int64_t hidden, w_ih, w_hh=None, b_ih=None, b_hh=None, w_hr=None,
                  dict extras not None={}, *, dict numbers not None={}, tuple zoneout not None=()):
        self.shape.cell, self.shape.hidden = cell_of(cell), hidden
        self.take_matrices(w_ih, w_hh, w_hr)
        self.take_others(b_ih, b_hh, extras, numbers, zoneout)
        self.held = w_ih, w_hh, b_ih, b_hh, w_hr, *extras.values()


cdef class Gradients:
    """Arrays for the gradients of the weights `of`, each like its parameter. A gradient of None is not computed."""
    cdef AnyWeights of
    cdef void *w_ih
    cdef void *w_hh
    cdef void *b_ih
    cdef void *b_hh
    cdef void *w_hr
    cdef void *extra[5]
    cdef tuple held

    def __cinit__(self, AnyWeights of not None, w_ih, w_hh=None, b_ih=None, b_hh=None, w_hr=None,
                  dict extras not None={}):
        cdef frnn_shape *s = &of.shape
        self.of = of
        self.w_ih = dense(w_ih, s.dtype, gate_rows(s), s.input, True)
        self.w_hh = dense(w_hh, s.dtype, recurrent_rows(s), features_of(s), True)
        self.b_ih = dense(b_ih, s.dtype, gate_rows(s), 1, True)
        self.b_hh = dense(b_hh, s.dtype, recurrent_rows(s), 1, True)
        self.w_hr = dense(w_hr, s.dtype, s.projected, s.hidden, True)
        extras_of(s, extras, self.extra, True)
        self.held = w_ih, w_hh, b_ih, b_hh, w_hr, *extras.values()


cdef frnn_shape shape_of(AnyWeights weights, x, ids, bint reverse, int64_t checkpoint) except *:
    """The shape of a pass over x (T, B, I), or over ids (T, B) if `ids` is not None."""
    cdef frnn_shape shape = weights.shape
    cdef cnp.ndarray array = array_of(x if ids is None else ids.table_index)
    cdef int axes = 3 if ids is None else 2
    if array.ndim != axes:
        raise ValueError(f"x or ids of {axes} axes expected, got {array.ndim}")
    if checkpoint < 0:
        raise ValueError("a negative number of steps")
    shape.steps = array.shape[0]
    shape.batch = array.shape[1]
    shape.reverse = reverse
    shape.checkpoint = checkpoint
    if ids is not None:
        shape.input = 0
        shape.has_ids = 1
    return shape


cdef frnn_dropout_masks masks_of(const frnn_shape *s, masks) except *:
    """The masks of a `DropoutMasks`, whose rows are sorted, or none for None."""
    cdef frnn_dropout_masks q
    cdef tuple zoneout
    cdef int i
    memset(&q, 0, sizeof(q))
    if masks is None:
        return q
    recurrent, zoneout = tuple_of(masks)
    if (recurrent is not None and not frnn_facts_of(s.cell).takes >> FRNN_RECURRENT_DROPOUT & 1
            or zoneout and not frnn_facts_of(s.cell).takes >> FRNN_ZONEOUT & 1):
        raise ValueError("dropout masks of a cell that takes none")
    q.recurrent = dense(recurrent, s.dtype, s.batch, features_of(s))
    if len(zoneout) not in (0, frnn_facts_of(s.cell).states) or (zoneout and s.projected):
        raise ValueError("zoneout masks for all states or none expected, and none where h is projected")
    for i in range(<int>len(zoneout)):
        q.zoneout[i] = dense(zoneout[i], s.dtype, s.steps * s.batch, s.hidden)
    return q


cdef void *state_row(a, const frnn_shape *s, int64_t numbers, int64_t row, bint writes) except? NULL:
    """The address of slot `row` of a C-contiguous (slots, batch, numbers) array; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = array_of(a)
    check(array, s.dtype, writes)
    if (not cnp.PyArray_IS_C_CONTIGUOUS(array) or array.ndim != 3 or array.shape[1] != s.batch
            or array.shape[2] != numbers or not 0 <= row < array.shape[0]):
        raise ValueError(f"slot {row} of a dense array of {s.batch} x {numbers} expected, got {a.shape}")
    return <char *>cnp.PyArray_DATA(array) + row * s.batch * numbers * cnp.PyArray_ITEMSIZE(array)


cdef frnn_state state_of(const frnn_shape *s, tuple state, int64_t row, bint writes=False, bint required=True) except *:
    """Slot `row` of each of the cell's states, from a tuple of arrays. Without `required` an array may be None."""
    cdef frnn_state q
    cdef int i, states = frnn_facts_of(s.cell).states
    memset(&q, 0, sizeof(q))
    if len(state) != states:
        raise ValueError("a tuple of the cell's states expected")
    for i in range(states):
        q.of[i] = state_row(state[i], s, numbers_of_state(s, i), row, writes)
        if required and q.of[i] == NULL:
            raise ValueError("states may not be None")
    return q


cdef int64_t *indices(a, int64_t count) except? NULL:
    """The address of `count` dense int64; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = array_of(a)
    if (array.descr.type_num != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(array)
            or array.ndim != 1 or array.size != count):
        raise ValueError(f"{count} dense int64 expected, got {a.shape} of {a.dtype}")
    return <int64_t *>cnp.PyArray_DATA(array)


cdef uint8_t *flags(a, const frnn_shape *s) except? NULL:
    """The address of a dense (steps, batch) array of bytes; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = array_of(a)
    if (array.descr.type_num != cnp.NPY_BOOL or not cnp.PyArray_IS_C_CONTIGUOUS(array)
            or array.ndim != 2 or array.shape[0] != s.steps or array.shape[1] != s.batch):
        raise ValueError(f"a dense array of {s.steps} x {s.batch} booleans expected, got {a.shape} of {a.dtype}")
    return <uint8_t *>cnp.PyArray_DATA(array)


cdef frnn_rows rows_of(frnn_shape *s, rows) except *:
    """The checked arrays of a `ragged.Rows`; for None all NULL. Marks the shape as ragged."""
    cdef frnn_rows r
    cdef int64_t i
    memset(&r, 0, sizeof(r))
    if rows is None:
        return r
    _, mask, reset, reset_to, sorted_lengths, sort_order, inverse_order = tuple_of(rows)
    r.lengths = indices(sorted_lengths, s.batch)
    r.sort_order = indices(sort_order, s.batch)
    r.inverse_order = indices(inverse_order, s.batch)
    if (r.sort_order == NULL) != (r.inverse_order == NULL):
        raise ValueError("a sort_order without an inverse_order, or the other way round")
    r.mask = flags(mask, s)
    r.reset = flags(reset, s)
    r.reset_to_first = reset_to == "initial"
    r.step = s.batch
    for i in range(s.batch):
        if r.lengths != NULL and not 0 <= r.lengths[i] <= (s.steps if i == 0 else r.lengths[i - 1]):
            raise ValueError("lengths out of range or order")
        if r.sort_order != NULL and (not 0 <= r.sort_order[i] < s.batch or r.inverse_order[r.sort_order[i]] != i):
            raise ValueError("a sort_order of other rows, or an inverse_order that is not its own")
    s.ragged = 1
    return r


cdef frnn_ids ids_of(const frnn_shape *s, ids, bint complete=False) except *:
    """The checked ids of an `ids.Ids`, without the id table and its gradient. `complete`: the table has all ids."""
    cdef frnn_ids q
    cdef cnp.ndarray numbers = array_of(ids.ids if complete else ids.table_index)
    cdef int64_t k
    memset(&q, 0, sizeof(q))
    q.count = ids.vocabulary if complete else ids.count
    if not cnp.PyArray_IS_C_CONTIGUOUS(numbers) or numbers.ndim != 2 or q.count < 0:
        raise ValueError("dense ids expected")
    q.numbers = indices(numbers.reshape(-1), s.steps * s.batch)
    q.step = s.batch
    for k in range(s.steps * s.batch):
        if not 0 <= q.numbers[k] < q.count:
            raise ValueError("ids out of range")
    return q


cdef frnn_id_table_call table_of(AnyWeights weights, inputs, used, int64_t count) except *:
    """The call that computes the id table of `count` ids, without its buffers.

    inputs: (count, I), the embedding of each id. None stands for one-hot vectors: of the features `used`, or of all
    features if that is None too."""
    cdef frnn_id_table_call call
    cdef int64_t i
    memset(&call, 0, sizeof(call))
    call.shape = weights.shape
    call.weights = weights.weights
    call.packed = NULL
    call.count = count
    call.x = dense(inputs, call.shape.dtype, count, call.shape.input)
    call.used = indices(used, count)
    if inputs is None and used is None and count != call.shape.input:
        raise ValueError("as many ids as inputs expected")
    for i in range(count if inputs is None and used is not None else 0):
        if not 0 <= call.used[i] < call.shape.input:
            raise ValueError("ids out of range")
    return call


cdef frnn_pack_call packing_of(frnn_forward_call *call, unsigned forms, void *packed) noexcept:
    cdef frnn_pack_call packing
    packing.shape = call.shape
    packing.weights = call.weights
    packing.forms = forms
    packing.packed = packed
    packing.like = NULL
    return packing


cdef tuple tuple_of(a):
    """The same object as a tuple, which a named tuple is too; TypeError for anything else."""
    if not isinstance(a, tuple):
        raise TypeError(f"a tuple expected, got {type(a).__name__}")
    return <tuple>a


cdef int count_of(passes) except -1:
    if not 1 <= len(passes) <= FRNN_TOGETHER:
        raise ValueError(f"1 to {FRNN_TOGETHER} passes expected, got {len(passes)}")
    return <int>len(passes)


cdef int alike(const frnn_shape *a, const frnn_shape *b) except -1:
    if (a.cell != b.cell or a.hidden != b.hidden or a.projected != b.projected or a.dtype != b.dtype
            or a.input != b.input or a.precision != b.precision):
        raise ValueError("passes of different cells or sizes")
    return 0
