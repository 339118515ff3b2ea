cdef class NetDevice:
    cdef public long number
    cdef public int fd
    cdef public NetDevice peer
    cdef public Py_ssize_t mtu
    cdef public bytes address
    cdef public long netns
    cdef public bint carrier, gro, uso, backpressure
    cdef object gro_held
    cdef public Py_ssize_t hdr_len
    cdef public unsigned long long read, merged, tx_packets, tx_bytes, rx_packets, rx_bytes
    cdef public list drops
    cdef public bint touched
