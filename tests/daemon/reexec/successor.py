"""A daemon whose next program does first what a test wants: wait, fail, or find another state than was left for it.

Run as a program, `python successor.py SCRIPT VETHD ARGUMENTS...` executes SCRIPT if there is one, then VETHD.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: In scripts: true in the program that takes over, not in the one that is only tried before.
TAKES_OVER = 'if "_VETHD_HANDOVER" in os.environ:'
#: A script that replaces bytes of the state.
EDIT = f"""
{TAKES_OVER}
    memfd = int(os.environ["_VETHD_HANDOVER"])
    names, state = os.pread(memfd, 1 << 30, 0).split(b"\\n", 1)
    assert {{old!r}} in state, state
    os.ftruncate(memfd, 0)
    os.pwrite(memfd, names + b"\\n" + state.replace({{old!r}}, {{new!r}}), 0)
"""


class NextProgram:
    """What the next program of a daemon does first. prefix: for the daemon's start."""

    def __init__(self, workdir: Path) -> None:
        self._script = workdir / "script.py"
        self._fifo = workdir / "fifo"
        os.mkfifo(self._fifo)
        self.prefix: Sequence[str] = (sys.executable, __file__, str(self._script))

    def does(self, script: str) -> None:
        """Execute this Python too, wherever the program is started from now on."""
        with self._script.open("a") as file:
            file.write(f"import os\n{script}\n")

    def finds(self, old: str, new: str) -> None:
        """Change a part of the state that was left for it."""
        self.does(EDIT.format(old=old.encode(), new=new.encode()))

    def does_nothing(self) -> None:
        """Start as usual."""
        self._script.unlink(missing_ok=True)

    def waits(self) -> None:
        """Wait, once the old program is no more, as long as `waiting` says."""
        self.does(f"{TAKES_OVER}\n    open({str(self._fifo)!r}).read()")

    def waits_when_tried(self) -> None:
        """Wait likewise before the old program is no more, and refuse then."""
        self.does(f"open({str(self._fifo)!r}).read()\nraise SystemExit('enough')")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The body runs while the new program waits."""
        with self._fifo.open("w"):
            yield


if __name__ == "__main__":
    del sys.argv[0]
    script = Path(sys.argv.pop(0))
    if script.exists():
        exec(script.read_text())
    runpy.run_path(sys.argv[0], run_name="__main__")
