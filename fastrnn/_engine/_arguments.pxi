# _arguments.pxi - a part of _core.pyx: what comes from Python, checked for what protects memory, as the structs of
# csrc/fastrnn.h. An address lives as long as the array that its caller holds.
#
# It must not know: when anything is computed.
cdef cnp.ndarray array_of(a):
    """The array that `a` is; TypeError where it is something else, None included."""
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


cdef bint is_product(int64_t size, int64_t rows, int64_t columns) noexcept:
    """Whether size is rows * columns, which need not fit a number."""
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


cdef frnn_sequence sequence(a, int dtype, frnn_shape *shape, int64_t features, bint writes=False) except *:
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


cdef frnn_sequence required(a, int dtype, frnn_shape *shape, int64_t features, bint writes=False) except *:
    """The same where None will not do."""
    return sequence(array_of(a), dtype, shape, features, writes)


cdef enum:
    ALIGN = 64  # bytes; every size that C gives has as much slack for it


cdef void *boundary_of(cnp.ndarray buffer) noexcept:
    """The first boundary of ALIGN bytes in a buffer."""
    return <void *>((<uintptr_t>cnp.PyArray_DATA(buffer) + (ALIGN - 1)) & ~<uintptr_t>(ALIGN - 1))


cdef void *aligned(a, size_t needed) except NULL:
    """The first boundary of ALIGN bytes in a buffer of `needed` bytes, slack included."""
    cdef cnp.ndarray buffer = array_of(a)
    if buffer.descr.type_num != cnp.NPY_UINT8 or not cnp.PyArray_IS_C_CONTIGUOUS(buffer):
        raise TypeError("a dense byte buffer expected")
    if needed == 0 or <size_t>buffer.size < needed:
        raise ValueError(f"a buffer of {needed} bytes expected, got {buffer.size}")
    return boundary_of(buffer)


cdef size_t known(size_t nbytes) except 0:
    if nbytes == 0:
        raise OverflowError("sizes too large")
    return nbytes


cdef const frnn_cell *cell_of(int index) except NULL:
    cdef const frnn_cell *cell = frnn_cell_at(index)
    if cell == NULL:
        raise ValueError("an unknown cell")
    return cell


cdef int64_t gate_rows(frnn_shape *s) noexcept:
    """Rows of W_ih: the units of all gates."""
    return frnn_facts_of(s.cell).gates * s.hidden


cdef int64_t recurrent_rows(frnn_shape *s) noexcept:
    """Rows of W_hh."""
    return frnn_facts_of(s.cell).recurrent * s.hidden


cdef int64_t numbers_of_state(frnn_shape *s, int state) noexcept:
    """Numbers in a row of a state."""
    return features_of(s) if state == 0 else s.hidden


cdef int size_units(frnn_shape *s, tuple weights) except -1:
    """Sets how many units there are, from the rows of w_ih, and to how many features h is projected."""
    cdef cnp.ndarray w_hh = matrix_of(weights[1])
    s.hidden = matrix_of(weights[0]).shape[0] // frnn_facts_of(s.cell).gates
    s.projected = 0
    if len(weights) > 4 and weights[4] is not None:
        if not frnn_facts_of(s.cell).takes >> FRNN_PROJ_SIZE & 1 or w_hh.shape[1] >= s.hidden:
            raise ValueError("a projection to fewer features, of a cell that takes one, expected")
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
    cdef cnp.ndarray xs = array_of(x), ws = matrix_of(weights[0])
    if xs.ndim != 3:
        raise ValueError("an array of another rank")
    shape.cell = cell_of(cell)
    shape.dtype = dtype_of(ws)
    shape.reverse = reverse
    shape.steps = xs.shape[0]
    shape.batch = xs.shape[1]
    shape.input = xs.shape[2]
    shape.ragged = shape.has_ids = 0
    shape.checkpoint = 0
    size_units(&shape, weights)
    return shape


