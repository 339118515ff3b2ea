import cython
from vethd.datapath.netdev cimport NetDevice

cdef class Skb:
    cdef public object data
    cdef public tuple iov
    cdef public size_t pointer
    cdef unsigned char[::1] octets
    cdef public Py_ssize_t head
    cdef public Py_ssize_t len
    cdef public NetDevice dev
    cdef public long skb_iif
    cdef public int pkt_type
    cdef public int protocol
    cdef public int ip_summed
    cdef public int gso_type
    cdef public int gso_segs
    cdef public Py_ssize_t gso_size
    cdef public Py_ssize_t network_header, transport_header, payload_header
    cdef public bint ip_fixedid
    cdef public long long tstamp

cdef class SkbPool:
    cdef list _free
    cdef public Py_ssize_t size
    cpdef Skb alloc(self)
    cpdef void free(self, Skb skb)
    cpdef void free_batch(self, list batch)
