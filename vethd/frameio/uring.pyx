# cython: language_level=3, boundscheck=False, wraparound=False
"""Frame I/O by io_uring: reads that stay armed, writes in batches, one io_uring_enter for both.

::

    kernel                    STANDING buffers             here                         worker/loop.py
    TAP readable -> read ->   taken oldest first  -> completion -> frames of its _Port -> ready(dev), receive
    pool.alloc  ----------->  refilled before each enter                                 |  veth_xmit ... backlog
    TAP B <- write  <-------  one enter per <= CHUNK frames: submits writes, brings what was read since  <- deliver

**Buffers.** At most STANDING buffers are either with the kernel or hold frames that nobody has taken yet. That is also
the backpressure: while the loop takes nothing, none is refilled, reads end with ENOBUFS, and the frames wait in the
TAPs' rings.

**Reads.** Each end has one multishot read; where the kernel has none (before 6.7), a plain read that waits, and after
a frame up to BURST that do not, until one of them finds nothing. A read that ended is armed again at the next enter at
which buffers stand, those that got most of late at the end of the queue: arming reads one frame of each end before any
gets more.

**Writes** must not wait (RWF_NOWAIT), so the kernel completes each while it is being submitted, one after the other:
that keeps the order per end, and no write is ever left to a kernel thread. O_NONBLOCK alone would not do: since 5.17
io_uring waits for such a file all the same.

**Waking.** While there is work `_poll` is called once per turn of the loop, and the eventfd is silent. With nothing
left it is switched on, and whatever came between the last look and that is looked for once more.

**Cancelling.** An armed read keeps a deleted device alive, and eats frames that its successor should have: `detach`
cancels and waits until it has ended.
"""

from libc.errno cimport EAGAIN, EINTR, EINVAL, ENOBUFS
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport read

from vethd.datapath.netdev cimport NetDevice
from vethd.datapath.skb cimport Skb
from vethd.datapath.softnet cimport SoftnetData
from vethd.frameio._liburing cimport *
from vethd.frameio.ring cimport BUFFER_SIZE, STANDING, Ring

import os

from vethd.frameio import ring as _ring
from vethd.frameio.base import DeviceGone, undelivered

cdef enum:
    IORING_OP_READ_MULTISHOT = 49  # not in the header of liburing 2.3
    RWF_NOWAIT = 8
    CHUNK = 64  # frames per enter
    BURST = 16  # plain reads of one end at once that do not wait
    # the two low bits of user_data; above them is the place in the batch of a write, else the number of the port
    WRITE = 0
    READ = 1
    CANCEL = 2
    MAX_SOFTIRQ_RESTART = 10  # times that ready ends are told before the loop turns, and the time for it; nanoseconds
    MAX_SOFTIRQ_TIME = 2_000_000
    SPIN = 50_000  # nanoseconds of looking for completions between two turns of the loop


cdef class _Port:
    """The reads of one end.

    frames: read, and not taken yet. got: frames of late, times STANDING; halved whenever reads
    are armed. inflight: requests of it that the kernel has. readable: its last read gave a frame.
    error: the errno that ended reading for good. listed: it is in Uring._listed.
    """

    cdef NetDevice dev
    cdef list frames
    cdef Py_ssize_t number, got, inflight
    cdef int error
    cdef bint paused, listed, attached, readable


