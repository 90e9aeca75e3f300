# _runner.pxi - a part of _core.pyx: the short way of a call, for arguments that need no conversion.
#
# It must not know: rows that end early, ids, tapes.
cdef enum:
    AS_PACKING = 8  # steps of a row that take as long as packing the weights
cdef extern from *:
    """
    static int frnn_peek(const int *number) { return __atomic_load_n(number, __ATOMIC_RELAXED); }
    static void frnn_poke(int *number, int value) { __atomic_store_n(number, value, __ATOMIC_RELAXED); }
    """
    int frnn_peek(const int *)
    void frnn_poke(int *, int)

cdef double MOST_ELEMENTS = 2.0 ** 40  # certainly addressable; whoever wants more gets a check and a message


cdef class Runner:
    """Runs all layers of a stack in one call from Python.

    weights: the `Weights` of each pass, layer by layer. They are all `Packed`, or none is, and each call packs them.
    directions: of a layer, 1 or 2. reverse: whether a single direction is reversed. batch_first: whether x and y are
    (batch, steps, features). workspaces: a `Workspaces`.
    """
    cdef list weights
    cdef Workspaces workspaces
    cdef int directions, states, dtype, number  # `number`: NumPy's of the dtype
    cdef bint batch_first, reverse, packed
    cdef int64_t input, hidden, features, element
    cdef double work  # of one row and step
    cdef int turned  # where the last call ended: see frnn_forward_call. Any value will do, so threads may mix theirs

    def __cinit__(self, list weights not None, int directions, bint reverse, bint batch_first,
                  Workspaces workspaces not None):
        cdef AnyWeights one, lower
        cdef int i
        if not 1 <= directions <= FRNN_TOGETHER or not weights or len(weights) % directions:
            raise ValueError("the weights of one or two directions of each layer expected")
        self.weights, self.workspaces = list(weights), workspaces
        self.directions, self.reverse, self.batch_first = directions, reverse, batch_first
        self.work = work_of(weights)
        one = weights[0]
        self.packed = isinstance(one, Packed)
        self.dtype = one.shape.dtype
        self.states = frnn_facts_of(one.shape.cell).states
        self.number = cnp.NPY_FLOAT64 if self.dtype == FRNN_F64 else cnp.NPY_FLOAT32
        self.element = 8 if self.dtype == FRNN_F64 else 4
        self.input, self.hidden, self.features = one.shape.input, one.shape.hidden, features_of(&one.shape)
        for i in range(<int>len(weights)):
            lower, one = weights[i // directions * directions], weights[i]
            alike(&one.shape, &lower.shape)
            lower = weights[0]
            if isinstance(one, Packed) != self.packed:
                raise ValueError("some weights packed and some not")
            if (one.shape.cell != lower.shape.cell or one.shape.hidden != self.hidden or one.shape.dtype != self.dtype
                    or one.shape.projected != lower.shape.projected
                    or one.shape.input != (self.input if i < directions else directions * self.features)):
                raise ValueError("layers of different cells or sizes")

    cdef int64_t numbers(self, int state) noexcept:
        return self.features if state == 0 else self.hidden

    cdef bint fits(self, a, int64_t first, int64_t second, int64_t third) noexcept:
        """Returns whether an object is a dense array of the dtype and of this shape, and no subclass of ndarray."""
        if not cnp.PyArray_CheckExact(a):
            return False
        cdef cnp.ndarray array = <cnp.ndarray>a
        return (array.descr.type_num == self.number and array.ndim == 3 and array.shape[0] == first
                and array.shape[1] == second and array.shape[2] == third and cnp.PyArray_ISCARRAY_RO(array))

    cdef cnp.ndarray array(self, int64_t first, int64_t second, int64_t third, bint zeros=False):
        """A new array, whose elements are zeros or anything."""
        cdef cnp.npy_intp sizes[3]
        sizes[0], sizes[1], sizes[2] = first, second, third
        return cnp.PyArray_ZEROS(3, sizes, self.number, 0) if zeros else cnp.PyArray_EMPTY(3, sizes, self.number, 0)

    cdef cnp.ndarray output(self, int64_t steps, int64_t batch):
        cdef int64_t width = self.directions * self.features
        return self.array(batch, steps, width) if self.batch_first else self.array(steps, batch, width)

    cdef tuple new_state(self, int64_t batch, bint zeros=False):
        cdef list parts = []
        cdef int i
        for i in range(self.states):
            parts.append(self.array(<int64_t>len(self.weights), batch, self.numbers(i), zeros))
        return tuple(parts)

    cdef frnn_sequence sequence(self, cnp.ndarray a, int64_t steps, int64_t batch, int64_t offset) noexcept:
        """A dense array of x or y, from an offset into its last axis on."""
        cdef frnn_sequence q
        cdef int64_t row = a.shape[2] * self.element
        q.data = <char *>cnp.PyArray_DATA(a) + offset * self.element
        q.step = row if self.batch_first else batch * row
        q.row = steps * row if self.batch_first else row
        return q

    cdef tuple first_state(self, state, int64_t batch):
        """The arrays of a state, zeros for None; None if one needs a conversion."""
        cdef int i, slots = <int>len(self.weights)
        cdef tuple parts
        if state is None:
            return self.new_state(batch, True)
        parts = (state,) if self.states == 1 else state if type(state) is tuple else ()
        if len(parts) != self.states:
            return None
        for i in range(self.states):
            if not self.fits(parts[i], slots, batch, self.numbers(i)):
                return None
        return parts

    def run(self, given, state, wanted):
        """Runs a call: x, a state or None, and an array for y or None. Returns y and the last state.

        Returns None, with nothing done, if an argument must be checked or converted first: if it is not dense, is of
        another type or dtype or shape, is empty, or if y overlaps another one."""
        cdef int64_t steps, batch, width = self.directions * self.features
        cdef cnp.ndarray x, y, source, target
        cdef tuple first, last
        cdef int i, layers = <int>len(self.weights) // self.directions
        if not cnp.PyArray_CheckExact(given) or (<cnp.ndarray>given).ndim != 3:
            return None
        x = <cnp.ndarray>given
        if x.shape[0] == 0 or x.shape[1] == 0 or self.input == 0:
            return None
        if not self.fits(x, x.shape[0], x.shape[1], self.input):
            return None
        steps, batch = (x.shape[1], x.shape[0]) if self.batch_first else (x.shape[0], x.shape[1])
        if <double>max(steps, len(self.weights)) * batch * width > MOST_ELEMENTS:
            return None
        first = self.first_state(state, batch)
        if first is None:
            return None
        if wanted is None:
            y = self.output(steps, batch)
        elif not self.fits(wanted, x.shape[0], x.shape[1], width) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>wanted):
            return None
        else:
            y = <cnp.ndarray>wanted
            for other in (x, *first):
                if overlap(y, <cnp.ndarray>other):
                    return None
        last = self.new_state(batch)
        source = x
        for i in range(layers):
            target = y if i == layers - 1 else self.output(steps, batch)
            self.run_layer(i * self.directions, steps, batch, source, target, first, last)
            source = target
        frnn_poke(&self.turned, <int>((frnn_peek(&self.turned) + steps) & 1))
        return y, last if self.states > 1 else last[0]

    cdef int run_layer(self, int slot, int64_t steps, int64_t batch, cnp.ndarray x, cnp.ndarray y, tuple first,
                       tuple last) except -1:
        """Runs the passes of one layer, from `slot` on."""
        cdef frnn_forward_call calls[2]
        cdef frnn_forward_call *call
        cdef frnn_pack_call packing[2]
        cdef interruption interrupted = poll_function()
        cdef size_t room = 0
        cdef size_t offsets[2][2]
        cdef int i, k, status
        cdef char *begin
        cdef AnyWeights one
        cdef list held = []
        cdef cnp.ndarray work
        memset(calls, 0, self.directions * sizeof(frnn_forward_call))
        for i in range(self.directions):
            one, call = self.weights[slot + i], &calls[i]
            call.shape = one.shape
            call.shape.steps, call.shape.batch, call.shape.reverse = steps, batch, self.reverse or i
            call.weights, call.variant, call.turned = one.weights, one.variant, frnn_peek(&self.turned)
            call.x = self.sequence(x, steps, batch, 0)
            call.y = self.sequence(y, steps, batch, i * self.features)
            for k in range(self.states):
                call.first.of[k] = self.state_at(first[k], slot + i)
                call.last.of[k] = self.state_at(last[k], slot + i)
            if self.packed:
                take_packed(call, <Packed>one, False, held)
            else:
                packing[i] = packing_of(call, frnn_form_of(&call.shape), NULL)
                offsets[i][0] = taken(&room, frnn_packed_size(&call.shape, packing[i].forms), &call.shape)
            offsets[i][1] = taken(&room, frnn_forward_size(&call.shape), &call.shape)
        work = self.workspaces.lend(room + ALIGN)
        begin = <char *>aligned(work, room + ALIGN)
        for i in range(self.directions):
            if not self.packed:
                calls[i].packed = packing[i].packed = begin + offsets[i][0]
            calls[i].work = begin + offsets[i][1]
        if self.work * (steps * batch + (0 if self.packed else AS_PACKING)) < SHORT:
            status = run_packed(NULL if self.packed else packing, calls, self.directions, NULL)
        else:
            with nogil:
                status = run_packed(NULL if self.packed else packing, calls, self.directions, interrupted)
        finished(status)
        self.workspaces.take_back(work)
        return 0

    cdef void *state_at(self, a, int slot) noexcept:
        cdef cnp.ndarray array = <cnp.ndarray>a
        return <char *>cnp.PyArray_DATA(array) + slot * array.shape[1] * array.shape[2] * self.element


cdef int run_packed(frnn_pack_call *packing, frnn_forward_call *calls, int count,
                    interruption interrupted) noexcept nogil:
    """Packs the weights, unless `packing` is NULL, and runs the passes. Returns the status."""
    cdef int status = 0
    if packing != NULL:
        status = frnn_pack(packing, count, interrupted)
    return status if status else frnn_forward(calls, count, interrupted)


cdef bint overlap(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Returns whether two dense arrays may have bytes in common."""
    cdef char *first = <char *>cnp.PyArray_DATA(a)
    cdef char *second = <char *>cnp.PyArray_DATA(b)
    return first < second + cnp.PyArray_NBYTES(b) and second < first + cnp.PyArray_NBYTES(a)
