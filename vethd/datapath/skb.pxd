import cython
from vethd.datapath.netdev cimport NetDevice

cdef class Skb:
    cdef public object data
    cdef unsigned char[::1] octets
    cdef public tuple iov
    cdef public size_t pointer
    cdef public Py_ssize_t head
    cdef public Py_ssize_t len
    cdef public NetDevice dev
    cdef public long skb_iif
    cdef public int pkt_type
    cdef public int protocol
    cdef public int ip_summed
    cdef public int gso_type
    cdef public long long tstamp

cdef class SkbPool:
    cdef list _free
    cdef public Py_ssize_t size
    cpdef Skb alloc(self)
    cpdef void free(self, Skb skb)
    cpdef void free_batch(self, list batch)
