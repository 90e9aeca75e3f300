# _capsules.pxi - a part of _core.pyx: the functions of kernels.pxd. `api` makes a capsule of each, api_NAME for
# frnn_NAME, which fastrnn/kernels.py hands on.
cdef api const char *api_version() noexcept nogil:
    return frnn_version()


cdef api int api_abi() noexcept nogil:
    return frnn_abi()


cdef api const frnn_cell *api_cell_named(const char *name) noexcept nogil:
    return frnn_cell_named(name)


cdef api const frnn_cell_facts *api_facts_of(const frnn_cell *cell) noexcept nogil:
    return frnn_facts_of(cell)


cdef api unsigned api_form_of(const frnn_shape *shape) noexcept nogil:
    return frnn_form_of(shape)


cdef api size_t api_packed_size(const frnn_shape *shape, unsigned forms) noexcept nogil:
    return frnn_packed_size(shape, forms)


cdef api size_t api_forward_size(const frnn_shape *shape) noexcept nogil:
    return frnn_forward_size(shape)


cdef api size_t api_tape_size(const frnn_shape *shape) noexcept nogil:
    return frnn_tape_size(shape)


cdef api size_t api_backward_size(const frnn_shape *shape) noexcept nogil:
    return frnn_backward_size(shape)


cdef api size_t api_plan_size() noexcept nogil:
    return frnn_plan_size()


cdef api void api_plan(const frnn_shape *shape, void *plan) noexcept nogil:
    frnn_plan(shape, plan)


cdef api int api_pack(const frnn_pack_call *calls, int count, int (*interrupted)() noexcept nogil) noexcept nogil:
    return frnn_pack(calls, count, interrupted)


cdef api int api_forward(const frnn_forward_call *calls, int count,
                         int (*interrupted)() noexcept nogil) noexcept nogil:
    return frnn_forward(calls, count, interrupted)


cdef api int api_backward(const frnn_backward_call *calls, int count,
                          int (*interrupted)() noexcept nogil) noexcept nogil:
    return frnn_backward(calls, count, interrupted)


cdef api void api_set_threads_here(int n) noexcept nogil:
    frnn_set_threads_here(n)


@cython.nonecheck(False)
cdef api int api_stream_step(size_t stream, const void *x, size_t x_bytes, void *y, size_t y_bytes) noexcept nogil:
    cdef void *handle = <void *>stream
    if handle == NULL or stream % sizeof(void *) or (<Stepper>handle).itself != handle:
        return FRNN_INVALID
    return (<Stepper>handle).step_at(<char *>x, x_bytes, <char *>y, y_bytes)
