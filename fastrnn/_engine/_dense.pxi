# _dense.pxi - a part of _core.pyx: a dense layer whose weights are packed once.
cdef class Dense:
    """activation(W x + b). Any number of threads may run it at once.

    weight: (outputs, inputs). bias: (outputs,). Both dense, of one dtype. activation: a number of frnn_activation.
    content: in place of the three, what `content` of another object returned, as for `Packed`.
    """
    cdef frnn_dense_shape shape
    cdef cnp.ndarray packed
    cdef bytes header  # of content from elsewhere, or None

    def __cinit__(self, weight=None, bias=None, activation=None, *, content=None):
        if content is None:
            self.pack(matrix_of(weight), array_of(bias), activation)
            return
        self.packed = at_boundary(content)
        usable(frnn_read_dense(cnp.PyArray_DATA(self.packed), self.packed.size, &self.shape), NULL)
        self.header = header_of(self.packed)

    cdef int pack(self, cnp.ndarray matrix, cnp.ndarray bias, int activation) except -1:
        cdef const void *w
        cdef const void *b
        cdef size_t needed
        if not FRNN_LINEAR <= activation <= FRNN_SOFTMAX:
            raise ValueError(f"an unknown activation {activation}")
        self.shape.dtype, self.shape.activation = dtype_of(matrix), activation
        self.shape.outputs, self.shape.inputs = matrix.shape[0], matrix.shape[1]
        w = dense(matrix, self.shape.dtype, matrix.shape[0], matrix.shape[1])
        b = dense(bias, self.shape.dtype, matrix.shape[0], 1)
        needed = frnn_dense_size(&self.shape)
        if needed == 0:
            raise ValueError(f"a matrix of {matrix.shape[0]} x {matrix.shape[1]} cannot be addressed")
        self.packed = np.zeros(needed, np.uint8)  # zeros: what `content` returns follows from the weights alone
        frnn_pack_dense(&self.shape, w, b, aligned(self.packed, needed))
        return 0

    @property
    def content(self):
        """The packed weights as bytes, not a copy, as those of `Packed`."""
        cdef size_t begin = boundary(self.packed)
        unchanged(self.packed, self.header)
        return self.packed[begin:begin + frnn_dense_size(&self.shape) - ALIGN]

    @property
    def facts(self):
        """The inputs, the outputs, the activation's number and the dtype."""
        cdef const frnn_dense_shape *s = &self.shape
        return s.inputs, s.outputs, s.activation, np.dtype("f4" if s.dtype == FRNN_F32 else "f8")

    cdef bint fits(self, a, int64_t last) noexcept:
        """Returns whether an object is a dense array of the dtype and no subclass, with so many features."""
        if not cnp.PyArray_CheckExact(a):
            return False
        cdef cnp.ndarray array = <cnp.ndarray>a
        cdef int number = cnp.NPY_FLOAT32 if self.shape.dtype == FRNN_F32 else cnp.NPY_FLOAT64
        return (array.descr.type_num == number and array.ndim > 0 and array.shape[array.ndim - 1] == last
                and cnp.PyArray_ISCARRAY_RO(array))

    cdef double work_of(self, int64_t rows) noexcept:
        """Multiply-adds of so many rows."""
        return <double>rows * self.shape.inputs * self.shape.outputs

    def apply(self, given, wanted):
        """The outputs (..., outputs) for x (..., inputs), in the array `wanted` unless it is None.

        Returns None, with nothing done, if an array is of another dtype, or not dense, or if the two do not fit."""
        cdef cnp.ndarray x, y
        cdef frnn_dense_call call
        cdef interruption interrupted = poll_function()
        cdef cnp.npy_intp sizes[cnp.NPY_MAXDIMS]
        cdef int i
        if not self.fits(given, self.shape.inputs):
            return None
        x = <cnp.ndarray>given
        if wanted is None:
            for i in range(x.ndim - 1):
                sizes[i] = x.shape[i]
            sizes[x.ndim - 1] = self.shape.outputs
            y = cnp.PyArray_EMPTY(x.ndim, sizes, x.descr.type_num, 0)
        elif not self.fits(wanted, self.shape.outputs):
            return None
        else:
            y = <cnp.ndarray>wanted
            if not cnp.PyArray_ISWRITEABLE(y) or y.ndim != x.ndim or overlap(x, y):
                return None
            for i in range(x.ndim - 1):
                if x.shape[i] != y.shape[i]:
                    return None
        call.packed = unchanged(self.packed, self.header)
        call.rows = 1
        for i in range(x.ndim - 1):
            call.rows *= x.shape[i]
        call.x, call.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
        if self.work_of(call.rows) < SHORT:
            finished(frnn_dense(&call, NULL))
        else:
            with nogil:
                finished(frnn_dense(&call, interrupted))
        return y

    def arrays(self):
        """weight and bias as new arrays."""
        dtype = np.float64 if self.shape.dtype == FRNN_F64 else np.float32
        cdef cnp.ndarray weight = np.empty((self.shape.outputs, self.shape.inputs), dtype)
        cdef cnp.ndarray bias = np.empty(self.shape.outputs, dtype)
        frnn_unpack_dense(unchanged(self.packed, self.header), cnp.PyArray_DATA(weight), cnp.PyArray_DATA(bias))
        return weight, bias

    @property
    def nbytes(self):
        return self.packed.nbytes
