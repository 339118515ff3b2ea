"""The daemon's errors, as a runtime hears of them."""

from __future__ import annotations

import pytest

from vethd.cni.control import Unreachable, connected, refused
from vethd.errors import KINDS
from vethd.rpc.client import RpcError

CODES = {
    "no_such_netns": 3,
    "invalid_params": 7,
    "invalid_name": 7,
    "invalid_address": 7,
    "mtu_out_of_range": 7,
    "limit_reached": 11,
    "worker_failed": 11,
    "shutting_down": 11,
}


@pytest.mark.parametrize("kind", sorted(each.kind for each in KINDS))
def test_each_kind_has_a_code(kind: str) -> None:
    error = refused(RpcError(-1, "no", {"kind": kind, "errno": "EPERM", "hint": "do this"}))
    assert (error.code, error.msg, error.details) == (CODES.get(kind, 100), "vethd: no [EPERM]", "do this")


def test_all_that_are_named_exist() -> None:
    assert CODES.keys() <= {each.kind for each in KINDS}


def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match="/nonexistent/socket") as raised, connected("/nonexistent/socket"):
        pass
    assert raised.value.code == 11
