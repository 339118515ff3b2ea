"""containerd as a kubelet uses it: the calls of the Container Runtime Interface that a pod takes, by gRPC.

Messages are written field by field: there are five of them. Source: k8s.io/cri-api/pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from tests.kit.containers import serving
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually

IMAGE = "localhost/vethd-test:1"
# The pause container's oom_score_adj takes CAP_SYS_RESOURCE.
CONFIG = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"""
CLEAR_CGROUPS = """
find /sys/fs/cgroup -depth -type d -path '*/k8s.io*' -exec rmdir {} + 2>/dev/null
find /sys/fs/cgroup -type d -name k8s.io
"""


class Kubelet:
    """Pods of one container each, which serves a body. socket: of containerd, seen from here."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}")

    def close(self) -> None:
        self._channel.close()

    def start(self, name: str) -> str:
        """Start a pod; its id."""
        pod = _message(1, _message(1, name) + _message(2, f"uid-{name}") + _message(3, "shop"))
        pod += _message(8, b"")
        sandbox = self._call("RunPodSandbox", _message(1, pod))
        config = _message(1, _message(1, name)) + _message(2, _message(1, IMAGE))
        config += b"".join(_message(3, word) for word in serving(name))
        config += _message(15, _message(2, _message(1, _message(1, "NET_RAW"))))
        container = self._call("CreateContainer", _message(1, sandbox) + _message(2, config) + _message(3, pod))
        self._call("StartContainer", _message(1, container))
        return sandbox

    def stop(self, sandbox: str) -> None:
        """Stop a pod: its containers end, and it leaves its network."""
        self._call("StopPodSandbox", _message(1, sandbox))

    def remove(self, sandbox: str) -> None:
        """Remove a pod; the network hears of that once more."""
        self._call("RemovePodSandbox", _message(1, sandbox))

    def _call(self, method: str, request: bytes) -> str:
        """Call a method; the string in the first field of its answer."""
        answer = bytes(self._channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")(request, timeout=60))
        return answer[2 : 2 + answer[1]].decode() if answer else ""


@contextmanager
def kubelet(host: ContainerHost, at: Path, rootfs: Path) -> Iterator[Kubelet]:
    """containerd runs on the host, has an image made of a root file system, and is asked by gRPC."""
    (at / "containerd.toml").write_text(CONFIG)
    socket = at / "c.sock"
    log = at / "containerd.log"
    words = ("containerd", "--config", str(at / "containerd.toml"), "--address", str(socket))
    process = host.spawn(*words, log=log)
    try:
        ctr = ("ctr", "--address", str(socket), "--namespace", "k8s.io")
        eventually(lambda: host.run(*ctr, "version", check=False).ok, bool, "containerd answers", 20)
        host.run(*ctr, "image", "import", str(image(at / "image.tar", rootfs)))
        kubelet = Kubelet(socket)
        try:
            yield kubelet
        finally:
            kubelet.close()
    finally:
        host.run("pkill", "-x", "containerd")
        process.wait(20)
        eventually(lambda: host.run("sh", "-c", CLEAR_CGROUPS).out, lambda left: left == "", "the pods have ended", 20)


def image(path: Path, rootfs: Path) -> Path:
    """Write an image of one layer, as `docker save` does; what runs in it does nothing, as a pod's first container."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(rootfs, ".")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "infinity"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    files = {"layer.tar": layer.getvalue(), "config.json": _json(config), "manifest.json": _json(manifest)}
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _message(number: int, value: str | bytes) -> bytes:
    """A field of a protocol buffer: text, or another message."""
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, *_varint(len(data))]) + data


def _varint(number: int) -> Sequence[int]:
    found = []
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return [*found, number]
