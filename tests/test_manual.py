"""The manual pages say what the code does: no option, key, command or method is missing, and none is there in vain."""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from docs.manual import SOURCES, manual, source
from vethd.cli.commands import OBJECTS
from vethd.cli.options import OPTIONS
from vethd.cni import config as cni_config
from vethd.cni import errors as cni_errors
from vethd.cni import request
from vethd.config import Config
from vethd.daemon.main import parser
from vethd.daemon.reload import FIXED
from vethd.docker.main import parser as docker_parser
from vethd.docker.options import KNOWN
from vethd.rpc.generate.files import table

PAGES = sorted(SOURCES.glob("*.rst"))
VETHD = Path(__file__).parents[1] / "vethd"
SETTINGS = Config().model_dump(exclude={"pair"})


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every page as reStructuredText, by name."""
    methods = asyncio.run(table())
    return {page.stem: source(page, methods) for page in PAGES}


def section(text: str, title: str) -> str:
    """The body of a section of a page."""
    return (
        re.split(rf"^{re.escape(title)}\n=+\n", text, flags=re.MULTILINE)[1].split("\n===", 1)[0].rsplit("\n\n", 1)[0]
    )


def terms(text: str) -> list[str]:
    """What stands in bold at the beginning of a line."""
    return re.findall(r"^\*\*([^*]+)\*\*", text, re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["vethctl.8", "vethd-cni.8", "vethd-docker.8", "vethd.8", "vethd-oci.8", "vethd.toml.5"]
)
def test_man_shows_the_page(texts: dict[str, str], name: str, tmp_path: Path) -> None:
    page = tmp_path / name
    page.write_text(manual(texts[name]))
    shown = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stderr == ""
    title, number = name.rsplit(".", 1)
    assert shown.stdout.startswith(f"{title}({number})")
    assert "``" not in shown.stdout


def options(of: argparse.ArgumentParser) -> set[str]:
    """The options of a command and of its own commands."""
    found = set()
    for action in of._actions:
        found |= set(action.option_strings[:1] if action.dest == "help" else action.option_strings[-1:])
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options(command)
    return found


def test_vethd_has_the_options_and_commands_of_the_page(texts: dict[str, str]) -> None:
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    page = texts["vethd.8"]
    assert sorted(terms(section(page, "COMMANDS"))) == sorted(commands.choices)
    assert set(re.findall(r"^(--?[a-z-]+)", section(page, "OPTIONS"), re.MULTILINE)) == options(parser())


def test_vethd_docker_has_the_options_of_the_page(texts: dict[str, str]) -> None:
    page = texts["vethd-docker.8"]
    assert set(re.findall(r"^(--?[a-z-]+)", section(page, "OPTIONS"), re.MULTILINE)) == options(docker_parser())
    assert tuple(terms(section(page, "OPTIONS OF A NETWORK"))) == KNOWN


def test_vethd_reads_the_environment_of_the_page(texts: dict[str, str]) -> None:
    read = set()
    for file in VETHD.rglob("*.py"):
        read |= set(re.findall(r"environ(?:\.get\(|\[)\"(VETHD_[A-Z_]+)\"", file.read_text()))
    assert set(terms(section(texts["vethd.8"], "ENVIRONMENT"))) == read


def test_the_control_socket_has_the_methods_of_the_page(texts: dict[str, str]) -> None:
    names = sorted(method.name for method in asyncio.run(table()))
    assert terms(section(texts["vethd.8"], "CONTROL SOCKET"))[-len(names) :] == names


def model_at(field: str, of: type[BaseModel]) -> type[BaseModel]:
    """The model of a table of the configuration."""
    annotation = of.model_fields[field].annotation
    (found,) = (each for each in (annotation, *get_args(annotation)) if isinstance(each, type) and each is not list)
    assert issubclass(found, BaseModel)
    return found


def test_the_configuration_has_the_keys_of_the_page(texts: dict[str, str]) -> None:
    page = texts["vethd.toml.5"]
    pair = model_at("pair", Config)
    lists = ("socket", "bridge", "pair")
    tables = {f"[{name}]": model_at(name, Config) for name in Config.model_fields if name not in lists}
    tables |= {"[[bridge]]": model_at("bridge", Config)}
    tables |= {"[[pair]]": pair, "[pair.a], [pair.b]": model_at("a", pair)}
    titles = re.findall(r"^(\[.*\])\n=+$", page, re.MULTILINE)
    assert sorted(titles) == sorted(tables)
    for title, model in tables.items():
        keys = [key for line in re.findall(r"^\*\*.*", section(page, title), re.MULTILINE) for key in terms_of(line)]
        assert keys == list(model.model_fields) or sorted(keys) == sorted(model.model_fields), title
    assert terms(section(page, "TOP LEVEL")) == ["socket"]


def terms_of(line: str) -> list[str]:
    """The keys that a line is about: those before the equals sign."""
    return re.findall(r"\*\*([a-z_]+)\*\*", line.split(" = ", maxsplit=1)[0])


def paragraphs(page: str) -> dict[str, str]:
    """What the page says of each setting, by its key, such as `log.level`."""
    found = {}
    for name in ("TOP LEVEL", *(f"[{name}]" for name in SETTINGS if isinstance(SETTINGS[name], dict))):
        prefix = "" if name == "TOP LEVEL" else f"{name[1:-1]}."
        for paragraph in re.split(r"\n(?=\*\*)", section(page, name)):
            for key in terms_of(paragraph.split("\n", 1)[0]):
                found[prefix + key] = paragraph.split("\n", 1)[1]
    return found


def test_the_page_says_what_holds_from_the_start_on_and_what_is_the_default(texts: dict[str, str]) -> None:
    told = paragraphs(texts["vethd.toml.5"])
    assert {key for key, text in told.items() if re.search("At start\\.", text)} == FIXED
    for key, text in told.items():
        section_name, _dot, name = key.rpartition(".")
        default = (SETTINGS[section_name] if section_name else SETTINGS)[name]
        shown = {"[]": "empty"}.get(str(default), str(default).removesuffix(".0"))
        assert re.search(rf"(?<![\w.]){re.escape(shown)}(?!\w|\.\d)", text, re.IGNORECASE), (key, shown)


def test_vethctl_has_the_commands_and_options_of_the_page(texts: dict[str, str]) -> None:
    page = texts["vethctl.8"]
    names = [
        " ".join((thing.name, *each.names[:1])) for thing in OBJECTS if not thing.hidden for each in thing.commands
    ]
    assert terms(section(page, "COMMANDS")) == names
    assert re.findall(r"^``(.*)``$", section(page, "OPTIONS"), re.MULTILINE) == [option.shown for option in OPTIONS]


def test_the_plugin_has_the_commands_and_fields_of_the_page(texts: dict[str, str]) -> None:
    page = texts["vethd-cni.8"]
    assert sorted(terms(section(page, "COMMANDS"))) == sorted(request.COMMANDS)
    fields = re.findall(r"^\*\*([A-Za-z]+)\*\*(?:, \*\*([A-Za-z]+)\*\*)?", section(page, "CONFIGURATION"), re.MULTILINE)
    told = {name for names in fields for name in names if name} | set(re.findall(r"\*([A-Za-z]+)\*", page))
    known = cni_config.KNOWN | cni_config.IDLE.keys()
    assert {name for name in known if "/" not in name} - told - set(re.findall(r"\*\*([A-Za-z]+)\*\*", page)) == set()
    assert {name for names in fields for name in names if name} <= known
    codes = {value for name, value in vars(cni_errors).items() if name.isupper() and isinstance(value, int)}
    shown = {
        int(code)
        for line in re.findall(r"^[0-9, ]+$", section(page, "ERRORS"), re.MULTILINE)
        for code in line.split(",")
    }
    assert shown == codes - {cni_errors.INTERNAL}
