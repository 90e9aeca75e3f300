# _stepper.pxi - a part of _core.pyx: a stack of layers one step at a time, all addresses taken before.
cdef int passed() except -1:
    """Raises the exception that a signal's handler has left, if there is one."""
    return -1 if PyErr_Occurred() != NULL else 0


cdef enum:
    LOOK_AFTER = 10000000  # multiply-adds of one gate: less than 10 ms


cdef class Stepper:
    """One step of a stack of layers, again and again: weights packed once, addresses taken once.

    layers: a list of (cell, weights, packed), from the lowest up, packed being the caller's memory; state: a tuple of
    (layers, batch, hidden) arrays, in and out.
    outputs: a (batch, hidden) array for each layer's output; the last one's where `out` overlaps x.
    table: None, or what `tabulate` made for `count` ids: x is such ids then, and the lowest layer's w_ih has no columns.
    """
    cdef frnn_forward_call *calls
    cdef int count, dtype
    cdef int64_t batch, input, hidden  # features of x and of h
    cdef int64_t ids  # that there are; -1 where x has features
    cdef list kept
    cdef char *spare
    cdef size_t x_bytes, y_bytes
    cdef int64_t steps_between  # two looks whether to stop

    def __cinit__(self, list layers, int64_t batch, tuple state, work, list outputs, table=None, int64_t count=-1):
        cdef frnn_forward_call *call
        cdef cnp.ndarray w_ih
        cdef int i
        self.count = len(layers)
        self.batch = batch
        self.ids = -1 if table is None else count
        self.kept = [layers, state, work, outputs, table]
        if self.count < 1 or len(outputs) != self.count:
            raise ValueError("layers and their outputs do not agree")
        self.calls = <frnn_forward_call *>PyMem_Malloc(self.count * sizeof(frnn_forward_call))
        if self.calls == NULL:
            raise MemoryError()
        memset(self.calls, 0, self.count * sizeof(frnn_forward_call))
        for i, (cell, weights, packed) in enumerate(layers):
            call = &self.calls[i]
            w_ih = weights[0]
            gates_of(cell)
            call.shape.cell = cell
            call.shape.dtype = dtype_of(w_ih)
            call.shape.steps = 1
            call.shape.batch = batch
            call.shape.input = w_ih.shape[1]
            size_units(&call.shape, weights)
            call.weights = weights_of(&call.shape, gates_of(cell), weights)
            call.variant = variant_of(&call.shape, weights)
            if i == 0 and table is not None:
                if call.shape.input != 0 or count < 0:
                    raise ValueError("ids, and an input besides")
                call.shape.tokens = 1
                call.tokens.table = aligned(table, known(frnn_table_size(&call.shape, count)))
            call.packed = aligned(packed, frnn_packed_size(&call.shape))
            call.work = aligned(work, frnn_forward_size(&call.shape))
            call.first = state_of(&call.shape, state, i, True)
            call.last = call.first
            if i > 0:
                alike(&call.shape, &self.calls[0].shape)
                if call.shape.input != features_of(&call.shape):
                    raise ValueError("a layer's input is not the output of the one below")
                call.x.data = dense(outputs[i - 1], call.shape.dtype, batch, call.shape.input, True)
                call.x.row = call.shape.input * w_ih.itemsize
                self.calls[i - 1].y = call.x
            frnn_pack(call, 1, NULL)
        self.dtype = self.calls[0].shape.dtype
        self.input = self.calls[0].shape.input
        self.hidden = features_of(&self.calls[0].shape)
        self.calls[0].x.row = self.input * (<cnp.ndarray>outputs[0]).itemsize
        self.calls[self.count - 1].y.row = self.hidden * (<cnp.ndarray>outputs[0]).itemsize
        self.steps_between = 1 + LOOK_AFTER // (batch * self.count * self.hidden * (self.hidden + self.input) + 1)
        self.spare = <char *>dense(outputs[self.count - 1], self.dtype, batch, self.hidden, True)
        self.y_bytes = <size_t>(batch * self.hidden) * (<cnp.ndarray>outputs[0]).itemsize
        self.x_bytes = <size_t>(batch * self.input) * (<cnp.ndarray>outputs[0]).itemsize
        if self.ids >= 0:
            self.x_bytes = <size_t>batch * sizeof(int64_t)

    def __dealloc__(self):
        PyMem_Free(self.calls)

    cdef bint fits(self, cnp.ndarray x, cnp.ndarray out, int before) noexcept:
        """Whether x and out are dense, have `before` axes and then (batch, input) and (batch, hidden)."""
        cdef int number = cnp.NPY_FLOAT32 if self.dtype == 0 else cnp.NPY_FLOAT64
        return ((self.are_ids(x, before) if self.ids >= 0 else
                 x.descr.type_num == number and x.ndim == before + 2 and x.shape[before + 1] == self.input)
                and out.descr.type_num == number and out.ndim == before + 2
                and x.shape[before] == self.batch
                and out.shape[before] == self.batch and out.shape[before + 1] == self.hidden
                and cnp.PyArray_ISCARRAY_RO(x) and cnp.PyArray_ISCARRAY(out))

    cdef bint are_ids(self, cnp.ndarray x, int before) noexcept:
        """Whether x has `before` axes and then (batch,), of ids that there are."""
        cdef const int64_t *ids = <const int64_t *>cnp.PyArray_DATA(x)
        cdef int64_t i
        if x.descr.type_num != cnp.NPY_INT64 or x.ndim != before + 1 or not cnp.PyArray_ISCARRAY_RO(x):
            return False
        for i in range(cnp.PyArray_SIZE(x)):
            if not 0 <= ids[i] < self.ids:
                return False
        return True

    cdef int advance(self, char *x, char *y) except -1 nogil:
        """One step of all layers, from dense rows to dense rows apart from them."""
        cdef int i
        if self.ids >= 0:
            self.calls[0].tokens.ids = <const int64_t *>x
        else:
            self.calls[0].x.data = x
        self.calls[self.count - 1].y.data = y
        for i in range(self.count):
            frnn_forward(&self.calls[i], 1, NULL)
        return 0

    def step(self, cnp.ndarray x not None, cnp.ndarray out not None):
        """x (batch, input), or ids (batch,), to out (batch, hidden). False, with nothing done, where an array does not
        fit."""
        if not self.fits(x, out, 0):
            return False
        # A layer reads x while it writes y, so where the two overlap y comes by way of the spare array.
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef bint apart = source + self.x_bytes <= target or target + self.y_bytes <= source
        with nogil:
            self.advance(source, target if apart else self.spare)
            if not apart:
                memcpy(target, self.spare, self.y_bytes)
        return True

    def feed(self, cnp.ndarray x not None, cnp.ndarray out not None):
        """Steps from x (steps, batch, input), or ids, to out (steps, batch, hidden). False, with nothing done, where an
        array does not fit or the two overlap. An exception that a signal's handler raises ends it after some step."""
        if not self.fits(x, out, 1) or x.shape[0] != out.shape[0]:
            return False
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef int64_t t, steps = x.shape[0], until_look = self.steps_between
        cdef interruption interrupted = asked()
        if source + <size_t>steps * self.x_bytes > target and target + <size_t>steps * self.y_bytes > source:
            return False
        with nogil:
            for t in range(steps):
                self.advance(source + t * self.x_bytes, target + t * self.y_bytes)
                until_look -= 1
                if until_look <= 0 and interrupted != NULL:
                    until_look = self.steps_between
                    if interrupted():
                        break
        passed()
        return True
