"""The worker's main: import everything, give up every privilege, then serve the channel until it closes.

Imports come first because afterwards the process may not be able to read its own program any more (a virtual
environment below a home directory, for example). `confine` then makes it a user without rights, and checks that it is
one.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop

from vethd.datapath import compiled, speed, why
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.base import FrameIO
from vethd.frameio.choice import WANTED, FrameIOUnavailable, Wanted, choose
from vethd.worker.channel import LONGEST_TEXT, PROTOCOL_VERSION, Channel, ChannelError, Message
from vethd.worker.counters import Counters
from vethd.worker.loop import WorkerLoop

# Raises ImportError when they must be and are not.
compiled(*(sys.modules[each.__module__] for each in (Counters, WorkerLoop)))

_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4


def confine(uid: int, gid: int) -> None:
    """Become a user without rights: no uid 0, no capability in any set but the bounding one, no_new_privs.

    uid, gid: who to become when the process is root. Raises OSError, or RuntimeError when a capability is left.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)  # leaving uid 0 empties the permitted, effective and ambient sets
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)):
        if libc.prctl(*call):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), f"prctl {call[0]}")
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    left = {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(status[name], 16)}
    if left or status["NoNewPrivs"] != "1":
        raise RuntimeError(f"still privileged: {left}, NoNewPrivs {status['NoNewPrivs']}")


def bind(cpu: int) -> None:
    """Run on this CPU only. Raises ChannelError when it is not there, or not ours."""
    try:
        os.sched_setaffinity(0, [cpu])
    except OSError as error:
        raise ChannelError(f"CPU {cpu}: {error.strerror}") from error


async def serve(sock: socket.socket, wanted: Wanted) -> None:
    """Say `ready`, wait for `hello`, then do what the supervisor says until it closes the channel.

    wanted: the frame I/O. Raises FrameIOUnavailable, which the supervisor knows by then, and ChannelError when the
    supervisor breaks the protocol.
    """
    loop = asyncio.get_running_loop()
    closed: asyncio.Future[str] = loop.create_future()
    softnet = SoftnetData()
    frameio: FrameIO
    worker: WorkerLoop | None = None

    def stop(reason: str) -> None:
        if not closed.done():
            closed.set_result(reason)

    def on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed half-way and nobody can say what it left undone: the worker ends, a successor begins."""
        loop.default_exception_handler(context)
        stop(context["message"])

    def on_message(message: Message, fds: list[int]) -> None:
        nonlocal worker
        try:
            if worker is None:
                if message.get("op") != "hello" or message.get("version") != PROTOCOL_VERSION:
                    raise ChannelError("the first message must be a hello of this protocol version")
                if message.get("cpu") is not None:
                    bind(message["cpu"])
                counters = Counters(fds[0], message["ends"])
                worker = WorkerLoop(loop, softnet, frameio, counters, message["slot"])
                worker.bind(channel)
                channel.send({"op": "ack", "seq": message["seq"]})
            else:
                worker.handle(message, fds)
        except ChannelError as error:
            stop(str(error))

    loop.set_exception_handler(on_exception)
    channel = Channel(loop, sock, on_message, stop)
    try:
        frameio, why_frameio = choose(wanted, softnet)
    except FrameIOUnavailable as error:
        channel.send({"op": "unable", "why": str(error)[:LONGEST_TEXT], "remedy": error.remedy})
        await closed  # the supervisor has heard it then
        raise
    channel.send(
        {
            "op": "ready",
            "version": PROTOCOL_VERSION,
            "pid": os.getpid(),
            "frameio": frameio.name,
            "datapath": speed(),
            "why": f"{why()}; {why_frameio}",
        }
    )
    reason = await closed
    if reason != "closed":
        # The channel stays open until the process ends: the supervisor kills a worker that hangs up, perhaps before
        # it has said why.
        raise ChannelError(reason)
    channel.close()
    frameio.close()


def main() -> None:
    """Entry point, started by the supervisor: `python -m vethd.worker.process --channel FD --uid UID --gid GID ...`."""
    parser = argparse.ArgumentParser(description="vethd datapath worker; started by vethd, not by hand")
    parser.add_argument("--channel", type=int, required=True, help="file descriptor of the supervisor's channel")
    parser.add_argument("--uid", type=int, required=True, help="uid to run as when started by root")
    parser.add_argument("--gid", type=int, required=True, help="gid to run as when started by root")
    parser.add_argument("--frameio", choices=WANTED, required=True, help="how frames are read and written")
    options = parser.parse_args()
    sock = socket.socket(fileno=options.channel)
    try:
        confine(options.uid, options.gid)
    except (OSError, RuntimeError) as error:
        sys.exit(f"vethd worker: can't give up its privileges: {error}")
    gc.freeze()  # modules live for ever; the collector need not look at them again
    try:
        uvloop.run(serve(sock, options.frameio))
    except FrameIOUnavailable:
        sys.exit(1)
    except ChannelError as error:
        sys.exit(f"vethd worker: {error}")


if __name__ == "__main__":
    main()
