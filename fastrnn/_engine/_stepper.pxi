# _stepper.pxi - a part of _core.pyx: it runs a stack of layers step by step, with addresses that are taken once.
cdef int passed() except -1:
    """Raises the exception that a signal handler has set, if there is one."""
    return -1 if PyErr_Occurred() != NULL else 0


cdef extern from "<stdatomic.h>" nogil:
    ctypedef struct atomic_flag:
        pass
    bint atomic_flag_test_and_set(atomic_flag *)
    void atomic_flag_clear(atomic_flag *)


cdef enum:
    POLL_AFTER = 10000000  # multiply-adds of one gate: less than 10 ms
    ROWS_AT_ONCE = 4096  # of a chunk's y: they stay near
    SHORT = 100000  # multiply-adds of some 4 us. A shorter call keeps the GIL: if others took it, the call would
    #                 wait for them longer than it runs


cdef double work_of(list layers) except -1:
    """Multiply-adds of a step of one row through all of these weights."""
    cdef AnyWeights one
    cdef double work = 0
    for one in layers:
        work += <double>(gate_rows(&one.shape)) * (one.shape.input + features_of(&one.shape))
    return work


# The workspace of a chunk of steps: two outputs, which layers write in turn; `outputs` has their offsets.
cdef struct chunk_room:
    size_t outputs[2]
    size_t nbytes
    char *begin


