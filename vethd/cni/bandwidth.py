"""The capability `bandwidth`: a token bucket (tbf) in front of each end.

What comes to the container is held back before the host's end, what it sends before its own: senders then wait, as they
do for a slow device, and nothing is dropped on the wire. A container with CAP_NET_ADMIN can lift its own limit.

Source: net/sched/sch_tbf.c, and the plugin `bandwidth`, which can't shape these ends: it looks for a veth's peer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Any, Final

from vethd.cni.config import Bandwidth, Rate
from vethd.cni.errors import REFUSED, CniError
from vethd.host import netns
from vethd.host.rtnl import NLM_F_CREATE, RTM_NEWQDISC, Rtnl, RtnlError, attribute, nested
from vethd.rpc.client import Namespace

QDISC: Final = "tbf"
_NLM_F_REPLACE: Final = 0x100
_TC_H_ROOT: Final = 0xFFFFFFFF
_TC_LINKLAYER_ETHERNET: Final = 1
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_TBF_PARMS: Final = 1
_TCA_TBF_RATE64: Final = 4
_TCA_TBF_BURST: Final = 6
#: struct tcmsg: ifindex, handle, parent, info.
_TCMSG: Final = struct.Struct("=4xiIII")
#: struct tc_tbf_qopt: of the rate its linklayer and bytes per second; no peakrate; limit; buffer and mtu not used.
_TBF_QOPT: Final = struct.Struct("=xBxxxxxxI12xI8x")
_U32_MAX: Final = 0xFFFF_FFFF
#: Seconds that a frame may wait, as with the plugin `bandwidth`.
_LATENCY: Final = 0.025
_ETH_HLEN: Final = 14


def limit(pair: Mapping[str, Any], place: Namespace, bandwidth: Bandwidth) -> None:
    """Limit what crosses a pair. place: the namespace of its end b, the container's. Raises CniError."""
    try:
        if bandwidth.ingress is not None:
            _shape(pair["a"], bandwidth.ingress)
        if bandwidth.egress is not None:
            home = netns.current()
            try:
                with netns.inside(place.fd, home):
                    _shape(pair["b"], bandwidth.egress)
            finally:
                os.close(home)
    except RtnlError as error:
        raise CniError(REFUSED, f"runtimeConfig.bandwidth: qdisc tbf: {error.strerror}") from error


def _shape(end: Mapping[str, Any], rate: Rate) -> None:
    """Put a token bucket before an end of this namespace. Raises RtnlError."""
    per_second = rate.rate // 8
    burst = min(max(rate.burst // 8, end["mtu"] + _ETH_HLEN), _U32_MAX)  # less than a frame would let none pass
    queue = min(int(per_second * _LATENCY) + burst, _U32_MAX)
    options = attribute(_TCA_TBF_PARMS, _TBF_QOPT.pack(_TC_LINKLAYER_ETHERNET, min(per_second, _U32_MAX), queue))
    options += attribute(_TCA_TBF_BURST, struct.pack("=I", burst))
    if per_second > _U32_MAX:
        options += attribute(_TCA_TBF_RATE64, struct.pack("=Q", per_second))
    message = _TCMSG.pack(end["ifindex"], 0, _TC_H_ROOT, 0)
    message += attribute(_TCA_KIND, QDISC.encode() + b"\0") + nested(_TCA_OPTIONS, options)
    with Rtnl() as rtnl:
        rtnl.request(message, RTM_NEWQDISC, NLM_F_CREATE | _NLM_F_REPLACE)
