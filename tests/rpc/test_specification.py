"""The examples of the JSON-RPC 2.0 specification, section 7, with methods that vethd has; and its rules on ids."""

import json
from typing import Any

import pytest

from tests.rpc.talk import ANYTHING, Talk, refused, request, result

EXAMPLE = '{"jsonrpc": "2.0", "id": 1, "method": "link.list"}'


def test_call_with_named_parameters(talk: Talk) -> None:
    talk.say('{"jsonrpc": "2.0", "method": "link.list", "params": {"ifname": "vtr-none"}, "id": 3}')
    talk.hear(result(3, []))


def test_the_order_of_the_members_does_not_matter(talk: Talk) -> None:
    talk.say('{"id": 4, "params": {"ifname": "vtr-none"}, "method": "link.list", "jsonrpc": "2.0"}')
    talk.hear(result(4, []))


def test_parameters_may_be_left_out(talk: Talk) -> None:
    talk.say('{"jsonrpc": "2.0", "method": "link.list", "id": 1}')
    talk.hear(result(1, []))


@pytest.mark.parametrize("params", ['["vtr-none"]', "[]"])
def test_positional_parameters_are_refused_in_words(talk: Talk, params: str) -> None:
    talk.say(f'{{"jsonrpc": "2.0", "method": "link.list", "params": {params}, "id": 1}}')
    talk.hear(refused(1, "invalid_params", "params is a list", hint="give an object: parameters go by name"))


@pytest.mark.parametrize("method", ["link.list", "no.such.method", "link.get", "link.del"])
@pytest.mark.parametrize("params", ['{"wrong": 1}', "[1, 2, 3, 4, 5]", "{}"])
def test_a_notification_is_never_answered_not_even_with_an_error(talk: Talk, method: str, params: str) -> None:
    talk.say(f'{{"jsonrpc": "2.0", "method": "{method}", "params": {params}}}')
    talk.hear_nothing()


def test_call_of_a_method_that_does_not_exist(talk: Talk) -> None:
    talk.say('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}')
    hint = talk.hear(refused("1", "method_not_found", "there is no method 'foobar'"))["error"]["data"]["hint"]
    names = hint.removeprefix("there are ").split(", ")
    assert names == sorted(names)
    assert {"daemon.info", "link.add", "stats.get"} < set(names)


@pytest.mark.parametrize("text", ['{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', "{", '"\\ud8', "]"])
def test_invalid_json(talk: Talk, text: str) -> None:
    talk.say(text)
    talk.hear(refused(None, "parse_error"))


def test_a_parse_error_says_where(talk: Talk) -> None:
    talk.say('{"jsonrpc": "2.0", nonsense}')
    message = "not a JSON text: Expecting property name enclosed in double quotes: line 1 column 20 (char 19)"
    talk.hear(refused(None, "parse_error", message, hint=f"one JSON text per line, in UTF-8: {EXAMPLE}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', "method: must be a string"),
        ('{"jsonrpc": "2.0", "method": "link.list", "params": "bar", "id": 1}', "params: must be an object"),
        ('{"jsonrpc": "2.0", "method": "link.list", "params": null, "id": 1}', "params: must be an object"),
        ('{"jsonrpc": "2.0", "id": 1}', "method: must be a string"),
        ('{"method": "link.list", "id": 1}', 'jsonrpc: must be "2.0"'),
        ('{"jsonrpc": "1.0", "method": "link.list", "id": 1}', 'jsonrpc: must be "2.0"'),
        ('{"jsonrpc": 2.0, "method": "link.list", "id": 1}', 'jsonrpc: must be "2.0"'),
        ('{"jsonrpc": "2.0", "method": "link.list", "id": [1]}', "id: must be a string or a number"),
        ('{"jsonrpc": "2.0", "method": "link.list", "id": {}}', "id: must be a string or a number"),
        ('{"jsonrpc": "2.0", "method": "link.list", "id": true}', "id: must be a string or a number"),
        ('{"jsonrpc": "2.0", "method": "link.list", "id": 1e999}', "id: must be a string or a number"),
        ('{"jsonrpc": "2.0", "method": "link.add", "parms": {}, "id": 1}', "parms: unknown"),
        ('"link.list"', "a request is an object"),
        ("1", "a request is an object"),
        ("null", "a request is an object"),
    ],
)
def test_what_is_json_but_no_request(talk: Talk, text: str, message: str) -> None:
    talk.say(text)
    talk.hear(refused(None, "invalid_request", message))


@pytest.mark.parametrize("number", [0, 1, -1, 2**63, 10**300, 1.5, "", "1", "\u00e9 \U0001f600", "\ud800", None])
def test_an_id_comes_back_as_it_was(talk: Talk, number: Any) -> None:
    talk.say({"jsonrpc": "2.0", "method": "link.list", "id": number})
    talk.hear(result(number, []))


def test_a_batch_that_is_not_json(talk: Talk) -> None:
    talk.say('[{"jsonrpc": "2.0", "method": "link.list", "id": "1"}, {"jsonrpc": "2.0", "method"]')
    talk.hear(refused(None, "parse_error"))


def test_an_empty_batch(talk: Talk) -> None:
    talk.say("[]")
    talk.hear(refused(None, "invalid_request", "an empty batch", hint="a batch holds at least one request"))


def test_an_invalid_but_not_empty_batch(talk: Talk) -> None:
    talk.say("[1]")
    talk.hear([refused(None, "invalid_request")])


def test_an_invalid_batch(talk: Talk) -> None:
    talk.say("[1,2,3]")
    talk.hear([refused(None, "invalid_request")] * 3)


def test_a_batch_of_everything(talk: Talk) -> None:
    batch = [
        {"jsonrpc": "2.0", "method": "link.list", "id": "1"},
        {"jsonrpc": "2.0", "method": "softnet.get", "params": {}},
        {"jsonrpc": "2.0", "method": "link.list", "params": [42, 23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "stats.get", "id": "9"},
        [],
    ]
    talk.say(batch)
    talk.hear(
        [
            result("1", []),
            refused("2", "invalid_params"),
            refused(None, "invalid_request"),
            refused("5", "method_not_found"),
            result("9", {"pairs": [], "cursor": None, "interval": None}),
            refused(None, "invalid_request"),
        ]
    )


def test_a_batch_of_notifications_is_not_answered(talk: Talk) -> None:
    talk.say([{"jsonrpc": "2.0", "method": "link.list"}, {"jsonrpc": "2.0", "method": "foobar"}])
    talk.hear_nothing()


def test_a_batch_may_use_an_id_twice(talk: Talk) -> None:
    talk.say([request(7, "link.list"), request(7, "stats.get")])
    talk.hear([result(7, []), result(7, {"pairs": [], "cursor": None, "interval": None})])


def test_a_batch_has_at_most_100_requests(talk: Talk) -> None:
    talk.say([request(n, "link.list") for n in range(100)])
    talk.hear([result(n, []) for n in range(100)])
    talk.say([request(n, "link.list") for n in range(101)])
    talk.hear(refused(None, "invalid_request", "a batch of 101 requests", hint="at most 100; send several"))


def test_every_answer_is_one_line_with_exactly_the_members_of_the_specification(talk: Talk) -> None:
    talk.say([request(1, "daemon.info"), request(2, "nothing")])
    good, bad = talk.hear(ANYTHING)
    assert good.keys() == {"jsonrpc", "id", "result"}
    assert bad.keys() == {"jsonrpc", "id", "error"}
    assert bad["error"].keys() == {"code", "message", "data"}
    assert json.dumps([good, bad]).isascii()
