# _workspaces.pxi - a part of _core.pyx: buffers for calls, which runtime.py keeps.
cdef class Workspaces:
    """Byte buffers that calls borrow.

    spare: a deque of buffers that no call is using, the last used one at the end. kept: the bytes of the largest buffer
    that goes there after a call.
    """
    cdef object spare
    cdef size_t kept

    def __cinit__(self, spare not None, size_t kept):
        self.spare, self.kept = spare, kept

    cdef cnp.ndarray lend(self, size_t nbytes):
        """A buffer of nbytes at least, which no other call gets meanwhile."""
        cdef cnp.ndarray buffer = None
        cdef cnp.npy_intp size = <cnp.npy_intp>nbytes
        try:
            buffer = self.spare.pop()
        except IndexError:
            pass
        if buffer is None or <size_t>buffer.size < nbytes:
            buffer = cnp.PyArray_EMPTY(1, &size, cnp.NPY_UINT8, 0)
        return buffer

    cdef int take_back(self, cnp.ndarray buffer) except -1:
        if <size_t>buffer.size <= self.kept:
            self.spare.append(buffer)
        return 0
