# _packed.pxi - a part of _core.pyx: weights that are packed once, for any number of calls and threads.
#
# It must not know: when a pass reads them.

# Taken to pack a second form and to make a table, once for all threads. A signal handler may take it again in the
# thread that has it. A forked child makes a new one, for nobody may release the old one there.
cdef object packing_lock = threading.RLock()


def renew_packing_lock():
    global packing_lock
    packing_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_packing_lock)


cdef class Packed(Weights):
    """Weights in packed form, which do not change. The matrices that they came from are not kept.

    It takes the arguments of `Weights`. It refers to the biases and the extras, so these must be arrays that nobody
    writes to. W_ih is packed at first in the form that a single step reads, and in the other form when a pass needs it.
    The instruction set that packed the weights runs all passes with them.
    """
    cdef tuple content  # the buffer, and the forms of W_ih in it: one object, so that threads see both or neither
    cdef object table   # the id table of all one-hot vectors, or None until it is needed

    def __init__(self, *_, **__):
        cdef frnn_shape one = self.shape
        cdef unsigned forms
        if self.content is not None:
            raise TypeError("weights that are packed already")
        one.steps = one.batch = 1
        forms = frnn_form_of(&one)
        self.content = (self.pack(&self.weights, forms, None), forms)
        self.weights.w_ih = self.weights.w_hh = self.weights.w_hr = NULL
        self.held = self.held[2:4] + self.held[5:]

    cdef cnp.ndarray pack(self, const frnn_weights *weights, unsigned forms, like):
        """A new buffer with these matrices; packed by the instruction set of the buffer `like`, unless that is None."""
        cdef size_t needed = known(frnn_packed_size(&self.shape, forms), &self.shape)
        cdef frnn_pack_call call
        cdef interruption interrupted = poll_function()
        buffer = np.empty(needed, np.uint8)
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
        weights.w_ih = dense(w_ih, s.dtype, gate_rows(s), s.input)
        weights.w_hh = dense(w_hh, s.dtype, recurrent_rows(s), features_of(s))
        weights.w_hr = dense(w_hr, s.dtype, s.projected, s.hidden)
        return self.pack(&weights, forms, self.content[0])

    def matrices(self):
        """w_ih, w_hh and w_hr as new arrays; None for one that the cell does not have."""
        cdef const frnn_shape *s = &self.shape
        cdef void *to[3]
        cdef const void *buffer
        cdef interruption interrupted = poll_function()
        content = self.content[0]
        buffer = boundary_of(content)
        dtype = np.float64 if s.dtype == FRNN_F64 else np.float32
        w_ih = np.empty((gate_rows(s), s.input), dtype)
        w_hh = np.empty((recurrent_rows(s), features_of(s)), dtype) if recurrent_rows(s) else None
        w_hr = np.empty((s.projected, s.hidden), dtype) if s.projected else None
        to[0] = dense(w_ih, s.dtype, gate_rows(s), s.input, True)
        to[1] = dense(w_hh, s.dtype, recurrent_rows(s), features_of(s), True)
        to[2] = dense(w_hr, s.dtype, s.projected, s.hidden, True)
        with nogil:
            finished(frnn_unpack(s, buffer, to[0], to[1], to[2], interrupted))
        return w_ih, w_hh, w_hr

    cdef cnp.ndarray in_forms(self, unsigned forms):
        """The buffer, which has W_ih at least in these forms. It stays valid as long as the caller refers to it."""
        if forms & ~<unsigned>self.content[1]:
            with packing_lock:
                forms |= <unsigned>self.content[1]
                if forms != <unsigned>self.content[1]:
                    self.content = (self.repacked(forms), forms)
        return self.content[0]

    cdef cnp.ndarray one_hot_table(self):
        """The id table of all one-hot vectors of x, a byte buffer."""
        cdef frnn_id_table_call call
        cdef interruption interrupted
        cdef size_t needed
        if self.table is None:
            with packing_lock:
                if self.table is None:
                    interrupted = poll_function()
                    call = table_of(self, None, None, self.shape.input)
                    needed = known(frnn_id_table_size(&call.shape, call.count), &call.shape)
                    table, packed = np.empty(needed, np.uint8), self.content[0]
                    if not <unsigned>self.content[1] & FRNN_FOR_PRODUCTS:
                        packed = self.repacked(FRNN_FOR_PRODUCTS)
                    call.table, call.packed = aligned(table, needed), boundary_of(packed)
                    with nogil:
                        finished(frnn_make_id_table(&call, interrupted))
                    self.table = table
        return self.table

    @property
    def nbytes(self):
        """The bytes of everything that is there now."""
        nbytes = 0
        for array in (self.content[0], self.table, *self.held):
            nbytes += 0 if array is None else array.nbytes
        return nbytes
