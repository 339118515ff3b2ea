"""One JSON text per line: how lines are found in the stream, and what may not be in one."""

import json
from collections.abc import Callable

import pytest

from tests.kit.netns import Namespaces
from tests.rpc.talk import ANYTHING, Talk, refused, request, result

MIB = 1 << 20


def sized(size: int, number: int = 1) -> bytes:
    """A valid request of this many bytes, its newline not counted."""
    text = json.dumps(request(number, "link.list"))
    return text.encode() + b" " * (size - len(text))


def test_pipelined_requests_are_answered_in_order(talk: Talk) -> None:
    numbers = range(2000)
    talk.send(b"".join(json.dumps(request(n, "link.list")).encode() + b"\n" for n in numbers))
    for n in numbers:
        talk.hear(result(n, []))


def test_a_slow_request_is_not_overtaken_by_a_quick_one_behind_it(talk: Talk) -> None:
    talk.say(request("slow", "stats.get"))
    talk.say(request("quick", "link.get"))
    talk.hear(result("slow", {"pairs": [], "cursor": None, "interval": None}))
    talk.hear(refused("quick", "invalid_params"))


def test_a_request_may_come_byte_by_byte(talk: Talk) -> None:
    for byte in json.dumps(request(1, "link.list")).encode() + b"\n":
        talk.send(bytes([byte]))
    talk.hear(result(1, []))


def test_the_end_of_one_line_may_come_with_the_beginning_of_the_next(talk: Talk) -> None:
    first, second = (json.dumps(request(n, "link.list")).encode() + b"\n" for n in (1, 2))
    talk.send(first[:10])
    talk.send(first[10:] + second[:5])
    talk.hear(result(1, []))
    talk.send(second[5:])
    talk.hear(result(2, []))


@pytest.mark.parametrize("end", [b"\r\n", b"  \t\n", b"\n\n\n  \n"])
def test_blanks_at_the_end_of_a_line_and_empty_lines_do_not_matter(talk: Talk, end: bytes) -> None:
    talk.send(json.dumps(request(1, "link.list")).encode() + end)
    talk.hear(result(1, []))
    talk.hear_nothing()


def test_a_json_text_may_not_span_lines(talk: Talk) -> None:
    text = json.dumps(request(1, "link.list", ifname="vtr-none"), indent=1)
    talk.say(text)
    for _ in text.splitlines():
        talk.hear(refused(None, "parse_error"))


def test_two_json_texts_in_a_line_are_none(talk: Talk) -> None:
    text = json.dumps(request(1, "link.list"))
    talk.say(text + text)
    talk.hear(refused(None, "parse_error"))


def test_a_client_that_says_no_more_still_gets_its_answers(talk: Talk) -> None:
    for n in range(200):
        talk.say(request(n, "stats.get"))
    talk.say_no_more()
    for n in range(200):
        talk.hear(result(n))
    talk.hear_hanging_up()


def test_it_may_say_no_more_while_its_only_request_is_at_work(talk: Talk, netns: Namespaces) -> None:
    red = netns.make()
    talk.say(request(1, "link.add", a={"netns": red}, b={"netns": red}))
    talk.say_no_more()
    talk.hear(result(1))
    talk.hear_hanging_up()


def test_the_last_line_needs_no_newline_when_nothing_follows(talk: Talk) -> None:
    talk.send(json.dumps(request(1, "link.list")).encode())
    talk.say_no_more()
    talk.hear(result(1, []))
    talk.hear_hanging_up()


def test_half_a_request_at_the_end_is_a_parse_error(talk: Talk) -> None:
    talk.send(b'{"jsonrpc": "2.0", "id": 1, "method": "link.li')
    talk.say_no_more()
    talk.hear(refused(None, "parse_error"))
    talk.hear_hanging_up()


def test_a_client_that_says_nothing_at_all_is_hung_up_on_when_it_hangs_up(talk: Talk) -> None:
    talk.say_no_more()
    talk.hear_hanging_up()


# -- size -------------------------------------------------------------------------------------------------------------


def test_a_request_may_have_one_mebibyte(talk: Talk) -> None:
    talk.send(sized(MIB) + b"\n" + sized(MIB, 2) + b"\n")
    talk.hear(result(1, []))
    talk.hear(result(2, []))


@pytest.mark.parametrize("tail", [b"\n", b"x"])
def test_a_larger_request_is_refused_after_everything_before_it_was_answered(talk: Talk, tail: bytes) -> None:
    for n in range(10):
        talk.say(request(n, "stats.get"))
    try:
        talk.send(sized(MIB + 1) + tail)
        talk.say(request("never", "link.list"))
    except ConnectionError:
        pass  # it stopped listening after the first byte that was too much
    for n in range(10):
        talk.hear(result(n))
    talk.hear(refused(None, "invalid_request", "a request above 1048576 bytes", hint="send several"))
    talk.hear_hanging_up()


def test_a_line_without_an_end_is_cut_off(talk: Talk) -> None:
    with pytest.raises(ConnectionError):
        talk.send(b"[" * (100 * MIB))
    talk.hear(refused(None, "invalid_request"))
    talk.hear_hanging_up()


