import cython
from vethd.datapath.netdev cimport NetDevice
from vethd.datapath.softnet cimport SoftnetData

cdef Py_ssize_t N_POINTS, ROW_VALUES

cdef class Counters:
    cdef public int fd
    cdef public Py_ssize_t ends
    cdef object _map
    cdef unsigned long long[::1] _values
    @cython.locals(at=Py_ssize_t, point=Py_ssize_t, drops=list)
    cpdef void publish(self, NetDevice dev)
    @cython.locals(at=Py_ssize_t)
    cpdef void publish_softnet(self, Py_ssize_t slot, SoftnetData softnet)
