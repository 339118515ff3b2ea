import cython
from vethd.datapath.netdev cimport NetDevice
from vethd.datapath.skb cimport Skb
from vethd.datapath.softnet cimport SoftnetData

cdef int CHECKSUM_NONE, CHECKSUM_PARTIAL, PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST
cdef int PEER_GONE, NO_CARRIER, PKT_TOO_SMALL, PKT_TOO_BIG, CPU_BACKLOG
cdef int ETH_HLEN, VLAN_HLEN, VIRTIO_NET_HDR_F_NEEDS_CSUM, GSO_TYPE_MASK, ETH_P_802_3_MIN, ETH_P_802_3, ETH_P_802_2

@cython.locals(length=Py_ssize_t, peer=NetDevice, point=int)
cpdef bint veth_xmit(NetDevice dev, Skb skb, SoftnetData softnet, long long now)
@cython.locals(sender=NetDevice)
cpdef int dev_forward_skb(NetDevice dev, Skb skb, SoftnetData softnet)
cpdef bint is_skb_forwardable(NetDevice dev, Skb skb)
cpdef void skb_scrub_packet(Skb skb, bint xnet)
@cython.locals(at=Py_ssize_t, protocol=int, raw=bint)
cpdef void eth_type_trans(Skb skb, NetDevice dev)
@cython.locals(at=Py_ssize_t, octets="unsigned char[::1]")
cdef bint ether_addr_equal(Skb skb, bytes address) noexcept
@cython.locals(skb=Skb)
cpdef void ingest(NetDevice dev, list batch, SoftnetData softnet, long long now)
