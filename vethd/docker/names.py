"""Gives pairs the labels that say which container they belong to. Docker does not tell its drivers, so dockerd is asked
for it when a pair's end has moved into a container.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from structlog.typing import FilteringBoundLogger

from vethd.docker.driver import Driver, source_name
from vethd.docker.options import Refused
from vethd.docker.place import Place
from vethd.rpc.aio import AsyncClient
from vethd.rpc.conversation import NotRunning, RpcError
from vethd.rpc.listening import State

if TYPE_CHECKING:
    from vethd.rpc.shapes import Event

#: Seconds for dockerd to answer; and until vethd is looked for again that has been away for long.
_WITHIN: Final = 10
_PAUSE: Final = 2.0


class Names:
    """Follows the pairs. docker: path of dockerd's socket. place: our own."""

    def __init__(
        self, client: AsyncClient, driver: Driver, docker: str, place: Place, log: FilteringBoundLogger
    ) -> None:
        self._client = client
        self._driver = driver
        self._docker = docker
        self._place = place
        self._log = log
        self._pairs: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        """Follow them for ever."""
        while True:
            try:
                async with self._client.events(topics=["link"]) as events:
                    async for event in events:
                        await self._take(event)
            except (NotRunning, RpcError, Refused, OSError) as error:
                self._log.warning("pairs not followed", error=str(error))
            await asyncio.sleep(_PAUSE)  # nothing tells when vethd is back

    async def _take(self, event: Event | State) -> None:
        if isinstance(event, State):
            await self._driver.finish(self._place)
            self._pairs = {pair["pair"]: dict(pair) for pair in event.pairs if pair["origin"] == "docker"}
            for uuid in list(self._pairs):
                await self._name(uuid)
            return
        uuid, what, fields = event.get("pair", ""), event["event"], event["fields"]
        if what == "added" and fields["origin"] == "docker":
            self._pairs[uuid] = fields
        pair = self._pairs.get(uuid)
        if pair is None:
            return
        if what == "deleted":
            del self._pairs[uuid]
            await self._driver.lost(pair["labels"], self._place)
        elif event.get("end") == "b":
            pair["b"] |= fields
            await self._name(uuid)
        elif "labels" in fields:
            pair["labels"] = fields["labels"]

    async def _name(self, uuid: str) -> None:
        """Label a pair whose end is in a container."""
        pair = self._pairs[uuid]
        a, b, labels = pair["a"], pair["b"], pair["labels"]
        network, endpoint = labels.get("network", ""), labels.get("endpoint", "")
        if b["netns_inode"] == a["netns_inode"] or b["ifname"] == source_name(endpoint):
            return  # docker has not finished moving it
        wanted = {"interface": b["ifname"]}
        if "container" not in labels:
            wanted |= await self._container(network, endpoint)
        if wanted.items() - labels.items():
            try:
                await self._client.link_set(pair=uuid, set={"labels": wanted})
            except RpcError as error:
                if error.kind != "no_such_link":
                    raise
            pair["labels"] = {**labels, **wanted}

    async def _container(self, network: str, endpoint: str) -> dict[str, str]:
        """Labels of an endpoint's container; none when dockerd does not say."""
        timeout = aiohttp.ClientTimeout(total=_WITHIN)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(self._docker), timeout=timeout) as session,
                session.get(f"http://docker/networks/{network}", raise_for_status=True) as answer,
            ):
                found = await answer.json()
            for container, each in found["Containers"].items():
                if each["EndpointID"] == endpoint:
                    return {"container": container, "container-name": each["Name"], "network-name": found["Name"]}
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            self._log.warning("container of a pair not known", docker=self._docker, error=str(error) or repr(error))
        return {}
