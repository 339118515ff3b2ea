# cython: language_level=3, boundscheck=False, wraparound=False
"""An io_uring with a ring of provided buffers and an eventfd; what is read and written with it is up to uring.pyx.

A buffer goes round like this::

    pool.alloc -> stand: the kernel may fill it, the oldest first -> a completion names it -> filled -> ... -> pool.free

A buffer is as long as the longest frame, since the kernel would cut a longer one without a word. The pool gives out first
what came back last, so the few that are in use stay in the CPU's cache.

Completions are run by the thread that made the ring, inside io_uring_enter (DEFER_TASKRUN, kernel 6.1; before that
COOP_TASKRUN). epoll on the ring's own fd would sleep through them; the eventfd wakes in all modes.

What a ring does passes no seccomp filter: it could open files and connect sockets for a worker that was taken over. So
it is made switched off, told what it may do, which can't be changed afterwards, and only then switched on.
"""

from libc.errno cimport EAGAIN, EBUSY, EINTR, EINVAL
from libc.string cimport memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport close

import os

from vethd.datapath import skb as _skb

cdef enum:
    IORING_OP_READ_MULTISHOT = 49  # not in the header of liburing 2.3
    SQ_ENTRIES = 256
    CQ_ENTRIES = 4096

#: Flags of io_uring_setup; the first that the kernel knows are taken, the second before 6.1.
SETUPS = (
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
)

BUFFER_SIZE = _skb.BUFFER_SIZE
cdef size_t BUF_RING_BYTES = STANDING * 16  # sizeof(struct io_uring_buf)


