"""Whatever line comes, its answer is the one JSON-RPC says; `make fuzz` asks a coverage-guided fuzzer the same."""

from __future__ import annotations

from hypothesis import given

from tests.rpc.fuzz.answering import answer
from tests.rpc.fuzz.examples import hostile
from tests.rpc.fuzz.requests import lines


@hostile(1000)
@given(line=lines)
def test_every_line_gets_the_answer_it_must_get(line: bytes) -> None:
    answer(line)