cdef class Stepper:
    """Runs a stack of layers, one step per call. It takes all addresses when it is made.

    layers: the `Packed` of each layer, from the lowest up. state: a tuple of (layers, batch, hidden) arrays, read and
    written. work: a byte buffer of `step_size` bytes. outputs: a (batch, hidden) array for each layer's output; the
    last one is used if `out` overlaps x. workspaces: a `Workspaces`. of_ids: x is one-hot ids.

    All calls use the same buffers. So a call that comes during another one, from another thread or from a signal
    handler, raises RuntimeError. `alone` keeps steps away in the same way.
    """
    cdef frnn_forward_call *calls
    cdef char *plans  # one for each call
    cdef int count, dtype
    cdef int64_t batch, most_rows  # of a step, and the most of them
    cdef int64_t input, hidden  # features of x and of h
    cdef object work
    cdef int64_t ids  # the number of ids; -1 if x has features
    cdef list referenced, layers, packed  # referenced: what C has addresses in; packed: the buffers of each layer
    cdef list from_pickles  # those of the layers whose buffers somebody else may have
    cdef Workspaces workspaces
    cdef char *last_output  # of the uppermost layer, if it cannot go to `out` at once
    cdef size_t x_bytes, y_bytes
    cdef int64_t steps_between  # between two polls for interrupts
    cdef bint is_short  # a step keeps the GIL
    cdef atomic_flag claimed  # set while a call uses the buffers
    cdef void *itself  # its own address, by which `frnn_stream_step` knows it
    cdef int64_t *own_ids  # (batch,): a copy of a step's ids, to which no other thread can write
    cdef int64_t *own_rows  # (2, batch): a copy of a call's row indices; for each row the last call that named it
    cdef int64_t row_call  # the number of calls with rows until now

    def __cinit__(self, list layers not None, int64_t batch, tuple state not None, work, list outputs not None,
                  Workspaces workspaces not None, bint of_ids=False):
        cdef frnn_forward_call *call
        cdef Packed one
        cdef int64_t element
        cdef int i
        atomic_flag_clear(&self.claimed)
        self.itself = NULL
        self.own_ids = self.own_rows = NULL
        self.plans = NULL
        self.count = <int>len(layers)
        self.most_rows = batch
        self.ids = -1
        self.referenced, self.layers, self.packed, self.work = [state, tuple(outputs)], list(layers), [], work
        self.from_pickles = [layer for layer in layers if (<Packed?>layer).present()[2] is not None]
        for _ in layers:
            self.packed.append([])
        self.workspaces = workspaces
        if self.count < 1 or len(outputs) != self.count:
            raise ValueError("layers and their outputs do not agree")
        one = layers[0]
        self.dtype = one.shape.dtype
        element = 4 if self.dtype == FRNN_F32 else 8
        self.calls = <frnn_forward_call *>PyMem_Malloc(self.count * sizeof(frnn_forward_call))
        self.plans = <char *>PyMem_Malloc(self.count * frnn_plan_size())
        if self.calls == NULL or self.plans == NULL:
            raise MemoryError()
        memset(self.calls, 0, self.count * sizeof(frnn_forward_call))
        if of_ids:
            self.own_ids = <int64_t *>PyMem_Malloc(<size_t>max(batch, 1) * sizeof(int64_t))
            if self.own_ids == NULL:
                raise MemoryError()
        for i in range(self.count):
            one = layers[i]
            call = &self.calls[i]
            call.shape = one.shape
            call.shape.steps = 1
            call.shape.batch = batch
            call.weights = one.weights
            call.variant = one.variant
            if i == 0 and of_ids:
                self.ids = call.ids.count = call.shape.input
                call.shape.input = 0
                call.shape.has_ids = 1
            call.first = state_of(&call.shape, state, i, True)
            call.last = call.first
            if i > 0:
                if (call.shape.cell != self.calls[0].shape.cell or call.shape.hidden != self.calls[0].shape.hidden
                        or call.shape.projected != self.calls[0].shape.projected or call.shape.dtype != self.dtype):
                    raise ValueError("layers of different cells or sizes")
                if call.shape.input != features_of(&call.shape):
                    raise ValueError("a layer's input is not the output of the one below")
                call.x.data = dense(array_of(outputs[i - 1]), call.shape.dtype, batch, call.shape.input, True)
                call.x.row = call.shape.input * element
                self.calls[i - 1].y = call.x
        self.input = self.calls[0].shape.input
        self.hidden = features_of(&self.calls[0].shape)
        self.calls[0].x.row = self.input * element
        self.calls[self.count - 1].y.row = self.hidden * element
        self.last_output = <char *>dense(array_of(outputs[self.count - 1]), self.dtype, batch, self.hidden, True)
        self.fit(batch)
        self.itself = <void *>self

    cdef int fit(self, int64_t batch) except -1:
        """Prepares steps of so many rows, which the buffers hold."""
        cdef int64_t element = 4 if self.dtype == FRNN_F32 else 8
        cdef frnn_forward_call *call
        cdef list held
        cdef size_t needed
        cdef int i
        self.batch = -1  # until all fits
        if batch < self.most_rows:  # a layout for fewer rows may take more room
            needed = step_size(self.layers, batch, self.ids >= 0)
            if needed > <size_t>self.work.size:
                self.work = np.empty(needed, np.uint8)
        for i in range(self.count):
            call = &self.calls[i]
            call.shape.batch = batch
            held = []
            take_packed(call, self.layers[i], False, held)
            self.packed[i] = held
            call.work = aligned(self.work, known(frnn_forward_size(&call.shape), &call.shape))
            call.plan = self.plans + i * frnn_plan_size()
            frnn_plan(&call.shape, <void *>call.plan)
        self.x_bytes = <size_t>(batch * self.input * element)
        self.y_bytes = <size_t>(batch * self.hidden * element)
        self.steps_between = 1 + POLL_AFTER // (batch * self.count * self.hidden * (self.hidden + self.input) + 1)
        self.is_short = work_of(self.layers) * batch < SHORT
        if self.ids >= 0:
            self.x_bytes = <size_t>batch * sizeof(int64_t)
        self.batch = batch
        return 0

    def __dealloc__(self):
        self.itself = NULL
        PyMem_Free(self.calls)
        PyMem_Free(self.plans)
        PyMem_Free(self.own_ids)
        PyMem_Free(self.own_rows)

    cdef int take(self) except -1:
        for layer in self.from_pickles:
            (<Packed>layer).present()  # ValueError if somebody wrote to it
        if atomic_flag_test_and_set(&self.claimed):
            raise RuntimeError(
                "another thread is stepping this stream, or the code that a signal's handler has interrupted: "
                "give each thread a stream of its own, or let them take turns"
            )
        return 0

    def alone(self, function):
        """Calls function() while no step can run. RuntimeError if another call of this stepper is running.

        This is in C, because a signal handler may raise between any two calls of Python code."""
        self.take()
        try:
            return function()
        finally:
            atomic_flag_clear(&self.claimed)

    def replaced(self, function):
        """Does what `alone` does. If function() returns, all later calls of this stepper raise RuntimeError: a call
        that another thread has begun with it must not write to a state that nobody reads any more."""
        self.take()
        cdef bint returned = False
        try:
            result = function()
            returned = True
        finally:
            if not returned:
                atomic_flag_clear(&self.claimed)
        return result

    cdef bint fits(self, given, wanted, int before, int64_t features) noexcept:
        """Returns whether x and out are dense arrays with `before` axes and then (batch, input), or (batch,) for ids,
        and (batch, features). No subclass of ndarray fits: a masked array, say, is more than its elements."""
        if not cnp.PyArray_CheckExact(given) or not cnp.PyArray_CheckExact(wanted):
            return False
        cdef cnp.ndarray x = <cnp.ndarray>given, out = <cnp.ndarray>wanted
        cdef int number = cnp.NPY_FLOAT32 if self.dtype == FRNN_F32 else cnp.NPY_FLOAT64
        cdef bint of_ids = self.ids >= 0
        return (x.descr.type_num == (cnp.NPY_INT64 if of_ids else number)
                and x.ndim == before + (1 if of_ids else 2) and (of_ids or x.shape[before + 1] == self.input)
                and out.descr.type_num == number and out.ndim == before + 2
                and x.shape[before] == self.batch
                and out.shape[before] == self.batch and out.shape[before + 1] == features
                and cnp.PyArray_ISCARRAY_RO(x) and cnp.PyArray_ISCARRAY(out))

    cdef bint are_ids(self, cnp.ndarray x) noexcept:
        """Returns whether all elements of a dense x are known ids; True if x has features."""
        cdef const int64_t *ids = <const int64_t *>cnp.PyArray_DATA(x)
        cdef int64_t i
        for i in range(cnp.PyArray_SIZE(x) if self.ids >= 0 else 0):
            if not 0 <= ids[i] < self.ids:
                return False
        return True

    cdef bint take_ids(self, const int64_t *ids) noexcept nogil:
        """Copies a step's ids, because their owner may change them at any time. Returns whether all are known ids."""
        cdef int64_t i
        memcpy(self.own_ids, ids, <size_t>self.batch * sizeof(int64_t))
        for i in range(self.batch):
            if not 0 <= self.own_ids[i] < self.ids:
                return False
        return True

    cdef int advance(self, char *x, char *y) except -1 nogil:
        """Runs one step of all layers, from a dense x (batch, input), or ids, to a dense y that does not overlap it."""
        cdef int i
        if self.ids >= 0:
            self.calls[0].ids.numbers = <const int64_t *>x
        else:
            self.calls[0].x.data = x
        self.calls[self.count - 1].y.data = y
        for i in range(self.count):
            finished(frnn_forward(&self.calls[i], 1, NULL))
            self.calls[i].turned = 1 - self.calls[i].turned
        return 0

    cdef int advance_to(self, char *x, char *y, bint disjoint) except -1 nogil:
        """Does the same to a y that may overlap x."""
        self.advance(x, y if disjoint else self.last_output)
        if not disjoint:
            memcpy(y, self.last_output, self.y_bytes)
        return 0

    def step(self, given, wanted):
        """Runs a step from x (batch, input), or ids (batch,), to out (batch, hidden). Returns False, with nothing done,
        if either does not fit."""
        if not self.fits(given, wanted, 0, self.hidden):
            return False
        cdef cnp.ndarray x = <cnp.ndarray>given, out = <cnp.ndarray>wanted
        self.take()
        # A layer reads x while it writes y. So if the two overlap, y is written elsewhere and copied.
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef bint disjoint = source + self.x_bytes <= target or target + self.y_bytes <= source
        try:
            if self.ids >= 0:
                if not self.take_ids(<const int64_t *>source):
                    return False
                source, disjoint = <char *>self.own_ids, True
            if self.is_short:
                self.advance_to(source, target, disjoint)
            else:
                with nogil:
                    self.advance_to(source, target, disjoint)
        finally:
            atomic_flag_clear(&self.claimed)
        return True

    def handle(self):
        """The number by which `frnn_stream_step` of kernels.pxd knows this stepper, while it lives."""
        return <uintptr_t>self.itself

    cdef int step_at(self, char *x, size_t x_bytes, char *y, size_t y_bytes) noexcept nogil:
        """Does what `step` does with arrays of these addresses and bytes. Returns a status of kernels.pxd."""
        cdef size_t element = 4 if self.dtype == FRNN_F32 else 8
        cdef size_t element_of_x = sizeof(int64_t) if self.ids >= 0 else element
        cdef bint disjoint = x + x_bytes <= y or y + y_bytes <= x
        if (x == NULL or y == NULL or x_bytes != self.x_bytes or y_bytes != self.y_bytes
                or <uintptr_t>x % element_of_x or <uintptr_t>y % element):
            return FRNN_INVALID
        if atomic_flag_test_and_set(&self.claimed):
            return FRNN_BUSY
        cdef int status = 0
        if self.ids >= 0:
            if self.take_ids(<const int64_t *>x):
                x, disjoint = <char *>self.own_ids, True
            else:
                status = FRNN_INVALID
        if status == 0:
            self.advance_to(x, y, disjoint)
        atomic_flag_clear(&self.claimed)
        return status

    def step_with_head(self, Dense head not None, given, wanted):
        """Does what `step` does, and writes the outputs of a dense layer for y to out (batch, outputs), which may
        overlap x. No other step can run between the two."""
        if (not self.fits(given, wanted, 0, head.shape.outputs)
                or head.shape.dtype != self.dtype or head.shape.inputs != self.hidden):
            return False
        cdef char *source = <char *>cnp.PyArray_DATA(<cnp.ndarray>given)
        cdef frnn_dense_call call
        call.packed, call.rows = unchanged(head.packed, head.header), self.batch
        call.x, call.y = self.last_output, cnp.PyArray_DATA(<cnp.ndarray>wanted)
        self.take()
        try:
            if self.ids >= 0:
                if not self.take_ids(<const int64_t *>source):
                    return False
                source = <char *>self.own_ids
            if self.is_short and head.work_of(self.batch) < SHORT:
                self.advance(source, self.last_output)
                frnn_dense(&call, NULL)
            else:
                with nogil:
                    self.advance(source, self.last_output)
                    frnn_dense(&call, NULL)
        finally:
            atomic_flag_clear(&self.claimed)
        return True

    def step_some(self, Stepper of_rows not None, cnp.ndarray rows not None, given, wanted, bint chunk,
                  Dense head=None):
        """Runs a step, or a chunk of them, of the rows of these indices alone, with `of_rows`: a stepper that nobody
        else uses, for the same layers and as many rows at most, whose state is overwritten. x and out have the named
        rows. A step may have a head.

        Returns False, with nothing done, if x or out does not fit, as `step` and `feed` do, and if a row is not there
        or is named twice. If a signal handler raises, the state does not change."""
        cdef bint done = False
        if (of_rows is self or of_rows.count != self.count or of_rows.most_rows < self.most_rows
                or of_rows.layers != self.layers):
            raise ValueError("a stepper of the same layers expected")
        self.take()
        try:
            if not self.take_rows(rows):
                return False
            of_rows.take()
            try:
                if of_rows.batch != rows.shape[0]:
                    of_rows.fit(rows.shape[0])
                self.move_rows(of_rows, False)
            finally:
                atomic_flag_clear(&of_rows.claimed)
            if chunk:
                done = of_rows.feed(given, wanted)
            else:
                done = of_rows.step(given, wanted) if head is None else of_rows.step_with_head(head, given, wanted)
            if done:
                self.move_rows(of_rows, True)
        finally:
            atomic_flag_clear(&self.claimed)
        return done

    cdef bint take_rows(self, cnp.ndarray rows) except -1:
        """Copies the indices of rows. Returns False if they are no indices of different rows, at least one."""
        cdef int64_t i, n, row
        cdef const int64_t *indices
        if not (rows.ndim == 1 and rows.descr.type_num == cnp.NPY_INT64 and cnp.PyArray_ISCARRAY_RO(rows)):
            return False
        n, indices = rows.shape[0], <const int64_t *>cnp.PyArray_DATA(rows)
        if not 1 <= n <= self.most_rows:
            return False
        if self.own_rows == NULL:
            self.own_rows = <int64_t *>PyMem_Malloc(2 * <size_t>self.most_rows * sizeof(int64_t))
            if self.own_rows == NULL:
                raise MemoryError()
            memset(self.own_rows, 0, 2 * <size_t>self.most_rows * sizeof(int64_t))
        self.row_call += 1
        for i in range(n):
            row = indices[i]
            if not 0 <= row < self.most_rows or self.own_rows[self.most_rows + row] == self.row_call:
                return False
            self.own_rows[self.most_rows + row] = self.row_call
            self.own_rows[i] = row
        return True

    cdef void move_rows(self, Stepper of_rows, bint back) noexcept:
        """Copies the state of the rows of `own_rows` to the first rows of another stepper, or from there."""
        cdef int64_t j
        cdef size_t nbytes
        cdef char *mine
        cdef char *other
        cdef int i, k
        for i in range(self.count):
            for k in range(frnn_facts_of(self.calls[i].shape.cell).states):
                nbytes = <size_t>(numbers_of_state(&self.calls[i].shape, k) * (4 if self.dtype == FRNN_F32 else 8))
                other = <char *>of_rows.calls[i].first.of[k]
                for j in range(of_rows.batch):
                    mine = <char *>self.calls[i].first.of[k] + <size_t>self.own_rows[j] * nbytes
                    if back:
                        memcpy(mine, other + <size_t>j * nbytes, nbytes)
                    else:
                        memcpy(other + <size_t>j * nbytes, mine, nbytes)

    def feed(self, given, wanted):
        """Runs steps from x (steps, batch, input), or ids, to out (steps, batch, hidden). Returns False, with nothing
        done, if either does not fit or the two overlap. No other thread may write to ids meanwhile. If a signal handler
        raises, the call ends after the steps that are running; the state is that after them."""
        if not self.fits(given, wanted, 1, self.hidden):
            return False
        cdef cnp.ndarray x = <cnp.ndarray>given, out = <cnp.ndarray>wanted, work
        if x.shape[0] != out.shape[0] or not self.are_ids(x):
            return False
        cdef char *source = <char *>cnp.PyArray_DATA(x)
        cdef char *target = <char *>cnp.PyArray_DATA(out)
        cdef int64_t done = 0, steps = x.shape[0], at_once
        cdef interruption interrupted = poll_function()
        cdef chunk_room room
        if source + <size_t>steps * self.x_bytes > target and target + <size_t>steps * self.y_bytes > source:
            return False
        at_once = max(1, min(steps, min(self.steps_between, ROWS_AT_ONCE // self.batch)))
        self.take()
        try:
            self.lay_room(&room, at_once, steps % at_once)
            work = self.workspaces.lend(room.nbytes)
            room.begin = <char *>aligned(work, room.nbytes)
            with nogil:
                while done < steps:
                    at_once = min(at_once, steps - done)
                    self.advance_all(&room, at_once, source + done * self.x_bytes, target + done * self.y_bytes)
                    done += at_once
                    if interrupted != NULL and interrupted():
                        break
            passed()
            self.workspaces.take_back(work)
        finally:
            atomic_flag_clear(&self.claimed)
        return True

    cdef int lay_room(self, chunk_room *room, int64_t at_once, int64_t others) except -1:
        """Lays out a workspace for so many steps at once, or others. Packs the weights in the form that they read."""
        cdef int i
        cdef frnn_forward_call call = self.calls[0]
        cdef list held
        cdef size_t nbytes = 0
        for i in range(self.count):
            call = self.calls[i]
            call.shape.steps = others
            nbytes = max(nbytes, known(frnn_forward_size(&call.shape), &call.shape))
            call.shape.steps = at_once
            nbytes = max(nbytes, known(frnn_forward_size(&call.shape), &call.shape))
            held = []
            take_packed(&call, self.layers[i], False, held)
            self.calls[i].packed, self.calls[i].ids.table = call.packed, call.ids.table
            self.packed[i] = held
        room.nbytes = 0
        taken(&room.nbytes, nbytes, &call.shape)
        for i in range(2):
            room.outputs[i] = taken(&room.nbytes, <size_t>at_once * self.y_bytes + ALIGN, &call.shape)
        room.nbytes += ALIGN
        return 0

    cdef int advance_all(self, const chunk_room *room, int64_t steps, char *x, char *y) except -1 nogil:
        """Does `steps` times what `advance` does, layer by layer: x and y are dense, with an axis of steps before."""
        cdef frnn_forward_call call
        cdef int i
        if steps == 1:
            return self.advance(x, y)
        for i in range(self.count):
            call = self.calls[i]
            call.shape.steps = steps
            call.plan = NULL
            call.work = room.begin
            if i == 0 and self.ids >= 0:
                call.ids.numbers, call.ids.step = <const int64_t *>x, self.batch
            else:
                call.x.data = x if i == 0 else room.begin + room.outputs[(i - 1) & 1]
                call.x.step = self.batch * call.x.row
            call.y.data = y if i == self.count - 1 else room.begin + room.outputs[i & 1]
            call.y.step = self.batch * call.y.row
            finished(frnn_forward(&call, 1, NULL))
            self.calls[i].turned = (self.calls[i].turned + steps) & 1
        return 0