cdef class Ring:
    """The ring; raises OSError when the kernel gives none, or no buffer ring.

    multishot: False reads as on kernels before 6.7. Afterwards it says how reading is done.
    setups: what to ask io_uring_setup for, best first.
    """

    def __cinit__(self, SoftnetData softnet not None, bint multishot=True, tuple setups not None=SETUPS):
        cdef int i
        self.softnet = softnet
        self.pool = softnet.pool
        self._standing = [None] * STANDING
        for i in range(STANDING):
            self._free_ids[i] = STANDING - 1 - i
        self._n_free_ids = STANDING
        self.eventfd = -1
        self._set_up(setups)
        self.multishot = multishot and self._knows_multishot()
        self._restrict()

    cdef int _set_up(self, tuple setups) except -1:
        cdef io_uring_buf_reg registration
        cdef void *memory
        cdef int result = -EINVAL
        for flags in setups:
            if result == -EINVAL:
                result = self._init_ring(flags)
        check(result, "io_uring_setup")
        self._open = True
        memory = mmap(NULL, BUF_RING_BYTES, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0)
        if memory == MAP_FAILED:
            raise MemoryError
        self._buffers = <io_uring_buf_ring *> memory
        memset(&registration, 0, sizeof(registration))
        registration.ring_addr = <__u64> <size_t> memory
        registration.ring_entries = STANDING
        check(io_uring_register_buf_ring(&self.ring, &registration, 0), "IORING_REGISTER_PBUF_RING")
        io_uring_buf_ring_init(self._buffers)
        self.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        check(io_uring_register_eventfd(&self.ring, self.eventfd), "IORING_REGISTER_EVENTFD")
        return 0

    cdef int _init_ring(self, unsigned flags) noexcept:
        cdef io_uring_params params
        memset(&params, 0, sizeof(params))
        params.flags = flags | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED
        params.cq_entries = CQ_ENTRIES
        return io_uring_queue_init_params(SQ_ENTRIES, &self.ring, &params)

    cdef bint _knows_multishot(self):
        cdef io_uring_probe *probe = io_uring_get_probe_ring(&self.ring)
        if probe == NULL:
            return False
        known = io_uring_opcode_supported(probe, IORING_OP_READ_MULTISHOT)
        io_uring_free_probe(probe)
        return known

    cdef int _restrict(self) except -1:
        """Switch the ring on: for reads, writes and their cancelling, and for no registration any more."""
        cdef io_uring_restriction restrictions[5]
        cdef int i
        cdef int[4] allowed = [IORING_OP_READ, IORING_OP_WRITE, IORING_OP_ASYNC_CANCEL, IORING_OP_READ_MULTISHOT]
        memset(restrictions, 0, sizeof(restrictions))
        restrictions[0].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED
        restrictions[0].sqe_flags = IOSQE_BUFFER_SELECT
        for i in range(4):
            restrictions[i + 1].opcode = IORING_RESTRICTION_SQE_OP
            restrictions[i + 1].sqe_op = allowed[i]
        i = 5 if self.multishot else 4
        check(
            vethd_register(self.ring.ring_fd, IORING_REGISTER_RESTRICTIONS, restrictions, i),
            "IORING_REGISTER_RESTRICTIONS",
        )
        check(
            vethd_register(self.ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0),
            "IORING_REGISTER_ENABLE_RINGS",
        )
        return 0

    def __dealloc__(self):
        if self._open:
            io_uring_queue_exit(&self.ring)
        if self._buffers != NULL:
            munmap(self._buffers, BUF_RING_BYTES)
        if self.eventfd >= 0:
            close(self.eventfd)

    cdef int shut(self) except -1:
        """Give ring, eventfd and standing buffers back; no read may be armed any more."""
        io_uring_queue_exit(&self.ring)
        self._open = False
        os.close(self.eventfd)
        self.eventfd = -1
        self.pool.free_batch([skb for skb in self._standing if skb is not None])
        self._standing = [None] * STANDING
        return 0

    # -- requests and completions -------------------------------------------------------------------------------------

    cdef io_uring_sqe *sqe(self, int opcode, int fd, __u64 user_data) except NULL:
        """A request for the next `submit`."""
        cdef io_uring_sqe *sqe = io_uring_get_sqe(&self.ring)
        if sqe == NULL:
            check(io_uring_submit(&self.ring), "io_uring_enter")
            sqe = io_uring_get_sqe(&self.ring)
            if sqe == NULL:
                raise OSError(EBUSY, "the kernel takes no more requests")
        memset(sqe, 0, sizeof(io_uring_sqe))
        sqe.opcode = opcode
        sqe.fd = fd
        sqe.user_data = user_data
        return sqe

    cdef int submit(self, unsigned wanted) except -1:
        """One io_uring_enter: hand all requests over, run what is due, wait for `wanted` completions."""
        cdef int result
        with nogil:
            if wanted:
                result = io_uring_submit_and_wait(&self.ring, wanted)
            else:
                result = io_uring_submit_and_get_events(&self.ring)
        if result < 0 and result not in (-EINTR, -EAGAIN, -EBUSY):  # those: once more, after reaping
            check(result, "io_uring_enter")
        return 0

    cdef bint has_news(self):
        """True when an enter would bring something, as far as can be seen from here."""
        return (
            io_uring_cq_ready(&self.ring) != 0
            or io_uring_sq_ready(&self.ring) != 0  # the kernel did not take them: EINTR, EAGAIN, EBUSY
            or vethd_flags(self.ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)
        )

    # -- buffers ------------------------------------------------------------------------------------------------------

    cdef Py_ssize_t standing(self):
        """Buffers that the kernel has."""
        return STANDING - self._n_free_ids

    cdef int stand(self, Py_ssize_t wanted) except -1:
        """Give the kernel so many more buffers; they may be fewer than none."""
        cdef Py_ssize_t i
        cdef unsigned short number
        cdef Skb skb
        for i in range(wanted):
            self._n_free_ids -= 1
            number = self._free_ids[self._n_free_ids]
            skb = self.pool.alloc()
            self._standing[number] = skb
            io_uring_buf_ring_add(self._buffers, <void *> skb.pointer, BUFFER_SIZE, number, STANDING - 1, i)
        if wanted > 0:
            io_uring_buf_ring_advance(self._buffers, wanted)
        return 0

    cdef Skb filled(self, unsigned flags):
        """The buffer that a completion with these flags names; None when it names none."""
        cdef unsigned short number
        cdef Skb skb
        if not flags & IORING_CQE_F_BUFFER:
            return None
        number = flags >> IORING_CQE_BUFFER_SHIFT
        skb = self._standing[number]
        self._standing[number] = None
        self._free_ids[self._n_free_ids] = number
        self._n_free_ids += 1
        return skb


cdef int check(int result, str what) except -1:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result
