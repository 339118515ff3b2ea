"""Which speed of the datapath runs is chosen by the environment and told by daemon.info."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kit.daemon import Daemon
from vethd.datapath import speed


def test_the_workers_run_what_the_tests_run(shared_daemon: Daemon) -> None:
    """So a run of the whole suite at one speed really tests that speed."""
    assert {row["datapath"] for row in shared_daemon.call("daemon.info")["workers"]} == {speed()}


@pytest.mark.parametrize(
    ("variable", "datapath", "why"),
    [
        ("VETHD_NO_EXTENSIONS", "interpreted", "VETHD_NO_EXTENSIONS is set"),
        ("VETHD_REQUIRE_EXTENSIONS", "compiled", "extensions are built"),
    ],
)
def test_the_environment_chooses(
    start_daemon: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch, variable: str, datapath: str, why: str
) -> None:
    for name in ("VETHD_NO_EXTENSIONS", "VETHD_REQUIRE_EXTENSIONS"):
        monkeypatch.delenv(name, raising=False)
    daemon = start_daemon(env={variable: "1"})
    assert [(row["datapath"], row["why"]) for row in daemon.call("daemon.info")["workers"]] == [(datapath, why)]