cdef frnn_weights weights_of(frnn_shape *s, tuple weights) except *:
    cdef frnn_weights w
    w.w_ih = dense(weights[0], s.dtype, gate_rows(s), s.input)
    w.w_hh = dense(weights[1], s.dtype, recurrent_rows(s), features_of(s))
    w.b_ih = dense(weights[2], s.dtype, gate_rows(s), 1)
    w.b_hh = dense(weights[3], s.dtype, recurrent_rows(s), 1)
    w.w_hr = dense(weights[4], s.dtype, s.projected, s.hidden) if s.projected else NULL
    if w.w_ih == NULL or w.w_hh == NULL or (s.projected and w.w_hr == NULL):
        raise ValueError("weights may not be None")
    return w


cdef int extras_of(frnn_shape *s, tuple weights, void **extra, bint writes) except -1:
    """The addresses of weights[5], the parameters of a variant in the order of frnn_extra; NULL for None."""
    cdef int i
    cdef tuple extras = weights[5] if len(weights) > 5 else (None,) * FRNN_EXTRAS
    if len(extras) != FRNN_EXTRAS:
        raise ValueError(f"{FRNN_EXTRAS} extra parameters expected, got {len(extras)}")
    for i in range(FRNN_EXTRAS):
        extra[i] = dense(extras[i], s.dtype, frnn_facts_of(s.cell).extra[i] * s.hidden, 1, writes)
        if extra[i] != NULL and frnn_facts_of(s.cell).extra[i] == 0:
            raise ValueError(f"a cell that has no extra parameter {i}")
    return 0


cdef frnn_variant variant_of(frnn_shape *s, tuple weights) except *:
    """weights: after the extra parameters (clip, cell_clip, slope, zoneout rate of h, of c)."""
    cdef frnn_variant v
    cdef int i
    memset(&v, 0, sizeof(v))
    extras_of(s, weights, <void **>v.extra, False)
    for i in range(FRNN_EXTRAS):
        if i not in (FRNN_WEIGHT_PEEPHOLE, FRNN_BIAS_LN_C) and frnn_facts_of(s.cell).extra[i] and v.extra[i] == NULL:
            raise ValueError(f"extra parameter {i} may not be None")
    if len(weights) > 6:
        v.clip, v.cell_clip, v.slope, v.zoneout[0], v.zoneout[1] = tuple_of(weights[6])
    return v


cdef frnn_dropout_masks dropout_of(frnn_shape *s, dropout) except *:
    """dropout: None, or (factors (batch, features of h) or None, for each state (steps, batch, hidden) or nothing)."""
    cdef frnn_dropout_masks q
    cdef tuple zoneout
    cdef int i
    memset(&q, 0, sizeof(q))
    if dropout is None:
        return q
    recurrent, zoneout = tuple_of(dropout)
    q.recurrent = dense(recurrent, s.dtype, s.batch, features_of(s))
    if len(zoneout) not in (0, frnn_facts_of(s.cell).states) or (zoneout and s.projected):
        raise ValueError("zoneout masks for all states or none expected, and none where h is projected")
    for i in range(len(zoneout)):
        q.zoneout[i] = dense(zoneout[i], s.dtype, s.steps * s.batch, s.hidden)
    return q


cdef void *state_row(a, frnn_shape *s, int64_t numbers, int64_t row, bint writes) except? NULL:
    """The address of row `row` of a C-contiguous (rows, batch, numbers) array; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = array_of(a)
    check(array, s.dtype, writes)
    if (not cnp.PyArray_IS_C_CONTIGUOUS(array) or array.ndim != 3 or array.shape[1] != s.batch
            or array.shape[2] != numbers or not 0 <= row < array.shape[0]):
        raise ValueError(f"row {row} of a dense array of {s.batch} x {numbers} expected, got {a.shape}")
    return <char *>cnp.PyArray_DATA(array) + row * s.batch * numbers * cnp.PyArray_ITEMSIZE(array)


cdef frnn_state state_of(frnn_shape *s, tuple state, int64_t row, bint writes=False, bint required=True) except *:
    """Row `row` of each of the cell's states, from a tuple of arrays."""
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


