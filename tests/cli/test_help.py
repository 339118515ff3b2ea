"""The help: complete, and in step with what the commands take."""

import re

import pytest

from tests.kit.commands import run
from tests.kit.daemon import PROGRAMS
from vethd.cli.commands import DEFINITIONS, OBJECTS, Command, Object, help_all, help_command, help_object
from vethd.cli.complete import place

VETHCTL = str(PROGRAMS / "vethctl")
SHOWN = [object_ for object_ in OBJECTS if not object_.hidden]
COMMANDS = [(object_, command) for object_ in SHOWN for command in object_.commands]


def words(object_: Object, command: Command) -> list[str]:
    return [object_.name, *command.names[:1]]


def test_without_any_word_the_usage_is_an_error_and_on_request_it_is_not() -> None:
    alone = run(VETHCTL, check=False)
    assert (alone.code, alone.out) == (255, "")
    assert alone.err == help_all()
    for asked in (("help",), ("-h",), ("-help",), ("--help",)):
        answer = run(VETHCTL, *asked)
        assert (answer.out, answer.err) == (help_all(), "")


def test_every_object_and_command_has_its_help() -> None:
    assert run(VETHCTL, "link", "help").out == run(VETHCTL, "help", "link").out == help_object(SHOWN[0])
    add = help_command(SHOWN[0].commands[0])
    for asked in (("link", "add", "help"), ("help", "link", "add"), ("h", "l", "a")):
        assert run(VETHCTL, *asked).out == add
    assert run(VETHCTL, "monitor", "help").out.startswith(
        "Usage: vethctl monitor [ TOPIC ]... [ since SERVER_ID:SEQ ]\nwhere TOPIC := "
    )


def test_the_overview_names_everything() -> None:
    text = help_all()
    for object_, command in COMMANDS:
        assert re.search(rf"^  {' '.join(words(object_, command))} +{re.escape(command.summary)}$", text, re.MULTILINE)


@pytest.mark.parametrize("text", [help_all(), *map(help_object, SHOWN), *(help_command(each) for _, each in COMMANDS)])
def test_help_fits_a_terminal(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 80
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize(("object_", "command"), COMMANDS, ids=lambda part: getattr(part, "name", "") or "")
def test_the_usage_says_what_completion_offers(object_: Object, command: Command) -> None:
    """Both ways: every word of the usage is offered at some place, and every word offered is in the usage."""
    usage = " ".join(command.usage)
    for _ in DEFINITIONS:
        for name, meaning in DEFINITIONS.items():
            usage = re.sub(rf"\b{name}\b", " ".join(meaning), usage)
    said = set(re.findall(r"(?<![A-Z=])\b[a-z][a-z-]+\b", usage)) - set(words(object_, command))
    offered = set()
    for before in ([], ["x"], ["x", "type"], ["x", "type", "veth"], ["x", "type", "veth", "peer", "y"], ["label", "a"]):
        offered |= set(place([*words(object_, command), *before, ""]).keywords)
    for keyword in sorted(said & {"gro", "placement", "overload", "origin"}):
        offered |= set(place([*words(object_, command), "x", keyword, ""]).keywords)
        offered |= set(place([*words(object_, command), keyword, ""]).keywords)
    assert {word for word in offered if not word.startswith("-")} == said