def test_an_answer_may_be_larger_than_a_request(talk: Talk) -> None:
    long_name = "x" * (MIB - 200)
    talk.say(request(1, "link.get", ifname=long_name))
    heard = talk.hear(refused(1, "no_such_link"))
    assert long_name in heard["error"]["message"]
    unknown = "\u00e9" * (MIB // 3)  # escaped in the answer, where it takes three times the bytes
    talk.say(json.dumps(request(2, unknown), ensure_ascii=False))
    talk.hear(refused(2, "method_not_found"))


# -- what is in it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [33, 1000, 20_000, 500_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_too_deep_is_an_error_and_no_crash(talk: Talk, depth: int, opening: str, closing: str) -> None:
    depth = min(depth, (MIB - 100) // len(opening + closing))
    talk.say(opening * depth + ("1" if closing == "}" else "") + closing * depth)
    talk.hear(refused(None, "parse_error", "nested too deeply", hint="at most 32 levels"))
    talk.hear_nothing()


def test_nesting_that_can_be_read_is_refused_by_the_name_of_its_field(talk: Talk) -> None:
    talk.say(f'{{"jsonrpc":"2.0","id":1,"method":"link.list","params":{{"netns":{"[" * 30}{"]" * 30}}}}}')
    talk.hear(
        refused(1, "invalid_params", "netns: must be a name, an absolute path, or hold one of name, path, pid and fd")
    )


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"link.get","params":{"ifname":"\xff\xfe"}}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"link.get","params":{"ifname":"\xed\xa0\x80"}}\n',  # a surrogate as bytes
        b'{"jsonrpc":"2.0","id":1,"method":"link.get","params":{"ifname":"\xc0\xaf"}}\n',  # overlong
        json.dumps(request(1, "link.list")).encode("utf-16-be") + b"\x00\n",
        b"\xff\n",
        b"\x00\n",
    ],
)
def test_what_is_not_utf_8_is_no_json_text(talk: Talk, line: bytes) -> None:
    talk.send(line)
    talk.hear(refused(None, "parse_error"))
    talk.hear_nothing()


def test_utf_8_is_understood(talk: Talk) -> None:
    talk.say('{"jsonrpc":"2.0","id":1,"method":"link.get","params":{"ifname":"vtr\u00e9\U0001f600"}}')
    talk.hear(refused(1, "no_such_link", 'Cannot find device "vtr\u00e9\U0001f600"'))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("\\ud800", "invalid_name"),
        ("\\udfff\\ud800", "invalid_name"),
        ("vtr\\u0000", "invalid_name"),
        ("vtr\\udcff", "mtu_out_of_range"),  # stands for the byte 0xff, which the kernel takes in a name
    ],
)
def test_halves_of_surrogate_pairs_and_nul_are_refused_or_just_not_found(talk: Talk, name: str, kind: str) -> None:
    talk.say(f'{{"jsonrpc":"2.0","id":1,"method":"link.get","params":{{"ifname":"{name}"}}}}')
    talk.hear(refused(1, "no_such_link"))
    talk.say(f'{{"jsonrpc":"2.0","id":2,"method":"link.add","params":{{"a":{{"ifname":"{name}", "mtu":1}}}}}}')
    talk.hear(refused(2, kind))
    for field in ("name", "path"):
        slash = "/" if field == "path" else ""
        talk.say(f'{{"jsonrpc":"2.0","id":3,"method":"link.list","params":{{"netns":{{"{field}":"{slash}{name}"}}}}}}')
        heard = talk.hear({"jsonrpc": "2.0", "id": 3, "error": ANYTHING})
        assert heard["error"]["data"]["kind"] in ("invalid_params", "no_such_netns")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_a_parse_error(talk: Talk, number: str) -> None:
    talk.say(f'{{"jsonrpc":"2.0","id":1,"method":"link.add","params":{{"a":{{"mtu":{number}}}}}}}')
    talk.hear(refused(None, "parse_error", f"not a JSON text: {number} is no JSON number"))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("1" * 4000, "mtu_out_of_range"),
        ("-" + "9" * 300, "mtu_out_of_range"),
        ("1e999", "invalid_params"),
        ("1500.0", "invalid_params"),
        ("1e400000", "invalid_params"),
        ('"1500"', "invalid_params"),
        ("true", "invalid_params"),
    ],
)
def test_huge_numbers_and_numbers_of_the_wrong_type_are_refused(talk: Talk, number: str, kind: str) -> None:
    talk.say(f'{{"jsonrpc":"2.0","id":1,"method":"link.add","params":{{"a":{{"mtu":{number}}}}}}}')
    talk.hear(refused(1, kind))


def test_a_number_of_more_digits_than_can_be_converted_is_a_parse_error(talk: Talk) -> None:
    talk.say(f'{{"jsonrpc":"2.0","id":1,"method":"link.add","params":{{"a":{{"mtu":{"1" * 100_000}}}}}}}')
    talk.hear(refused(None, "parse_error"))
    talk.hear_nothing()


def test_of_a_member_given_twice_the_last_counts(talk: Talk) -> None:
    talk.say('{"jsonrpc":"2.0","id":1,"id":2,"method":"link.list"}')
    talk.hear(result(2, []))


def test_a_bad_line_does_not_harm_the_connection_or_others(talker: Callable[..., Talk]) -> None:
    one, other = talker(), talker()
    one.say("nonsense")
    one.hear(refused(None, "parse_error"))
    for talk in (one, other):
        talk.say(request(1, "link.list"))
        talk.hear(result(1, []))
