"""The supervisor's part in tests of child.py, and programs that take a worker's place."""

import asyncio
from collections.abc import Callable

from vethd.worker.channel import Message
from vethd.worker.child import ANSWER_WITHIN, Child

#: Run in place of the interpreter that would run the worker: it has the channel, and says what it was told to say.
IMPOSTOR = """#!{python}
import array, json, os, signal, socket, sys
channel = socket.socket(fileno=int(sys.argv[sys.argv.index("--channel") + 1]))
fd = array.array("i", [0])
ready = dict(op="ready", version={version}, pid=os.getpid(), frameio="syscalls", datapath="interpreted", why="")
def say(*messages):
    for message in messages:
        channel.send(message if isinstance(message, bytes) else json.dumps(message).encode())
{speech}
signal.pause()
"""


class Supervisor:
    """Makes children, keeps what they report, and sees all of them to their end."""

    def __init__(self) -> None:
        self.reports: list[Message] = []
        self.deaths: list[Child] = []
        self.children: list[Child] = []
        self._news = asyncio.Event()

    def spawn(self, answer_within: float = ANSWER_WITHIN) -> Child:
        loop = asyncio.get_running_loop()
        child = Child(loop, self._on_report, self.deaths.append, answer_within=answer_within)
        self.children.append(child)
        return child

    def _on_report(self, _child: Child, message: Message) -> None:
        self.reports.append(message)
        self._news.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is reached that a report brings about."""
        async with asyncio.timeout(10):
            while not reached():
                await self._news.wait()
                self._news.clear()

    async def end(self) -> None:
        for child in self.children:
            child.kill("the test is over")
            async with asyncio.timeout(10):
                await child.ended.wait()


async def ended(child: Child) -> str:
    """Why the child died, once it has."""
    async with asyncio.timeout(10):
        await child.ended.wait()
    return child.why_dead
