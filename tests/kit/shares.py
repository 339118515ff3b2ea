"""How tests are shared out among the processes of pytest-xdist, where there are several, as in `.ci/run`."""

from __future__ import annotations

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/e2e/service/",)  #: Directories whose files share something that takes long to make.


class Shares(LoadScopeScheduling):
    """Files are given out as wholes, for their tests share daemons; directories, where they share a machine."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return str(PurePath(file).parent) if file.startswith(TOGETHER) else file
