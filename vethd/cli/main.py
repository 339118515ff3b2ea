"""The command `vethctl`.

Exit status as `ip`: 0 done, 1 the words make no sense or nobody listens, 2 the daemon or the kernel refused.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

from vethd import __version__
from vethd.cli.grammar import Request, UsageError, Words, garbage, link_add, link_select
from vethd.cli.output import Output, link_rows, print_info, print_links, print_softnet
from vethd.rpc.client import Client, NotRunning, RpcError

USAGE = """\
Usage: vethctl [ OPTIONS ] OBJECT COMMAND
       vethctl link add [ dev ] NAME [ END ] type veth
                        [ peer [ name ] NAME [ END ] ]
                        [ placement { move | inside } ] [ numqueues NUMBER ]
       vethctl link { del | show } [ dev ] [ NAME ] [ netns NETNS ]
       vethctl softnet [ show ]
       vethctl daemon [ info ]
where  END := [ netns NETNS ] [ address MAC ] [ mtu BYTES ]
              [ txqueuelen FRAMES ] [ gro { on | off } ] [ up | down ]
       NETNS := { NAME | PID | PATH }
       OPTIONS := { -S SOCKET | -n[etns] NETNS | -j[son] | -p[retty] |
                    -s[tatistics] | -d[etails] | -V[ersion] | -h[elp] }
Words may be abbreviated. Without -S the socket is $VETHD_SOCKET or
/run/vethd/control.sock. -s shows counters, -s -s the drop points too, -d pair,
workers, gro and offloads, and beside -s -s each of several queues. `%d` in a
NAME asks for a free number. With -n, your own namespace is NETNS: ends without
a netns are made there, and show lists only the links there.
"""
_CLONE_NEWNET = 0x40000000


class Command:
    """Options of one command line, and what it asks for."""

    def __init__(self, arguments: list[str]) -> None:
        self.socket: str | None = None
        self.json = self.pretty = self.details = False
        self.statistics = 0
        self.netns: str | None = None
        self.words = Words(arguments)
        while self.words and self.words.peek().startswith("-"):
            option = self.words.take()
            if option == "--":
                break
            self._option(option)

    def _option(self, option: str) -> None:
        name = option.lstrip("-")
        if name == "S":
            self.socket = self.words.take()
        elif _is(name, "netns"):
            self.netns = self.words.take()
        elif _is(name, "json"):
            self.json = True
        elif _is(name, "pretty"):
            self.pretty = True
        elif _is(name, "statistics") or name == "stats":
            self.statistics += 1
        elif _is(name, "details"):
            self.details = True
        elif _is(name, "Version"):
            print(f"vethctl {__version__}")
            sys.exit(0)
        elif _is(name, "help"):
            print(USAGE, end="")
            sys.exit(0)
        else:
            raise UsageError(f'Option "{option}" is unknown.', hint="vethctl -help lists the options")

    def run(self) -> None:
        """Do it. Raises UsageError, RpcError, NotRunning."""
        output = Output(self.json, self.pretty)
        if not self.words:
            sys.stderr.write(USAGE)
            sys.exit(1)
        thing = self.words.keyword("link", "softnet", "daemon", "help")
        if thing == "help":
            print(USAGE, end="")
        elif thing == "link":
            self._link(output)
        elif thing == "softnet":
            self._only("show")
            rows = self._call("softnet.get")["workers"]
            output.value(rows) if self.json else print_softnet(rows, output)
        elif thing == "daemon":
            self._only("info")
            info = self._call("daemon.info")
            output.value(info) if self.json else print_info(info, output)
        else:
            raise UsageError(f'Object "{self.words.peek()}" is unknown.', hint="vethctl help lists the objects")

    def _link(self, output: Output) -> None:
        keywords = ("add", "set", "delete", "show", "list", "lst", "help")  # in ip's order: `s` is set
        command = self.words.keyword(*keywords) if self.words else "show"
        request = Request()
        try:
            if command == "add":
                link_add(self.words, request)
                pair = self._call("link.add", request)
                if self.json:
                    output.value(list(link_rows([pair], {}, 0)))
            elif command == "delete":
                self._select(request)
                if "ifname" not in request.params:
                    raise UsageError('Not enough information: "dev" argument is required.', hint="name one end")
                self._call("link.del", request)
            elif command == "set":
                raise UsageError('Command "set" is not there yet.', hint="use `ip link set`; vethd follows")
            elif command == "help":
                print(USAGE, end="")
            elif command is not None:
                self._select(request)
                self._show(request, output)
            else:
                raise UsageError(f'Command "{self.words.peek()}" is unknown.', hint="vethctl link help lists them")
        finally:
            request.close()

    def _select(self, request: Request) -> None:
        link_select(self.words, request)
        if self.netns is not None and "netns" not in request.params:
            request.params["netns"] = request.netns(self.netns)

    def _show(self, request: Request, output: Output) -> None:
        with self._connect() as client:
            if "ifname" in request.params:
                pairs = [client.call("link.get", request.params, request.fds)]
            else:
                pairs = client.call("link.list", request.params, request.fds)
            stats: dict[str, Any] = {}
            if self.statistics and pairs:
                these = {"pair": pairs[0]["pair"]} if len(pairs) == 1 else {}
                stats = {pair["uuid"]: pair["ends"] for pair in client.call("stats.get", these)["pairs"]}
        rows = link_rows(pairs, stats, self.statistics)
        if "netns" in request.params:  # of a pair that leads elsewhere, only the end that is in it
            inode = os.fstat(request.fds[-1]).st_ino
            rows = (row for row in rows if row["netns_inode"] == inode)
        output.value(list(rows)) if self.json else print_links(rows, output, self.details)

    def _only(self, command: str) -> None:
        if self.words and self.words.keyword(command) is None:
            raise UsageError(f'Command "{self.words.peek()}" is unknown.', hint="vethctl help lists them")
        if self.words:
            raise garbage(self.words.peek())

    def _call(self, method: str, request: Request | None = None) -> Any:
        with self._connect() as client:
            return client.call(method, request.params, request.fds) if request is not None else client.call(method)

    def _connect(self) -> Client:
        if self.netns is not None:  # as `ip -n`: from here on we are in it, and the daemon sees that
            request = Request()
            request.netns(self.netns)
            libc = ctypes.CDLL(None, use_errno=True)
            failed = libc.setns(request.fds[0], _CLONE_NEWNET)
            request.close()
            if failed:
                raise UsageError(f'setting the network namespace "{self.netns}" failed: {_errno_text()}')
        return Client(self.socket)


def _is(name: str, option: str) -> bool:
    return bool(name) and option.startswith(name)


def _errno_text() -> str:
    return os.strerror(ctypes.get_errno())


def _complain(text: str, hint: str | None) -> None:
    print(text + (f"\nhint: {hint}" if hint else ""), file=sys.stderr)


def main() -> None:
    """Entry point of `vethctl`."""
    try:
        try:
            Command(sys.argv[1:]).run()
        finally:
            sys.stdout.flush()
    except UsageError as error:
        _complain(str(error), error.hint)
        sys.exit(1)
    except NotRunning as error:
        _complain(f"vethctl: {error}", None)
        sys.exit(1)
    except RpcError as error:
        _complain(f"Error: {error.message}" + (f" [{error.errno}]" if error.errno else ""), error.hint)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # standard output: `vethctl ... | head`, a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        if not isinstance(error, BrokenPipeError):
            _complain(f"vethctl: write error: {error.strerror}", None)
        sys.exit(1)


if __name__ == "__main__":
    main()
