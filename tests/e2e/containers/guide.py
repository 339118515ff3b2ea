"""The commands of docs/containers.md: what its sections say is what the tests do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

GUIDE: Final = Path(__file__).parents[3] / "docs/containers.md"
_SECTION: Final = re.compile(r"^(##+) ([^\n]*)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: What the second container has where the page says how to start one.
OTHER: Final = {"web": "db", "red": "blue", "10.88.0.1": "10.88.0.2", "fd00:88::1": "fd00:88::2"}


def sections() -> dict[str, dict[str, list[str]]]:
    """Blocks of shell commands, by chapter and section; those before the first section by the empty name."""
    found: dict[str, dict[str, list[str]]] = {}
    chapter = ""
    for level, title, text in _SECTION.findall(GUIDE.read_text()):
        if level == "##":
            chapter = title
        found.setdefault(chapter, {})["" if level == "##" else title] = _BLOCK.findall(text)
    return found


def for_the_other(commands: str) -> str:
    """The same commands for the second container."""
    words = "|".join(map(re.escape, OTHER))
    return re.sub(rf"\b(?:{words})\b", lambda match: OTHER[match[0]], commands)
