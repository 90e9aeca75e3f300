# _stepper.pxi - a part of _core.pyx: a stack of layers one step at a time, all addresses taken before.
cdef int passed() except -1:
    """Raises the exception that a signal's handler has left, if there is one."""
    return -1 if PyErr_Occurred() != NULL else 0


cdef extern from "<stdatomic.h>" nogil:
    ctypedef struct atomic_flag:
        pass
    bint atomic_flag_test_and_set(atomic_flag *)
    void atomic_flag_clear(atomic_flag *)


cdef enum:
    POLL_AFTER = 10000000  # multiply-adds of one gate: less than 10 ms


cdef class Stepper:
    """One step of a stack of layers, again and again: weights packed once, addresses taken once.

    layers: a list of (cell, weights, packed), from the lowest up, packed being the caller's memory; state: a tuple of
    (layers, batch, hidden) arrays, in and out.
    outputs: a (batch, hidden) array for each layer's output; the last one's where `out` overlaps x.
    table: None, or what `tabulate` made for `count` ids. Then x is ids, and the lowest layer's w_ih has no columns.

    All calls work in the same buffers, so one that comes in during another, from another thread or from a signal's
    handler, raises RuntimeError; `claim` and `release` keep steps away for as long.
    """
    cdef frnn_forward_call *calls
    cdef char *plans  # one for each call
    cdef int count, dtype
    cdef int64_t batch, input, hidden  # features of x and of h
    cdef int64_t ids  # that there are; -1 where x has features
    cdef list kept
    cdef char *spare
    cdef size_t x_bytes, y_bytes
    cdef int64_t steps_between  # between two polls for interrupts
    cdef atomic_flag claimed  # by whoever steps it now
    cdef int64_t *own_ids  # (batch,): those of a step, which nobody else can write to

    def __cinit__(self, list layers not None, int64_t batch, tuple state not None, work, list outputs not None,
                  table=None, int64_t count=-1):
        cdef frnn_forward_call *call
        cdef frnn_pack_call packing
        cdef unsigned form
        cdef cnp.ndarray w_ih
        cdef int64_t element
        cdef int i
        atomic_flag_clear(&self.claimed)
        self.own_ids = NULL
        self.plans = NULL
        self.count = <int>len(layers)
        self.batch = batch
        self.ids = -1 if table is None else count
        self.kept = [layers, state, work, outputs, table]
        if self.count < 1 or len(outputs) != self.count:
            raise ValueError("layers and their outputs do not agree")
        self.calls = <frnn_forward_call *>PyMem_Malloc(self.count * sizeof(frnn_forward_call))
        self.plans = <char *>PyMem_Malloc(self.count * frnn_plan_size())
        if self.calls == NULL or self.plans == NULL:
            raise MemoryError()
        memset(self.calls, 0, self.count * sizeof(frnn_forward_call))
        if table is not None:
            self.own_ids = <int64_t *>PyMem_Malloc(<size_t>max(batch, 1) * sizeof(int64_t))
            if self.own_ids == NULL:
                raise MemoryError()
        for i, (cell, weights, packed) in enumerate(layers):
            call = &self.calls[i]
            w_ih = matrix_of(tuple_of(weights)[0])
            call.shape.cell = cell_of(cell)
            call.shape.dtype = dtype_of(w_ih)
            call.shape.steps = 1
            call.shape.batch = batch
            call.shape.input = w_ih.shape[1]
            size_units(&call.shape, weights)
            call.weights = weights_of(&call.shape, weights)
            call.variant = variant_of(&call.shape, weights)
            if i == 0 and table is not None:
                if call.shape.input != 0 or count < 0:
                    raise ValueError("ids, and an input besides")
                call.shape.has_ids = 1
                call.ids.table = aligned(table, known(frnn_id_table_size(&call.shape, count)))
            form = frnn_form_of(&call.shape)
            packing = packing_of(call, form, aligned(packed, frnn_packed_size(&call.shape, form)))
            call.packed = packing.packed
            call.work = aligned(work, frnn_forward_size(&call.shape))
            call.first = state_of(&call.shape, state, i, True)
            call.last = call.first
            if i > 0:
                alike(&call.shape, &self.calls[0].shape)
                if call.shape.input != features_of(&call.shape):
                    raise ValueError("a layer's input is not the output of the one below")
                call.x.data = dense(array_of(outputs[i - 1]), call.shape.dtype, batch, call.shape.input, True)
                call.x.row = call.shape.input * w_ih.itemsize
                self.calls[i - 1].y = call.x
            frnn_pack(&packing, 1, NULL)
            call.plan = self.plans + i * frnn_plan_size()
            frnn_plan(&call.shape, <void *>call.plan)
        self.dtype = self.calls[0].shape.dtype
        self.input = self.calls[0].shape.input
        self.hidden = features_of(&self.calls[0].shape)
        element = 4 if self.dtype == 0 else 8
        self.x_bytes = <size_t>(batch * self.input * element)
        self.y_bytes = <size_t>(batch * self.hidden * element)
        self.calls[0].x.row = self.input * element
        self.calls[self.count - 1].y.row = self.hidden * element
        self.steps_between = 1 + POLL_AFTER // (batch * self.count * self.hidden * (self.hidden + self.input) + 1)
        self.spare = <char *>dense(array_of(outputs[self.count - 1]), self.dtype, batch, self.hidden, True)
        if self.ids >= 0:
            self.x_bytes = <size_t>batch * sizeof(int64_t)

    def __dealloc__(self):
        PyMem_Free(self.calls)
        PyMem_Free(self.plans)
        PyMem_Free(self.own_ids)

    cdef int take(self) except -1:
        if atomic_flag_test_and_set(&self.claimed):
            raise RuntimeError(
                "another thread is stepping this stream, or the code that a signal's handler has interrupted: "
                "give each thread a stream of its own, or let them take turns"
            )
        return 0

    def alone(self, function):
        """function(), while no step is taken; RuntimeError where somebody else steps or is alone.

        In C, for a signal's handler may raise between any two calls of Python."""
        self.take()
        try:
            return function()
        finally:
            atomic_flag_clear(&self.claimed)

    cdef bint fits(self, given, wanted, int before) noexcept:
        """Whether x and out are arrays (of no subclass, whose elements might mean more), dense, with `before` axes and
        then (batch, input) and (batch, hidden)."""
        if not cnp.PyArray_CheckExact(given) or not cnp.PyArray_CheckExact(wanted):
            return False
        cdef cnp.ndarray x = <cnp.ndarray>given, out = <cnp.ndarray>wanted
        cdef int number = cnp.NPY_FLOAT32 if self.dtype == 0 else cnp.NPY_FLOAT64
        cdef bint of_ids = self.ids >= 0
        return (x.descr.type_num == (cnp.NPY_INT64 if of_ids else number)
                and x.ndim == before + (1 if of_ids else 2) and (of_ids or x.shape[before + 1] == self.input)
                and out.descr.type_num == number and out.ndim == before + 2
                and x.shape[before] == self.batch
                and out.shape[before] == self.batch and out.shape[before + 1] == self.hidden
                and cnp.PyArray_ISCARRAY_RO(x) and cnp.PyArray_ISCARRAY(out))

    cdef bint are_ids(self, cnp.ndarray x) noexcept:
        """Whether a dense x holds nothing but ids that there are, or features."""
        cdef const int64_t *ids = <const int64_t *>cnp.PyArray_DATA(x)
        cdef int64_t i
        for i in range(cnp.PyArray_SIZE(x) if self.ids >= 0 else 0):
            if not 0 <= ids[i] < self.ids:
                return False
        return True

    cdef bint take_ids(self, const int64_t *ids) noexcept nogil:
        """Copies a step's ids, for their owner may change them at any time; whether they are in range."""
        cdef int64_t i
        memcpy(self.own_ids, ids, <size_t>self.batch * sizeof(int64_t))
        for i in range(self.batch):
            if not 0 <= self.own_ids[i] < self.ids:
                return False
        return True

    cdef int advance(self, char *x, char *y) except -1 nogil:
        """One step of all layers, from dense rows to dense rows that do not overlap them."""
        cdef int i
        if self.ids >= 0:
            self.calls[0].ids.numbers = <const int64_t *>x
        else:
            self.calls[0].x.data = x
        self.calls[self.count - 1].y.data = y
        for i in range(self.count):
            frnn_forward(&self.calls[i], 1, NULL)
        return 0

    def step(self, given, wanted):
        """From x (batch, input), or ids (batch,), to out (batch, hidden). False, with nothing done, where either does
        not fit."""
        if not self.fits(given, wanted, 0):
            return False
        cdef cnp.ndarray x = <cnp.ndarray>given, out = <cnp.ndarray>wanted
        self.take()
        # A layer reads x while it writes y, so where the two overlap y comes by way of the spare array.
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef bint disjoint = source + self.x_bytes <= target or target + self.y_bytes <= source
        try:
            if self.ids >= 0:
                if not self.take_ids(<const int64_t *>source):
                    return False
                source, disjoint = <char *>self.own_ids, True
            with nogil:
                self.advance(source, target if disjoint else self.spare)
                if not disjoint:
                    memcpy(target, self.spare, self.y_bytes)
        finally:
            atomic_flag_clear(&self.claimed)
        return True

    def feed(self, given, wanted):
        """Steps from x (steps, batch, input), or ids, to out (steps, batch, hidden). False, with nothing done, where
        either does not fit or the two overlap. Nobody else may write to ids meanwhile. An exception that a signal's
        handler raises ends it after some step."""
        if not self.fits(given, wanted, 1):
            return False
        cdef cnp.ndarray x = <cnp.ndarray>given, out = <cnp.ndarray>wanted
        if x.shape[0] != out.shape[0] or not self.are_ids(x):
            return False
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef int64_t t, steps = x.shape[0], until_poll = self.steps_between
        cdef interruption interrupted = poll_function()
        if source + <size_t>steps * self.x_bytes > target and target + <size_t>steps * self.y_bytes > source:
            return False
        self.take()
        try:
            with nogil:
                for t in range(steps):
                    self.advance(source + t * self.x_bytes, target + t * self.y_bytes)
                    until_poll -= 1
                    if until_poll <= 0 and interrupted != NULL:
                        until_poll = self.steps_between
                        if interrupted():
                            break
            passed()
        finally:
            atomic_flag_clear(&self.claimed)
        return True
