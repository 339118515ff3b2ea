import cython
from vethd.datapath.netdev cimport NetDevice
from vethd.datapath.skb cimport Skb
from vethd.datapath.softnet cimport SoftnetData

cdef int LOW, HIGH, HDR_LEN, GSO_SIZE, CSUM_START, CSUM_OFFSET, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4
cdef int ETH_HLEN, VLAN_HLEN, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE
cdef int ETH_P_IP, ETH_P_8021Q, ETH_P_IPV6, IPV4_HLEN, IPV6_HLEN, IP_DF, IPPROTO_TCP, IPPROTO_UDP
cdef int TCP_HLEN, UDP_HLEN, TCP_CHECK, UDP_CHECK, TCP_FIN, TCP_PSH, TCP_ALONE
cdef int GRO_MAX_PACKET, GRO_MAX_SEGS, UDP_GRO_CNT_MAX

@cython.locals(skb=Skb, dev=NetDevice, held=Skb, frames=list)
cpdef list napi_gro_receive(list batch, SoftnetData softnet)
@cython.locals(head=Py_ssize_t, network=Py_ssize_t, transport=Py_ssize_t, payload=Py_ssize_t, end=Py_ssize_t)
@cython.locals(ethertype=int, protocol=int, check=int)
cdef bint gro_pull_headers(NetDevice dev, Skb skb) except -1
@cython.locals(head=Py_ssize_t, network=Py_ssize_t, transport=Py_ssize_t, follows="long long")
@cython.locals(protocol=int, step=int, flags=int)
cdef bint dev_gro_receive(Skb held, Skb skb) except -1
@cython.locals(at=Py_ssize_t, size=Py_ssize_t)
cdef int skb_gro_receive(Skb held, Skb skb) except -1
@cython.locals(transport=Py_ssize_t, tcp=bint)
cdef bint gro_is_final(Skb skb) noexcept
@cython.locals(head=Py_ssize_t, network=Py_ssize_t, transport=Py_ssize_t, end=Py_ssize_t, ipv4=bint, check=int)
cdef void napi_gro_complete(Skb skb) noexcept
@cython.locals(network=Py_ssize_t, transport=Py_ssize_t)
cdef unsigned int pseudo_header_sum(Skb skb, Py_ssize_t length) noexcept
@cython.locals(at=Py_ssize_t)
cdef bint equal(Skb held, Skb skb, Py_ssize_t start, Py_ssize_t stop) noexcept
@cython.locals(at=Py_ssize_t, total="unsigned int")
cdef unsigned int sum16(Skb skb, Py_ssize_t start, Py_ssize_t size) noexcept
cdef unsigned int fold(unsigned int total) noexcept
cdef unsigned int load16(Skb skb, Py_ssize_t at) noexcept
cdef unsigned int load32(Skb skb, Py_ssize_t at) noexcept
cdef void store16(Skb skb, Py_ssize_t at, unsigned int value) noexcept
cdef unsigned int load_host16(Skb skb, Py_ssize_t at) noexcept
cdef void store_host16(Skb skb, Py_ssize_t at, unsigned int value) noexcept
