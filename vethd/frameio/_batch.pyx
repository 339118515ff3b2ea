# cython: language_level=3, boundscheck=False, wraparound=False
"""A batch of frames by read and write, in C: what `batch.py` does, without the interpreter between two frames.

::

    addresses of <= CHUNK buffers  ->  read or write them all, GIL released  ->  Skbs, counters

A read goes into buffers that are still the pool's: the ones that `alloc` would give next. Those that were filled are
taken out of it afterwards, so that an idle end costs no more than one read. That needs the pool to itself: one thread
of a process does all frame I/O.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from posix.unistd cimport read, write

from vethd.datapath.netdev cimport NetDevice
from vethd.datapath.skb cimport Skb, SkbPool
from vethd.datapath.softnet cimport SoftnetData

import os

from vethd.datapath import skb as _skb

#: Frames between two looks at Python objects; the GIL is free for one chunk.
cdef enum:
    CHUNK = 64

cdef size_t BUFFER_SIZE = _skb.BUFFER_SIZE


def read_batch(NetDevice dev not None, Py_ssize_t quota, SkbPool pool not None):
    """See batch.read_batch."""
    cdef size_t buffers[CHUNK]
    cdef Py_ssize_t lengths[CHUNK]
    cdef Py_ssize_t wanted, got, i, free, result
    cdef Py_ssize_t hdr_len = dev.hdr_len
    cdef int fd = dev.fd
    cdef int error = 0
    cdef Skb skb
    cdef list batch = []
    while quota > 0 and not error:
        wanted = min(quota, CHUNK)
        while len(pool._free) < wanted:
            pool.grow()
        free = len(pool._free)
        for i in range(wanted):
            buffers[i] = (<Skb> pool._free[free - 1 - i]).pointer
        got = 0
        with nogil:
            while got < wanted:
                result = read(fd, <void *> buffers[got], BUFFER_SIZE)
                if result >= 0:
                    lengths[got] = result
                    got += 1
                elif errno != EINTR:
                    error = errno
                    break
        for i in range(got):
            skb = pool.alloc()
            skb.len = lengths[i] - hdr_len
            batch.append(skb)
        quota -= got
    if error and error != EAGAIN and not batch:
        raise OSError(error, os.strerror(error))
    return batch


def write_batch(list batch not None, SoftnetData softnet not None):
    """See batch.write_batch."""
    cdef size_t buffers[CHUNK]
    cdef Py_ssize_t lengths[CHUNK]
    cdef int fds[CHUNK]
    cdef int errors[CHUNK]
    cdef Py_ssize_t count, i, at, total = len(batch)
    cdef Skb skb
    cdef NetDevice dev
    cdef list failed = []
    for at in range(0, total, CHUNK):
        count = min(total - at, CHUNK)
        for i in range(count):
            skb = batch[at + i]
            if skb.dev is None:
                raise AssertionError("a frame in the backlog has no device")
            fds[i] = skb.dev.fd
            buffers[i] = skb.pointer
            lengths[i] = skb.head + skb.len
        with nogil:
            for i in range(count):
                errors[i] = 0
                while write(fds[i], <void *> buffers[i], lengths[i]) < 0:
                    if errno != EINTR:
                        errors[i] = errno
                        break
        for i in range(count):
            skb = batch[at + i]
            dev = skb.dev
            if errors[i]:
                failed.append((skb, errors[i]))
                continue
            dev.rx_packets += 1
            dev.rx_bytes += skb.len
            if not dev.touched:
                softnet.touch(dev)
    return failed
