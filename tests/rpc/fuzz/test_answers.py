"""Whatever line comes, its answer is the one JSON-RPC says; `make fuzz` asks a coverage-guided fuzzer the same."""

from __future__ import annotations

from hypothesis import example, given

from tests.rpc.fuzz.answering import answer
from tests.rpc.fuzz.examples import hostile
from tests.rpc.fuzz.requests import lines


@hostile(500)
@given(line=lines)
@example(line=b'{"jsonrpc":"2.0","id":1e999,"method":"link.list"}')
def test_every_line_gets_the_answer_it_must_get(line: bytes) -> None:
    answer(line)
