"""The rules for names, addresses and sizes are the kernel's: the same requests are put to both."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.kit.commands import ip
from tests.kit.netns import Namespaces
from tests.pairs.asking import Kernel
from vethd.errors import InvalidAddress, InvalidName, InvalidParams, MtuOutOfRange, VethdError
from vethd.pairs.spec import TXQUEUELEN_MAX, EndSpec, PairSpec, check_address, check_mtu, check_name

asks_the_kernel = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

NAMES = [
    *(b"", b".", b"..", b"...", b".a", b"a.b", b"-", b"_", b"a", b"0"),
    *(b"a b", b" a", b"a ", b"a\tb", b"a\nb", b"a\vb", b"a\fb", b"a\rb", b"a/b", b"/", b"a:b", b":"),
    *(b"all", b"default", b"All", b"alll", b"defaul"),
    *(b"x" * 14, b"x" * 15, b"x" * 16, b"x" * 17, "é".encode() * 7, "é".encode() * 8),
    *(b"%d", b"a%d", b"a%db", b"a%d%d", b"%", b"a%", b"%s", b"a%x", b"%%", b"%%d", b"%dd", b"% d", b"a%D"),
    *(b"x" * 13 + b"%d", b"x" * 14 + b"%d"),
    *("à".encode(), "é".encode(), "ä".encode(), "日本".encode(), "\xa0".encode(), b"\xa0", b"a\xa0", b"\x85", b"\xff"),
    *(b"\x01", b"\x1b", b"\x7f", b"a@b", b"a,b", b"a'b", b'"', b"\\", b"*", b"?"),
]


@pytest.fixture
def kernel(netns: Namespaces) -> Iterator[Kernel]:
    asked = Kernel(netns.make())
    yield asked
    asked.close()


def verdict(check: Callable[[], None]) -> str:
    """`ok`, or the name of the errno that vethd refuses with; a refusal always has a remedy."""
    try:
        check()
    except VethdError as error:
        if error.hint is None or error.errno is None:
            return f"refused without hint or errno: {error}"
        return errno.errorcode[error.errno]
    return "ok"


def judged(name: bytes) -> str:
    return verdict(lambda: check_name(os.fsdecode(name), "end a: name"))


def test_names_are_judged_as_the_kernel_judges_them(kernel: Kernel) -> None:
    assert {name: judged(name) for name in NAMES} == {name: kernel.takes_name(name) for name in NAMES}


@asks_the_kernel
@given(name=st.lists(st.sampled_from([b"%", b"d", b"a", b".", b"/", b" ", b"\xa0", b"\xc3", b"1"])).map(b"".join))
def test_any_name_of_difficult_bytes_is_judged_as_the_kernel_judges_it(kernel: Kernel, name: bytes) -> None:
    assert judged(name) == kernel.takes_name(name)


@asks_the_kernel
@given(name=st.binary(max_size=17).map(lambda name: name.replace(b"\0", b"")))
def test_any_name_at_all_is_judged_as_the_kernel_judges_it(kernel: Kernel, name: bytes) -> None:
    assert judged(name) == kernel.takes_name(name)


@pytest.mark.parametrize("name", ["a\0b", "\0", "veth0\0"])
def test_a_name_with_a_nul_is_refused(name: str) -> None:
    """The kernel would cut it there; nobody wants that."""
    with pytest.raises(InvalidName):
        check_name(name, "end a: name")


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidName, match="no text"):
        check_name("\ud800", "end a: name")


@asks_the_kernel
@example(address=bytes(6))
@example(address=b"\xff" * 6)
@example(address=b"\x01\0\0\0\0\0")
@example(address=b"\x02\0\0\0\0\0")
@given(address=st.binary(min_size=6, max_size=6))
def test_an_address_is_judged_as_the_kernel_judges_it(kernel: Kernel, address: bytes) -> None:
    assert verdict(lambda: check_address(address.hex(":"), "end a: address")) == kernel.takes_address(address)


def test_an_address_of_another_length_is_refused(kernel: Kernel) -> None:
    """The kernel tells a wrong length from a wrong kind by the errno."""
    for size in (0, 1, 5, 7, 8, 20):
        assert verdict(lambda: check_address((b"\x02" * size).hex(":"), "end a: address")) == "EINVAL"  # noqa: B023
        assert kernel.takes_address(b"\x02" * size) in ("EINVAL", "ERANGE")


@pytest.mark.parametrize(
    "address",
    [
        *("02:00:00:00:00", "02:00:00:00:00:0g", "2:0:0:0:0:1", "02-00-00-00-00-01", "020000000001"),
        *(" 02:00:00:00:00:01", "02:00:00:00:00:01\n", "０２:00:00:00:00:01", ""),
    ],
)
def test_an_address_in_another_form_is_refused(address: str) -> None:
    with pytest.raises(InvalidAddress, match="end b: address"):
        check_address(address, "end b: address")


def test_upper_case_is_an_address_too() -> None:
    check_address("02:AB:cD:00:00:01", "end a: address")


def judged_mtus(*mtus: int) -> dict[int, str]:
    return {mtu: verdict(lambda mtu=mtu: check_mtu(mtu, "end a: mtu")) for mtu in mtus}  # type: ignore[misc]


def test_mtus_are_judged_as_kernel_veth_judges_them(kernel: Kernel) -> None:
    judged_here = judged_mtus(-1, 0, 1, 67, 68, 69, 1280, 1500, 9000, 65520, 65521)
    assert judged_here == {mtu: kernel.takes_mtu(mtu % (1 << 32)) for mtu in judged_here}


def test_the_range_of_mtus_is_that_of_a_tap(netns: Namespaces) -> None:
    where = netns.make()
    ip(where, "tuntap", "add", "dev", "vtptap", "mode", "tap")
    judged_here = judged_mtus(67, 68, 65521, 65522)
    assert {mtu: word == "ok" for mtu, word in judged_here.items()} == {
        mtu: ip(where, "link", "set", "vtptap", "mtu", str(mtu), check=False).ok for mtu in judged_here
    }


@pytest.mark.parametrize("mtu", [65522, 65535, 65536, 1 << 31])
def test_what_only_kernel_veth_could_do_is_refused_with_the_reason(mtu: int) -> None:
    with pytest.raises(MtuOutOfRange, match=rf"end a: mtu {mtu} .*65521, where kernel veth takes 65535"):
        check_mtu(mtu, "end a: mtu")


@pytest.mark.parametrize("length", [-1, TXQUEUELEN_MAX + 1])
def test_a_ring_that_no_memory_would_hold_is_refused(length: int) -> None:
    with pytest.raises(InvalidParams, match=f"end b: txqueuelen {length}") as refused:
        EndSpec("b", "vtp", -1, txqueuelen=length).validate()
    assert refused.value.hint


@pytest.mark.parametrize(("asked", "made"), [(0, 1000), (1, 1), (TXQUEUELEN_MAX, TXQUEUELEN_MAX)])
def test_a_ring_of_nothing_becomes_the_default(asked: int, made: int) -> None:
    spec = EndSpec("a", "vtp", -1, txqueuelen=asked)
    spec.validate()
    assert spec.txqueuelen == made


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("ifname", "", InvalidName),
        ("address", "ff:ff:ff:ff:ff:ff", InvalidAddress),
        ("mtu", 67, MtuOutOfRange),
        ("txqueuelen", -1, InvalidParams),
    ],
)
@pytest.mark.parametrize("letter", ["a", "b"])
def test_a_refusal_names_end_and_field(field: str, value: object, error: type[VethdError], letter: str) -> None:
    spec = EndSpec(letter, "vtp", -1)  # type: ignore[arg-type]
    setattr(spec, field, value)
    word = "name" if field == "ifname" else field
    with pytest.raises(error, match=f"end {letter}: {word} ") as refused:
        spec.validate()
    assert refused.value.hint


@pytest.mark.parametrize("numqueues", [-1, 0, 257, 1 << 40])
def test_a_number_of_queues_that_no_tap_can_have_is_refused(numqueues: int) -> None:
    spec = PairSpec(EndSpec("a", "v0", -1), EndSpec("b", "v1", -1), numqueues=numqueues)
    with pytest.raises(InvalidParams, match=rf"numqueues {numqueues} is not in 1\.\.256") as refused:
        spec.validate()
    assert "256 queues" in str(refused.value.hint)


@pytest.mark.parametrize("numqueues", [1, 2, 256])
def test_any_other_is_not(numqueues: int) -> None:
    PairSpec(EndSpec("a", "v0", -1), EndSpec("b", "v1", -1), numqueues=numqueues).validate()
