# _packed.pxi - a part of _core.pyx: weights that are packed once, for any number of calls and threads.
#
# It must not know: when a pass reads them.

cdef enum:
    MANY_STEPS = 1 << 20  # of a pass that reads W_ih for a product, if any does

# Taken to pack a second form and to make a table, once for all threads. A signal handler may take it again in the
# thread that has it. A forked child makes a new one, for nobody may release the old one there.
cdef object packing_lock = threading.RLock()


def renew_packing_lock():
    global packing_lock
    packing_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_packing_lock)


cdef cnp.ndarray at_boundary(a):
    """Packed weights from elsewhere, such as another process' memory, as C can read them: copied if not aligned."""
    cdef cnp.ndarray given = array_of(a)
    if given.descr.type_num != cnp.NPY_UINT8 or given.ndim != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(given):
        raise TypeError("a dense byte buffer expected")
    if boundary_of(given) == cnp.PyArray_DATA(given):
        return given
    spare = np.empty(given.size + ALIGN, np.uint8)
    begin = boundary(spare)
    spare[begin:begin + given.size] = given
    return spare[begin:begin + given.size]


cdef int usable(int status, const char *isa) except -1:
    """ValueError if a status of C says that this process cannot use weights that were packed elsewhere."""
    if status == 0:
        return 0
    if status == FRNN_MISSING:
        of = "" if isa == NULL else f" of {isa.decode('ascii', 'backslashreplace')} or its extension"
        raise ValueError(
            f"these weights were packed for instructions{of} that this machine or build lacks: freeze the layer here, "
            "or with portable=True")
    raise ValueError("these bytes are no packed weights, or not all of them: freeze the layer again")


cdef bytes header_of(cnp.ndarray content):
    """The begin of packed weights from elsewhere, by which `unchanged` sees that somebody wrote to them."""
    return content[:FRNN_HEADER].tobytes()


cdef const void *unchanged(cnp.ndarray buffer, bytes header) except NULL:
    """The packed weights in a buffer. ValueError if they do not begin with the header, unless that is None.

    C finds the numbers by the header. Who reads a changed one would write to memory that is not its own."""
    cdef const void *packed = boundary_of(buffer)
    if header is not None and memcmp(packed, <const char *>header, len(header)) != 0:
        raise ValueError(
            "somebody wrote to the buffers of the pickle that this layer came from, and it reads its weights there: "
            "load it again, and leave the buffers as they are while it lives")
    return packed