cdef uint8_t *flags(a, frnn_shape *s) except? NULL:
    """The address of a dense (steps, batch) array of bytes; NULL for None."""
    if a is None:
        return NULL
    cdef cnp.ndarray array = array_of(a)
    if (array.descr.type_num != cnp.NPY_BOOL or not cnp.PyArray_IS_C_CONTIGUOUS(array)
            or array.ndim != 2 or array.shape[0] != s.steps or array.shape[1] != s.batch):
        raise ValueError(f"a dense array of {s.steps} x {s.batch} booleans expected, got {a.shape} of {a.dtype}")
    return <uint8_t *>cnp.PyArray_DATA(array)


cdef frnn_rows rows_of(frnn_shape *s, rows) except *:
    """rows: the tuple (lengths, sort_order, inverse_order, mask, reset, reset_to_first) as csrc/fastrnn.h has it."""
    cdef frnn_rows r
    cdef int64_t i
    memset(&r, 0, sizeof(r))
    lengths, sort_order, inverse_order, mask, reset, r.reset_to_first = tuple_of(rows)
    r.lengths = indices(lengths, s.batch)
    r.sort_order = indices(sort_order, s.batch)
    r.inverse_order = indices(inverse_order, s.batch)
    if (r.sort_order == NULL) != (r.inverse_order == NULL):
        raise ValueError("sort_order and inverse_order expected together, got one of them")
    r.mask = flags(mask, s)
    r.reset = flags(reset, s)
    r.step = s.batch
    for i in range(s.batch):
        if r.lengths != NULL and not 0 <= r.lengths[i] <= (s.steps if i == 0 else r.lengths[i - 1]):
            raise ValueError("lengths out of range or order")
        if r.sort_order != NULL and (not 0 <= r.sort_order[i] < s.batch or r.inverse_order[r.sort_order[i]] != i):
            raise ValueError("sort_order expected to be a permutation of the rows and inverse_order its inverse")
    s.ragged = 1
    return r


cdef frnn_ids ids_of(frnn_shape *s, told, int i) except *:
    """told: (ids, count, for each pass a table of so many rows or None, and the same of their gradients: where
    sums go by blocks pairs of three gradients in an array and count int64)."""
    cdef frnn_ids q
    cdef cnp.ndarray ids, seen
    cdef int64_t k, count
    cdef int arrays = 1
    cdef size_t size
    memset(&q, 0, sizeof(q))
    given, count, tables, gradients = tuple_of(told)
    ids = array_of(given)
    if not cnp.PyArray_IS_C_CONTIGUOUS(ids):
        raise ValueError("dense ids expected")
    if ids.ndim != 2 or ids.shape[0] != s.steps or ids.shape[1] != s.batch or s.input != 0 or count < 0:
        raise ValueError("ids of another shape, or an input besides")
    q.numbers = indices(ids.reshape(-1), s.steps * s.batch)
    q.step = s.batch
    for k in range(s.steps * s.batch):
        if not 0 <= q.numbers[k] < count:
            raise ValueError("ids out of range")
    if gradients is not None:
        given = tuple_of(gradients)[i]
        if frnn_goes_by_blocks(s.steps * s.batch):
            arrays = 3
            given, counts = tuple_of(given)
            seen = array_of(counts)
            q.seen = indices(seen, count)
            if not cnp.PyArray_ISWRITEABLE(seen):
                raise ValueError("a read-only array to write to")
        q.gradient = dense(array_of(given), s.dtype, arrays * count, gate_rows(s), True)
        q.count = count
    if tables is not None:
        size = known(frnn_id_table_size(s, count))
        q.table = aligned(tuple_of(tables)[i], size)
    s.has_ids = 1
    return q


cdef frnn_pack_call packing_of(frnn_forward_call *call, unsigned forms, void *packed) noexcept:
    cdef frnn_pack_call packing
    packing.shape = call.shape
    packing.weights = call.weights
    packing.forms = forms
    packing.packed = packed
    return packing


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
