"""The driver's HTTP: what comes over a connection goes to the driver's call, with the namespace of who asks.

Source: docker's plugin API (docs/extend/plugin_api): POST with JSON, answered with JSON; `Err` is what docker shows.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from vethd.docker.driver import Answer, Driver, Request
from vethd.docker.options import Refused
from vethd.docker.place import Place
from vethd.rpc.conversation import NotRunning, RpcError

_MEDIA_TYPE: Final = "application/vnd.docker.plugins.v1.2+json"
#: Seconds without a call after which there is none on its way; and for all that are under way.
_QUIET: Final = 0.2
_LONGEST: Final = 10.0
#: Calls that ask for nothing in particular.
_WITHOUT_BODY: Final = ("Activate", "GetCapabilities")
Call = Callable[[Request, Place], Awaitable[Answer]]


def calls(driver: Driver) -> dict[str, Call]:
    """Every call that docker may make, by its path."""
    of_network: dict[str, Call] = {
        "GetCapabilities": driver.capabilities,
        "AllocateNetwork": driver.nothing,
        "FreeNetwork": driver.nothing,
        "CreateNetwork": driver.create_network,
        "DeleteNetwork": driver.delete_network,
        "CreateEndpoint": driver.create_endpoint,
        "DeleteEndpoint": driver.delete_endpoint,
        "EndpointOperInfo": driver.endpoint_info,
        "Join": driver.join,
        "Leave": driver.nothing,
        "ProgramExternalConnectivity": driver.publish,
        "RevokeExternalConnectivity": driver.withdraw,
        "DiscoverNew": driver.nothing,
        "DiscoverDelete": driver.nothing,
    }
    return {
        "/Plugin.Activate": driver.activate,
        **{f"/NetworkDriver.{name}": call for name, call in of_network.items()},
    }


class Farewell:
    """Ends connections so that docker loses no call: it repeats one that broke off without what it was about.

    Once it begins, each answer says that the connection ends with it, and docker opens another one for its next call.
    """

    def __init__(self) -> None:
        self._begun = False
        self._under_way = 0
        self._last = 0.0

    async def answer(
        self, call: Callable[[web.Request], Awaitable[web.Response]], request: web.Request
    ) -> web.Response:
        """Let a call be answered."""
        self._under_way += 1
        try:
            answer = await call(request)
        finally:
            self._under_way -= 1
            self._last = time.monotonic()
        if self._begun:
            answer.force_close()
        return answer

    async def end(self) -> None:
        """Return when all calls are answered and no more has come for a while, or after LONGEST seconds."""
        self._begun = True
        begin = self._last = time.monotonic()
        while self._under_way or time.monotonic() - self._last < _QUIET:  # what does not come is no event
            if time.monotonic() - begin > _LONGEST:
                break
            await asyncio.sleep(_QUIET / 4)


def application(driver: Driver, farewell: Farewell, log: FilteringBoundLogger) -> web.Application:
    """The web application; requests come over a unix socket."""
    app = web.Application()
    for path, call in calls(driver).items():
        app.router.add_post(path, _handler(path, call, driver, farewell, log))
    app.router.add_route("*", "/{path:.*}", _unknown)
    return app


def _handler(
    path: str, call: Call, driver: Driver, farewell: Farewell, log: FilteringBoundLogger
) -> Callable[[web.Request], Awaitable[web.Response]]:
    name = path.rpartition(".")[2]

    async def handle(request: web.Request) -> web.Response:
        try:
            asked = _decoded(await request.read(), may_be_empty=name in _WITHOUT_BODY)
            with Place.of_connection(_socket(request).fileno()) as place:
                await driver.arrive(place)
                answer = await call(asked, place)
        except (Refused, RpcError, NotRunning, OSError) as error:
            text = _reason(error)
            log.warning("call refused", call=name, error=text)
            return _answer({"Err": text})
        except Exception as error:
            log.exception("call failed", call=name)
            return _answer({"Err": f"{name} failed: {error!r}; this is a bug of vethd-docker, whose log has more"})
        log.info("call done", call=name, **_about(asked))
        return _answer(answer)

    return partial(farewell.answer, handle)


async def _unknown(request: web.Request) -> web.Response:
    return _answer({"Err": f"vethd-docker has no call {request.method} {request.path}"}, status=404)


def _decoded(body: bytes, *, may_be_empty: bool) -> Request:
    """Raises Refused."""
    if not body and not may_be_empty:
        raise Refused("docker sends a request without a body when the driver ended before it answered: try again")
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(f"the request is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise Refused("the request is not a JSON object")
    return asked


def _socket(request: web.Request) -> socket.socket:
    assert request.transport is not None
    found: socket.socket = request.transport.get_extra_info("socket")
    return found


def _reason(error: Exception) -> str:
    """What docker shows: what is wrong, and what to do."""
    if isinstance(error, RpcError) and error.hint:
        return f"vethd: {error.message} ({error.hint})"
    return f"vethd: {error}"


def _about(asked: Request) -> dict[str, Any]:
    fields = (("network", "NetworkID"), ("endpoint", "EndpointID"))
    return {name: asked[field][:12] for name, field in fields if isinstance(asked.get(field), str)}


def _answer(answer: Answer, status: int = 200) -> web.Response:
    return web.json_response(answer, status=status, content_type=_MEDIA_TYPE)