cdef class Packed(AnyWeights):
    """Weights in packed form, which do not change. The matrices that they came from are not kept.

    It takes the arguments of `Weights`, a name of `precisions`, and for int8 weights the scales of the rows of W_ih,
    W_hh and W_hr, as `scales` returns them; None computes them. It refers to the biases and the extras, so these must
    be arrays that nobody writes to. W_ih is packed at first in the form that a single step reads, and in the other form
    when a pass needs it; with `whole` in all forms at once.
    The instruction set that packed the weights runs all passes with them.

    content: in place of the matrices and scales, which are None then, what `content` of another object returned, maybe
    in another process. It is copied if it is not aligned; else it is used where it lies, and nobody may write to it.
    """
    # Threads read these two in a critical section: else one could free the old content while another is taking it.
    # The buffer, the forms of W_ih in it, and the header of content from elsewhere, else None: one object, so that
    # threads see all of it or nothing.
    cdef tuple held_content
    cdef object table        # the id table of all one-hot vectors, or None until it is needed

    def __cinit__(self, int cell, int64_t hidden, w_ih, w_hh=None, b_ih=None, b_hh=None, w_hr=None,
                  dict extras not None={}, *, dict numbers not None={}, tuple zoneout not None=(),
                  str precision not None="", tuple scales=None, bint whole=False, content=None):
        cdef unsigned forms
        self.shape.cell, self.shape.hidden = cell_of(cell), hidden
        self.shape.precision = precisions().index(precision)
        if content is None:
            self.take_matrices(w_ih, w_hh, w_hr)
            if scales is not None:
                self.take_scales(&self.weights, scales)
        else:
            self.take_content(at_boundary(content))
        self.take_others(b_ih, b_hh, extras, numbers, zoneout)
        self.held = b_ih, b_hh, *extras.values()
        if content is None:
            forms = self.form_of(1) | (self.form_of(MANY_STEPS) if whole else 0)
            self.held_content = (self.pack(&self.weights, forms, None), forms, None)
        self.weights.w_ih = self.weights.w_hh = self.weights.w_hr = NULL
        self.weights.scale_ih = self.weights.scale_hh = self.weights.scale_hr = NULL

    cdef int take_content(self, cnp.ndarray content) except -1:
        """Takes weights that were packed elsewhere, after a check that they are those of the cell."""
        cdef frnn_shape *s = &self.shape
        cdef frnn_packed_facts facts
        cdef int status
        memset(&facts, 0, sizeof(facts))
        status = frnn_read_packed(cnp.PyArray_DATA(content), content.size, &facts)
        usable(status, facts.isa)
        if facts.shape.cell != s.cell or facts.shape.hidden != s.hidden or facts.shape.precision != s.precision:
            raise ValueError("packed weights of another cell, hidden size or precision")
        self.shape = facts.shape
        self.held_content = (content, facts.forms, header_of(content))
        return 0

    cdef unsigned form_of(self, int64_t steps):
        """The form of W_ih for a pass of so many steps of one row."""
        cdef frnn_shape one = self.shape
        one.steps, one.batch = steps, 1
        return frnn_form_of(&one)

    cdef tuple present(self):
        """The buffer, its forms and its header as they are now."""
        cdef tuple content
        with cython.critical_section(self):
            content = self.held_content
        unchanged(content[0], content[2])
        return content

    @property
    def facts(self):
        """The inputs, the features of h and the dtype."""
        return self.shape.input, features_of(&self.shape), np.dtype("f4" if self.shape.dtype == FRNN_F32 else "f8")

    @property
    def content(self):
        """The packed weights as bytes, not a copy. They hold no address, so other processes may use them."""
        cdef cnp.ndarray buffer
        cdef size_t begin
        buffer, forms, _ = self.present()
        begin = boundary(buffer)
        return buffer[begin:begin + known(frnn_packed_size(&self.shape, forms), &self.shape) - ALIGN]

    cdef object present_table(self):
        with cython.critical_section(self):
            return self.table

    cdef int take_scales(self, frnn_weights *weights, tuple scales) except -1:
        """Fills in the scales, of which C keeps addresses: the caller keeps the arrays."""
        cdef const frnn_shape *s = &self.shape
        if s.precision != FRNN_INT8 or len(scales) != 3:
            raise ValueError("three arrays of scales, or None, of int8 weights expected")
        weights.scale_ih = <const float *>dense(scales[0], s.dtype, gate_rows(s), 1)
        weights.scale_hh = <const float *>dense(scales[1], s.dtype, recurrent_rows(s), 1)
        weights.scale_hr = <const float *>dense(scales[2], s.dtype, s.projected, 1)
        return 0

    cdef cnp.ndarray pack(self, const frnn_weights *weights, unsigned forms, like):
        """A new buffer with these matrices; packed by the instruction set of the buffer `like`, unless that is None."""
        cdef size_t needed = known(frnn_packed_size(&self.shape, forms), &self.shape)
        cdef frnn_pack_call call
        cdef interruption interrupted = poll_function()
        buffer = np.zeros(needed, np.uint8)  # zeros: what `content` returns follows from the weights alone
        call.shape = self.shape
        call.weights = weights[0]
        call.forms = forms
        call.packed = aligned(buffer, needed)
        call.like = NULL if like is None else boundary_of(like)
        with nogil:
            finished(frnn_pack(&call, 1, interrupted))
        return buffer

    cdef cnp.ndarray repacked(self, unsigned forms):
        """A new buffer with the same matrices in other forms."""
        cdef frnn_weights weights = self.weights
        cdef const frnn_shape *s = &self.shape
        w_ih, w_hh, w_hr = self.matrices()
        scales = self.scales()
        weights.w_ih = dense(w_ih, s.dtype, gate_rows(s), s.input)
        weights.w_hh = dense(w_hh, s.dtype, recurrent_rows(s), features_of(s))
        weights.w_hr = dense(w_hr, s.dtype, s.projected, s.hidden)
        if scales is not None:
            self.take_scales(&weights, scales)
        return self.pack(&weights, forms, self.present()[0])

    cdef tuple unpacked(self, bint scales):
        """w_ih, w_hh and w_hr, or the scales of their rows, as new arrays."""
        cdef const frnn_shape *s = &self.shape
        cdef frnn_matrices to
        cdef const void *buffer
        cdef interruption interrupted = poll_function()
        cdef void *addresses[3]
        cdef int64_t rows[3]
        cdef int64_t columns[3]
        cdef int i
        cdef list arrays = []
        memset(&to, 0, sizeof(to))
        content = self.present()[0]
        buffer = boundary_of(content)
        dtype = np.float64 if s.dtype == FRNN_F64 else np.float32
        rows[0], rows[1], rows[2] = gate_rows(s), recurrent_rows(s), s.projected
        columns[0], columns[1], columns[2] = s.input, features_of(s), s.hidden
        for i in range(3):
            array = None
            if rows[i]:
                array = np.empty([rows[i]] if scales else [rows[i], columns[i]], dtype)
            addresses[i] = dense(array, s.dtype, rows[i], 1 if scales else columns[i], True)
            arrays.append(array)
        if scales:
            to.scale_ih, to.scale_hh, to.scale_hr = <float *>addresses[0], <float *>addresses[1], <float *>addresses[2]
        else:
            to.w_ih, to.w_hh, to.w_hr = addresses[0], addresses[1], addresses[2]
        with nogil:
            finished(frnn_unpack(s, buffer, &to, interrupted))
        return tuple(arrays)

    def matrices(self):
        """w_ih, w_hh and w_hr as new arrays; None for one that the cell does not have."""
        return self.unpacked(False)

    def scales(self):
        """The scales of the rows of w_ih, w_hh and w_hr, as `matrices`; None if the precision is not int8."""
        return self.unpacked(True) if self.shape.precision == FRNN_INT8 else None

    cdef cnp.ndarray in_forms(self, unsigned forms):
        """The buffer, which has W_ih at least in these forms. It stays valid as long as the caller refers to it."""
        cdef tuple content = self.present()
        if forms & ~<unsigned>content[1]:
            with packing_lock:
                content = self.present()
                forms |= <unsigned>content[1]
                if forms != <unsigned>content[1]:
                    content = (self.repacked(forms), forms, None)
                    with cython.critical_section(self):
                        self.held_content = content
        return content[0]

    cdef cnp.ndarray one_hot_table(self):
        """The id table of all one-hot vectors of x, a byte buffer."""
        table = self.present_table()
        if table is None:
            with packing_lock:
                table = self.present_table()
                if table is None:
                    table = self.new_table(self.present())
                    with cython.critical_section(self):
                        self.table = table
        return table

    cdef cnp.ndarray new_table(self, tuple content):
        cdef frnn_id_table_call call = table_of(self, None, None, self.shape.input)
        cdef size_t needed = known(frnn_id_table_size(&call.shape, call.count), &call.shape)
        cdef interruption interrupted = poll_function()
        table, packed = np.empty(needed, np.uint8), content[0]
        if not <unsigned>content[1] & FRNN_FOR_PRODUCTS:
            packed = self.repacked(FRNN_FOR_PRODUCTS)
        call.table, call.packed = aligned(table, needed), boundary_of(packed)
        with nogil:
            finished(frnn_make_id_table(&call, interrupted))
        return table

    @property
    def nbytes(self):
        """The bytes of everything that is there now."""
        nbytes = 0
        for array in (self.present()[0], self.present_table(), *self.held):
            nbytes += 0 if array is None else array.nbytes
        return nbytes