cdef class Uring(Ring):
    """Implements `base.FrameIO`; its arguments are those of Ring."""

    cdef object _loop, _ready
    cdef bint _scheduled
    cdef dict _ports
    cdef list _numbered  # ports by number, None where free
    cdef list _unarmed, _listed
    cdef Py_ssize_t _held  # frames in all ports
    cdef int _results[CHUNK]
    cdef Py_ssize_t _writes_left
    cdef long long _awake_until  # nanoseconds of the monotonic clock; 0 without busy_poll
    cdef readonly list gone
    cdef readonly str name

    def __cinit__(self, SoftnetData softnet not None, bint multishot=True, tuple setups not None=_ring.SETUPS):
        self._ports, self._numbered, self._unarmed, self._listed = {}, [], [], []
        self.gone = []
        self.name = "uring"

    # -- base.FrameIO -------------------------------------------------------------------------------------------------

    def start(self, loop, ready):
        """See FrameIO.start."""
        self._loop, self._ready = loop, ready
        loop.add_reader(self.eventfd, self._wake)

    def attach(self, NetDevice dev not None):
        """See FrameIO.attach."""
        cdef _Port port = _Port()
        port.dev = dev
        port.frames = []
        port.attached = True
        port.number = self._numbered.index(None) if None in self._numbered else len(self._numbered)
        self._numbered[port.number : port.number + 1] = [port]
        self._ports[dev] = port
        self._unarmed.append(port)
        self._schedule()

    def detach(self, NetDevice dev not None):
        """See FrameIO.detach."""
        cdef _Port port = self._ports.pop(dev, None)
        if port is None:
            return []
        port.attached = False
        if port in self._unarmed:
            self._unarmed.remove(port)
        while port.inflight:
            self.sqe(IORING_OP_ASYNC_CANCEL, -1, CANCEL).addr = <__u64> port.number << 2 | READ
            self._enter(1)
        if port.listed:
            self._listed.remove(port)
        self._numbered[port.number] = None
        self._held -= len(port.frames)
        if self._listed:
            self._schedule()
        return port.frames

    def pause(self, NetDevice dev not None):
        """See FrameIO.pause."""
        (<_Port> self._ports[dev]).paused = True

    def resume(self, NetDevice dev not None):
        """See FrameIO.resume."""
        (<_Port> self._ports[dev]).paused = False
        self._schedule()

    def receive(self, NetDevice dev not None, Py_ssize_t quota):
        """See FrameIO.receive."""
        cdef _Port port = self._ports[dev]
        cdef list batch = port.frames
        if not batch and not port.error:
            self._enter(0)
            while self._wants_enter():
                self._enter(0)
            batch = port.frames
        if not batch:
            if port.error:
                raise DeviceGone from OSError(port.error, os.strerror(port.error))
            return batch
        if len(batch) > quota:
            port.frames = batch[quota:]
            batch = batch[:quota]
        else:
            port.frames = []
        self._held -= len(batch)
        return batch

    def deliver(self, list batch not None):
        """See FrameIO.deliver."""
        cdef Py_ssize_t at, i, count, total = len(batch)
        cdef Skb skb
        cdef NetDevice dev
        cdef io_uring_sqe *sqe
        for at in range(0, total, CHUNK):
            count = min(total - at, CHUNK)
            for i in range(count):
                skb = batch[at + i]
                if skb.dev is None:
                    raise AssertionError("a frame in the backlog has no device")
                sqe = self.sqe(IORING_OP_WRITE, skb.dev.fd, <__u64> i << 2 | WRITE)
                sqe.addr = skb.pointer
                sqe.len = <unsigned> (skb.head + skb.len)
                sqe.rw_flags = RWF_NOWAIT
            self._writes_left = count
            self._enter(0)
            while self._writes_left:
                self._enter(1)
            for i in range(count):
                skb = batch[at + i]
                dev = skb.dev
                if self._results[i] < 0:
                    undelivered(skb, -self._results[i], self.softnet, self.gone)
                    continue
                dev.rx_packets += 1
                dev.rx_bytes += skb.len
                if not dev.touched:
                    self.softnet.touch(dev)
        self.pool.free_batch(batch)
        if self._listed:
            self._schedule()

    def close(self):
        """See FrameIO.close."""
        if not self._open:
            return
        for dev in list(self._ports):
            self.pool.free_batch(self.detach(dev))
        if self._loop is not None:
            self._loop.remove_reader(self.eventfd)
            self._loop = None
        self.shut()

    # -- waking -------------------------------------------------------------------------------------------------------

    def _wake(self):
        cdef __u64 signals
        read(self.eventfd, &signals, sizeof(signals))  # fails when it was silent after all, which is as good
        if not self._scheduled:
            io_uring_cq_eventfd_toggle(&self.ring, False)
            self._poll()

    cdef int _schedule(self) except -1:
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            io_uring_cq_eventfd_toggle(&self.ring, False)
            self._loop.call_soon(self._poll)
        return 0

    def _poll(self):
        """Tell which ends have something; called once per turn until none has.

        What comes in meanwhile is told at once, within the limits of the kernel's handle_softirqs (kernel/softirq.c).
        """
        cdef bint work = True, told = False
        cdef int restart
        cdef long long until
        cdef list ends
        self._scheduled = False
        if self._loop is None:
            return
        if self._awake_until:
            self._spin()
        until = _now() + MAX_SOFTIRQ_TIME
        for restart in range(MAX_SOFTIRQ_RESTART):
            ends = self._with_frames()
            if not ends and self._wants_enter():
                self._enter(0)
                ends = self._with_frames()
            if not ends:
                work = self._wants_enter()
                break
            told = True
            if not self._ready(ends) or _now() >= until:
                break
        if told and self.softnet.busy_poll:
            self._awake_until = _now() + self.softnet.busy_poll * 1000
        if work or self._awake_until:
            self._schedule()
            return
        io_uring_cq_eventfd_toggle(&self.ring, True)
        vethd_barrier()  # the kernel first says that there is something, then looks whether to wake us
        if self._wants_enter():
            self._schedule()

    cdef int _spin(self) except -1:
        """Look for completions until `busy_poll` is over, or for SPIN: then the loop has its turn."""
        cdef long long now = _now()
        cdef long long until = min(now + SPIN, self._awake_until)
        while now < until and not (self._listed or self._wants_enter()):
            now = _now()
        if now >= self._awake_until or not self.softnet.busy_poll:
            self._awake_until = 0
        return 0

    cdef list _with_frames(self):
        """Ends that have something to receive. Paused ends keep what they have."""
        cdef _Port port
        if self._listed:
            self._unlist()
        return [port.dev for port in self._listed if not port.paused]

    cdef int _unlist(self) except -1:
        """Forget the ends of which everything has been taken."""
        cdef _Port port
        cdef list left = []
        for port in self._listed:
            port.listed = bool(port.frames) or port.error
            if port.listed:
                left.append(port)
        self._listed = left
        return 0

    cdef bint _wants_enter(self):
        """True when an enter would bring something, as far as can be seen from here."""
        return self.has_news() or (self._unarmed and self._held < self._limit())

    # -- the ring -----------------------------------------------------------------------------------------------------

    cdef int _enter(self, unsigned wanted) except -1:
        """Refill buffers, arm reads, submit everything, wait for `wanted` completions, and take all there are."""
        self.stand(self._limit() - self.standing() - self._held)
        if self._unarmed:
            self._arm()
        self.submit(wanted)
        self._reap()
        return 0

    cdef Py_ssize_t _limit(self):
        """Buffers that may stand or be held: for one end's turn, or for one frame of each end that wants one."""
        return min(STANDING, max(self.softnet.dev_weight, len(self._unarmed) + len(self._listed)))

    cdef int _arm(self) except -1:
        """Arm at most as many reads as buffers stand; the others would only end with ENOBUFS."""
        cdef Py_ssize_t most = self.standing()
        cdef Py_ssize_t burst
        cdef list chosen
        cdef _Port port
        for port in self._unarmed:  # also those not chosen, or they would never be again
            port.got //= 2
        if len(self._unarmed) > 1:
            self._unarmed.sort(key=_got)
        chosen, self._unarmed = self._unarmed[:most], self._unarmed[most:]
        burst = max(1, min(BURST, most // max(1, len(chosen))))
        for port in chosen:
            if self.multishot:
                self._read(port, IORING_OP_READ_MULTISHOT, 0)
            elif port.readable:
                for _ in range(burst):
                    self._read(port, IORING_OP_READ, RWF_NOWAIT)
            else:
                self._read(port, IORING_OP_READ, 0)
        return 0

    cdef int _read(self, _Port port, int opcode, int rw_flags) except -1:
        cdef io_uring_sqe *sqe = self.sqe(opcode, port.dev.fd, <__u64> port.number << 2 | READ)
        sqe.flags = IOSQE_BUFFER_SELECT
        sqe.rw_flags = rw_flags
        sqe.off = 0 if opcode == IORING_OP_READ else <__u64> -1
        sqe.len = BUFFER_SIZE if opcode == IORING_OP_READ else 0
        port.inflight += 1
        return 0

    cdef int _reap(self) except -1:
        cdef io_uring_cqe *completions[CHUNK]
        cdef unsigned count, i
        cdef __u64 user_data
        cdef int kind
        while True:
            count = io_uring_peek_batch_cqe(&self.ring, completions, CHUNK)
            if count == 0:
                return 0
            for i in range(count):
                user_data = completions[i].user_data
                kind = user_data & 3
                if kind == WRITE:
                    self._results[user_data >> 2] = completions[i].res
                    self._writes_left -= 1
                elif kind == READ:
                    self._read_done(
                        <_Port> self._numbered[user_data >> 2], completions[i].res, completions[i].flags
                    )
            io_uring_cq_advance(&self.ring, count)

    cdef int _read_done(self, _Port port, int result, unsigned flags) except -1:
        """One completion of a read: a frame, or why it ended."""
        cdef Skb skb = self.filled(flags)
        if result != -ENOBUFS:
            port.readable = result >= 0
        if result >= 0:
            if skb is None:
                if result:
                    raise OSError(EINVAL, "the kernel does not say which buffer holds a frame")
                skb = self.pool.alloc()  # an empty packet takes none
            skb.len = result - port.dev.hdr_len
            port.frames.append(skb)
            port.got += STANDING
            self._held += 1
        elif skb is not None:
            self.pool.free(skb)
        if not flags & IORING_CQE_F_MORE:
            port.inflight -= 1
            if result < 0 and result not in (-EAGAIN, -EOPNOTSUPP, -EINTR, -ENOBUFS, -ECANCELED):
                port.error = -result
            if not port.inflight and port.attached and not port.error:
                self._unarmed.append(port)
        if not port.listed and port.attached and (port.frames or port.error and not port.inflight):
            port.listed = True
            self._listed.append(port)
        return 0


def _got(_Port port):
    return port.got


cdef long long _now() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000_000LL + now.tv_nsec
