import cython
from vethd.datapath.netdev cimport NetDevice
from vethd.datapath.skb cimport Skb
from vethd.datapath.softnet cimport SoftnetData

@cython.locals(length=Py_ssize_t, peer=NetDevice, point=int)
cpdef bint veth_xmit(NetDevice dev, Skb skb, SoftnetData softnet, long long now)
@cython.locals(sender=NetDevice)
cpdef int dev_forward_skb(NetDevice dev, Skb skb, SoftnetData softnet)
cpdef bint is_skb_forwardable(NetDevice dev, Skb skb)
cpdef void skb_scrub_packet(Skb skb, bint xnet)
@cython.locals(at=Py_ssize_t, protocol=int)
cpdef void eth_type_trans(Skb skb, NetDevice dev)
@cython.locals(skb=Skb)
cpdef void ingest(NetDevice dev, list batch, SoftnetData softnet, long long now)
