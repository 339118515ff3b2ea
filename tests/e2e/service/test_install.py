"""`make install` and `make uninstall`: all is put in place, an edited configuration is kept, nothing else is left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service.conftest import CHECKOUT, make
from tests.kit.machine import Machine

CONFIG = "etc/vethd/vethd.toml"


def files(tree: Path) -> set[str]:
    """Everything in a tree but the Python environment, which is there as a whole or not at all."""
    found = set()
    for directory, names, others in os.walk(tree):
        if directory.endswith("/lib/vethd"):
            names.clear()
        found |= {str((Path(directory) / name).relative_to(tree)) for name in [*names, *others]}
    return found


def test_what_is_installed(installed: Path) -> None:
    local = "usr/local"
    assert {name for name in files(installed) if not (installed / name).is_dir()} >= {
        CONFIG,
        "opt/cni/bin/vethd-cni",
        f"{local}/bin/vethctl",
        f"{local}/bin/vethd-oci",
        f"{local}/lib/cni/vethd-cni",
        f"{local}/sbin/vethd",
        f"{local}/sbin/vethd-docker",
        f"{local}/lib/systemd/system/vethd.service",
        f"{local}/lib/systemd/system/vethd.socket",
        f"{local}/lib/systemd/system/vethd-netns.socket",
        f"{local}/lib/systemd/system/vethd-netns@.service",
        f"{local}/lib/systemd/system/vethd-docker.service",
        f"{local}/lib/systemd/system/vethd-docker.socket",
        f"{local}/lib/sysusers.d/vethd.conf",
        f"{local}/lib/tmpfiles.d/vethd.conf",
        f"{local}/share/man/man5/vethd.toml.5",
        f"{local}/share/man/man8/vethctl.8",
        f"{local}/share/man/man8/vethd-cni.8",
        f"{local}/share/man/man8/vethd.8",
        f"{local}/share/man/man8/vethd-docker.8",
        f"{local}/share/man/man8/vethd-oci.8",
        f"{local}/share/bash-completion/completions/vethctl",
        f"{local}/share/zsh/site-functions/_vethctl",
        f"{local}/share/fish/vendor_completions.d/vethctl.fish",
    }
    assert (installed / CONFIG).read_text() == (CHECKOUT / "config/vethd.toml").read_text()


def test_nothing_names_the_directory_in_which_it_was_put_together(installed: Path) -> None:
    for directory, _names, others in os.walk(installed):
        for path in (Path(directory) / name for name in others if not name.endswith((".pyc", ".so"))):
            assert path.is_symlink() or str(installed).encode() not in path.read_bytes(), path


def test_a_package_is_taken_away_again(installed: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(installed, tree, symlinks=True)
    make("uninstall", f"DESTDIR={tree}")
    assert files(tree) == set()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Machine]:
    """A machine without vethd."""
    machine = Machine(tmp_path)
    try:
        machine.start()
        yield machine
    finally:
        machine.close()


def test_a_machine_is_as_before_after_install_and_uninstall(bare: Machine) -> None:
    def install(words: str) -> str:
        return bare.run("make", "-C", str(CHECKOUT), words, within=120).out

    places = ["/etc", "/opt", "/usr/local", "/usr/lib/systemd", "/usr/share/man"]
    owned = ["-printf", "%p %M %u", "-not", "-type", "d", "-printf", " %s", ",", "-printf", "\\n"]
    listing = ["find", *places, "-not", "-name", "*-", "-not", "-name", ".pwd.lock", *owned]
    before = bare.run(*listing).out
    install("install")
    bare.run("systemctl", "enable", "--now", "vethd")
    bare.run("vethctl", "link", "show")
    network = '{"cniVersion": "1.1.0", "name": "lab"}'
    bare.run("env", "-i", "/bin/sh", "-c", f"echo '{network}' | CNI_COMMAND=STATUS /opt/cni/bin/vethd-cni")
    assert bare.run("vethctl", "-j", "config", "save").ok
    bare.write(f"/{CONFIG}", "[worker]\ncount = 1\n")
    assert f"install: /{CONFIG} is kept as it is" in install("install")
    bare.run("systemctl", "restart", "vethd")
    assert f"uninstall: /{CONFIG} is kept" in install("uninstall")
    assert bare.path(f"/{CONFIG}").read_text() == "[worker]\ncount = 1\n"
    bare.run("rm", "-r", "/etc/vethd")
    assert set(bare.run(*listing).out.splitlines()) == set(before.splitlines())
    assert bare.run("getent", "passwd", "vethd", check=False).code == 2
    assert not bare.path("/run/vethd").exists()
    assert bare.run("systemctl", "status", "vethd", check=False).code == 4
