"""What uring.pyx uses of ring.pyx."""

from vethd.datapath.skb cimport Skb, SkbPool
from vethd.datapath.softnet cimport SoftnetData
from vethd.frameio._liburing cimport *

cdef enum:
    STANDING = 64  # a power of two; more would not fit the CPU's cache

cdef size_t BUFFER_SIZE

cdef class Ring:
    cdef io_uring ring
    cdef io_uring_buf_ring *_buffers
    cdef bint _open  # the ring was set up
    cdef int eventfd
    cdef SoftnetData softnet
    cdef SkbPool pool
    cdef list _standing  # Skb by buffer id, None where the kernel has none of that id
    cdef unsigned short _free_ids[STANDING]
    cdef Py_ssize_t _n_free_ids
    cdef readonly bint multishot
    cdef int _set_up(self, tuple setups) except -1
    cdef int _init_ring(self, unsigned flags) noexcept
    cdef bint _knows_multishot(self)
    cdef int _restrict(self) except -1
    cdef int shut(self) except -1
    cdef io_uring_sqe *sqe(self, int opcode, int fd, __u64 user_data) except NULL
    cdef int submit(self, unsigned wanted) except -1
    cdef bint has_news(self)
    cdef Py_ssize_t standing(self)
    cdef int stand(self, Py_ssize_t wanted) except -1
    cdef Skb filled(self, unsigned flags)
