from vethd.datapath.netdev cimport NetDevice
from vethd.datapath.skb cimport Skb, SkbPool

cdef class SoftnetData:
    cdef public SkbPool pool
    cdef public object input_pkt_queue
    cdef public object process_queue
    cdef public Py_ssize_t netdev_max_backlog, netdev_budget, netdev_budget_usecs, dev_weight, busy_poll
    cdef public unsigned long long processed, dropped, time_squeeze
    cdef public list touched
    cpdef void touch(self, NetDevice dev)
    cpdef bint enqueue_to_backlog(self, Skb skb)
    cpdef Py_ssize_t room(self, NetDevice dev)
    cpdef bint pending(self)
    cpdef list process_backlog(self, Py_ssize_t quota)
