# _tensors.pxi - a part of _core.pyx: the memory of other libraries' tensors, by the C exchange API of DLPack 1.3
# (https://dmlc.github.io/dlpack/latest/c_api.html). Python's `__dlpack__` tells the same and takes 1 us and more.
#
# It must not know: which library a tensor is of, kernels.
cdef extern from "numpy/arrayobject.h":
    object new_array "PyArray_New"(PyTypeObject *, int, cnp.npy_intp *, int, cnp.npy_intp *, void *, int, int, void *)

cdef enum:
    ON_CPU = 1        # DLPack's numbers: of the device,
    FLOATING = 2      # and of a kind of numbers
    FACTS_MOST = 512  # numbers of `places`; those of more tensors are asked for in two halves


cdef struct dl_tensor:
    void *data
    int32_t device, device_number, axes
    uint8_t kind, bits
    uint16_t lanes
    int64_t *shape
    int64_t *strides  # in elements; NULL for a dense tensor
    uint64_t offset


cdef struct dl_exchange:
    uint32_t major, minor
    void *previous
    void *allocate
    void *managed_from
    void *object_from
    int (*look)(void *, dl_tensor *) noexcept  # fills in what a tensor is now; -1 with an exception
    void *stream


cdef class Exchange:
    """Looks at the tensors of a class that has the C exchange API.

    kind: the class. ValueError if its API is of another major version than 1, or cannot look at tensors.
    """
    cdef object kind, capsule
    cdef const dl_exchange *api

    def __cinit__(self, kind):
        self.kind, self.capsule = kind, kind.__dlpack_c_exchange_api__
        self.api = <const dl_exchange *>PyCapsule_GetPointer(self.capsule, "dlpack_exchange_api")
        if self.api.major != 1 or self.api.look == NULL or not isinstance(kind, type):
            raise ValueError("a class with DLPack's C exchange API 1 expected")

    cdef bint looks(self, tensor, dl_tensor *found) noexcept:
        """Fills in what a tensor is; returns whether it is one of the class, and has memory that DLPack can tell."""
        if not PyObject_TypeCheck(tensor, <PyTypeObject *>self.kind):
            return False
        if self.api.look(<void *>tensor, found) != 0:
            PyErr_Clear()
            return False
        return 0 <= found.axes <= cnp.NPY_MAXDIMS and (found.strides != NULL or found.axes == 0)

    def places(self, tuple tensors not None):
        """Where tensors are in memory, as bytes: equal as long as addresses, kinds, shapes and strides are. None for
        what is no tensor of the class, or has no such memory."""
        cdef int64_t facts[FACTS_MOST]
        cdef dl_tensor found
        cdef int count = 0, k
        for tensor in tensors:
            if not self.looks(tensor, &found):
                return None
            if count + 3 + 2 * found.axes > FACTS_MOST:
                k = <int>len(tensors) // 2
                first, second = self.places(tensors[:k]), self.places(tensors[k:])
                return None if first is None or second is None else first + second
            facts[count] = <int64_t>(<uintptr_t>found.data + found.offset)
            facts[count + 1] = <int64_t>found.device << 32 | found.kind << 8 | found.bits
            facts[count + 2] = found.axes
            count += 3
            for k in range(found.axes):
                facts[count + k], facts[count + found.axes + k] = found.shape[k], found.strides[k]
            count += 2 * found.axes
        return PyBytes_FromStringAndSize(<char *>facts, count * sizeof(int64_t))

    def array(self, tensor):
        """A read-only array over a tensor of float32 or float64 on the CPU, which it keeps alive. None for any other
        object, and for a tensor without memory.

        It is valid as long as nobody gives the tensor other memory."""
        cdef dl_tensor found
        cdef cnp.npy_intp sizes[64]
        cdef cnp.npy_intp strides[64]
        cdef cnp.ndarray array
        cdef int k, itemsize, number
        if not self.looks(tensor, &found) or found.device != ON_CPU or found.kind != FLOATING or found.lanes != 1:
            return None
        if found.bits not in (32, 64) or found.data == NULL:
            return None
        number = cnp.NPY_FLOAT64 if found.bits == 64 else cnp.NPY_FLOAT32
        itemsize = found.bits // 8
        for k in range(found.axes):
            sizes[k], strides[k] = found.shape[k], found.strides[k] * itemsize
        array = new_array(<PyTypeObject *>cnp.ndarray, found.axes, sizes, number, strides,
                          <char *>found.data + found.offset, itemsize, 0, NULL)
        cnp.set_array_base(array, tensor)
        return array
