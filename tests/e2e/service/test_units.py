"""The unit files themselves, by systemd's own measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.service.unit import as_root
from tests.kit.commands import run

UNITS = Path(__file__).parents[3] / "systemd"
#: What `systemd-analyze security` gives at most, in tenths; README.md says what it gives for vethd.service.
THRESHOLD = {"vethd.service": 20, "vethd-docker.service": 23}


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with programs in them that are here."""
    for file in UNITS.glob("vethd*.s[eo]*"):
        text = file.read_text()
        for program in ("vethd", "vethctl", "vethd-docker"):
            text = text.replace(f"/usr/lib/vethd/bin/{program} ", "/usr/bin/true ")
            text = text.replace(f"/usr/lib/vethd/bin/{program}\n", "/usr/bin/true\n")
        (tmp_path / file.name).write_text(text)
    return tmp_path


def test_systemd_has_nothing_to_say_about_them(units: Path) -> None:
    names = sorted(str(file) for file in units.iterdir())
    assert len(names) == 6
    answer = run("systemd-analyze", "verify", "--man=no", *names)
    assert (answer.out, answer.err) == ("", "")


def test_what_it_has_to_say_is_heard(units: Path) -> None:
    service = units / "vethd.service"
    service.write_text(service.read_text().replace("WatchdogSec", "WatchdogSecs"))
    assert "WatchdogSecs" in run("systemd-analyze", "verify", "--man=no", str(service)).err


def test_the_sandbox_is_as_tight_as_it_is_said_to_be(units: Path) -> None:
    measure = ["systemd-analyze", "security", "--offline=true"]
    answers = {name: run(*measure, f"--threshold={most}", str(units / name)).out for name, most in THRESHOLD.items()}
    score = answers["vethd.service"].split("vethd.service: ")[1].split()[0]
    assert f"(`systemd-analyze security`: {score})" in (UNITS.parent / "README.md").read_text()


def test_what_is_left_open_for_root_is_in_the_drop_in_only(units: Path) -> None:
    service = (units / "vethd.service").read_text()
    for name in ("CAP_SETUID", "CAP_SETGID", "@setuid"):
        assert name not in service
        assert name in as_root()


def test_no_capability_is_there_in_vain(units: Path) -> None:
    lines = (units / "vethd.service").read_text().splitlines()
    wanted = "CAP_NET_ADMIN CAP_SYS_ADMIN CAP_NET_BROADCAST"
    assert [line for line in lines if "Capabilit" in line and "=" in line] == [
        f"AmbientCapabilities={wanted}",
        f"CapabilityBoundingSet={wanted}",
    ]
