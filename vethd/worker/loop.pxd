import cython
from vethd.datapath.netdev cimport NetDevice
from vethd.datapath.softnet cimport SoftnetData
from vethd.worker.counters cimport Counters

cdef int HDR_INVALID

cdef class WorkerLoop:
    cdef object _loop, _frameio, _deliver, _channel
    cdef SoftnetData _softnet
    cdef Counters _counters
    cdef Py_ssize_t _slot, _batches
    cdef dict _devices, _taken, _hdr_invalid_reported
    cdef list _paused
    cdef set _gone_ends
    cdef bint _scheduled
    cdef void _schedule(self)
    @cython.locals(dev=NetDevice, softnet=SoftnetData, batch=list, quota=Py_ssize_t, sent="unsigned long long")
    cdef void _receive(self, list ready)
    cdef void _net_rx_action(self)
    @cython.locals(dev=NetDevice, softnet=SoftnetData)
    cdef void _publish(self)
