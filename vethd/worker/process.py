"""The worker's main: import everything, give up every privilege, then serve the channel until it closes.

Imports come first because afterwards the process may not be able to read its own program any more (a virtual
environment below a home directory, for example). `confine` then makes it a user without rights, and checks that it is
one. The filter of system calls is the last step before the first word: from then on it reads what others sent.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import sys
from contextlib import closing
from typing import Any, NamedTuple

import uvloop

from vethd.datapath import compiled, speed, why
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.base import FrameIO
from vethd.frameio.choice import WANTED, FrameIOUnavailable, Wanted, choose
from vethd.worker import seccomp
from vethd.worker.channel import LONGEST_TEXT, PROTOCOL_VERSION, Channel, ChannelError, Message
from vethd.worker.confine import confine
from vethd.worker.counters import Counters
from vethd.worker.loop import WorkerLoop

# Raises ImportError when they must be and are not.
compiled(*(sys.modules[each.__module__] for each in (Counters, WorkerLoop)))


def bind(cpu: int) -> None:
    """Run on this CPU only. Raises ChannelError when it is not there, or not ours."""
    try:
        os.sched_setaffinity(0, [cpu])
    except OSError as error:
        raise ChannelError(f"CPU {cpu}: {error.strerror}") from error


class Chosen(NamedTuple):
    """A frame I/O that works here, and why it is this one."""

    softnet: SoftnetData
    frameio: FrameIO
    why: str


def prepare(wanted: Wanted) -> Chosen | FrameIOUnavailable:
    """Make the frame I/O, with its ring; after that no other can be made."""
    softnet = SoftnetData()
    try:
        return Chosen(softnet, *choose(wanted, softnet))
    except FrameIOUnavailable as error:
        return error
    finally:
        seccomp.forbid_rings()


async def serve(sock: socket.socket, chosen: Chosen | FrameIOUnavailable) -> None:
    """Say `ready`, wait for `hello`, then do what the supervisor says until it closes the channel.

    Raises FrameIOUnavailable, which the supervisor knows by then, and ChannelError when the supervisor breaks the
    protocol.
    """
    loop = asyncio.get_running_loop()
    closed: asyncio.Future[str] = loop.create_future()
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
        assert isinstance(chosen, Chosen)
        try:
            if worker is None and message.get("op") == "ping":
                channel.send({"op": "ack", "seq": message["seq"]})
            elif worker is None:
                if message.get("op") != "hello" or message.get("version") != PROTOCOL_VERSION:
                    raise ChannelError("the first message must be a hello of this protocol version")
                if message.get("cpu") is not None:
                    bind(message["cpu"])
                counters = Counters(fds[0], message["ends"])
                worker = WorkerLoop(loop, chosen.softnet, chosen.frameio, counters, message["slot"])
                worker.bind(channel)
                channel.send({"op": "ack", "seq": message["seq"]})
            else:
                worker.handle(message, fds)
        except ChannelError as error:
            stop(str(error))

    loop.set_exception_handler(on_exception)
    channel = Channel(loop, sock, on_message, stop)
    if isinstance(chosen, FrameIOUnavailable):
        channel.send({"op": "unable", "why": str(chosen)[:LONGEST_TEXT], "remedy": chosen.remedy})
        await closed  # the supervisor has heard it then
        raise chosen
    filtered = seccomp.install()
    channel.send(
        {
            "op": "ready",
            "version": PROTOCOL_VERSION,
            "pid": os.getpid(),
            "frameio": chosen.frameio.name,
            "datapath": speed(),
            "why": f"{why()}; {filtered}; {chosen.why}",
        }
    )
    reason = await closed
    if reason != "closed":
        # The channel stays open until the process ends: the supervisor kills a worker that hangs up, perhaps before
        # it has said why.
        raise ChannelError(reason)
    channel.close()
    chosen.frameio.close()


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
    chosen = prepare(options.frameio)
    gc.freeze()  # modules live for ever; the collector need not look at them again
    try:
        # Not uvloop.run: it would run the loop once more at the end, which begins with calls that the filter refuses.
        with closing(uvloop.new_event_loop()) as loop:
            loop.run_until_complete(serve(sock, chosen))
    except FrameIOUnavailable:
        sys.exit(1)
    except ChannelError as error:
        sys.exit(f"vethd worker: {error}")


if __name__ == "__main__":
    main()
