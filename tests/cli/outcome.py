"""How a command ended."""

from tests.kit.commands import Answer


def refused(answer: Answer, code: int, *lines: str) -> None:
    """The command must have failed with this status and printed exactly these lines, on standard error."""
    assert (answer.code, answer.out, answer.err) == (code, "", "".join(f"{line}\n" for line in lines))
