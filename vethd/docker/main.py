"""The command `vethd-docker`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vethd import __version__
from vethd.rpc.client import socket_path

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

#: Where docker looks for the driver; its name is the driver's.
PLUGIN: Final = "/run/docker/plugins/vethd.sock"
STATE: Final = "/var/lib/vethd/docker"
DOCKER: Final = "/run/docker.sock"
#: Seconds for calls under way when it ends.
_LONGEST: Final = 10.0
#: Seconds that docker may keep a connection without a call on it.
_IDLE: Final = 86400.0


def parser() -> argparse.ArgumentParser:
    """The words of the command line."""
    words = argparse.ArgumentParser(prog="vethd-docker", description="docker's network driver vethd")
    words.add_argument("--socket", metavar="PATH", help="vethd's control socket; else $VETHD_SOCKET")
    words.add_argument("--plugin", metavar="PATH", default=PLUGIN, help=f"socket for docker; else {PLUGIN}")
    words.add_argument("--state", metavar="DIR", type=Path, default=Path(STATE), help=f"networks; else {STATE}")
    words.add_argument("--docker", metavar="PATH", default=DOCKER, help=f"dockerd's own socket; else {DOCKER}")
    words.add_argument("--version", action="version", version=f"vethd-docker {__version__}")
    return words


def main() -> None:
    """Entry point of `vethd-docker`. Exit status: 0 stopped by a signal, 1 it could not start, 2 usage."""
    options = parser().parse_args()
    from vethd.config import LogConfig
    from vethd.daemon.log import logger
    from vethd.docker.listener import NotStarted

    log = logger(LogConfig())
    try:
        asyncio.run(_serve(options, log))
    except (NotStarted, OSError) as error:
        print(f"vethd-docker: {error}", file=sys.stderr)
        sys.exit(1)


async def _serve(options: argparse.Namespace, log: FilteringBoundLogger) -> None:
    """Serve until a signal comes."""
    from aiohttp import web

    from vethd.daemon.service import Service
    from vethd.docker.driver import Driver
    from vethd.docker.listener import Listener
    from vethd.docker.names import Names
    from vethd.docker.place import Place
    from vethd.docker.server import Farewell, application
    from vethd.docker.state import Store
    from vethd.rpc.aio import AsyncClient

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    service = Service(log)
    store = Store(options.state)
    for path, why in store.load():
        log.error("network not read", file=str(path), error=why)
    control = socket_path(options.socket)
    client, others = AsyncClient(control), AsyncClient(control)
    driver, farewell = Driver(client, store, log), Farewell()
    app = application(driver, farewell, log)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_LONGEST, keepalive_timeout=_IDLE)
    with Listener(options.plugin) as listener, Place.own() as place:
        await driver.arrive(place)
        names = asyncio.create_task(Names(others, driver, options.docker, place, log).run())
        try:
            await runner.setup()
            site = web.SockSite(runner, listener.socket)
            await site.start()
            log.info("serving", version=__version__, plugin=options.plugin, networks=len(store.networks))
            service.ready()
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait((stopped, names), return_when=asyncio.FIRST_COMPLETED)
            if names.done():
                names.result()
            service.stopping()
            listener.hide()
            if listener.passed:  # who connects from now on is the next one's
                await site.stop()
            await farewell.end()
        finally:
            await runner.cleanup()
            names.cancel()
            driver.close()
            client.close()
            others.close()
            service.close()
