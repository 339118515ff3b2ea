"""All methods of the control socket, and how each is called: rights first, then parameters, then the method.

The methods themselves stand in one class per group (links.py, stats.py, ...), each with a table of what it has.
envelope.py speaks JSON-RPC 2.0; the models of schema/ check the parameters; an error that a client can meet is a
VethdError and carries its kind, errno and hint in `data`. A request with a token is done once, see tokens.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from structlog.typing import FilteringBoundLogger

from vethd.errors import InvalidParams, ShuttingDown, VethdError
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.connection import Connection
from vethd.rpc.discover import DiscoverMethods
from vethd.rpc.envelope import Envelope, refusal
from vethd.rpc.tokens import Tokens, fingerprint
from vethd.validation import findings
from vethd.worker.channel import MAX_FDS

P = TypeVar("P", bound=BaseModel)


class Methods:
    """The methods of a daemon.

    table: all of them; rpc.discover, which describes the others, is added. tokens: what requests with tokens came to.
    saved: awaited after a change before its client is answered. shutting_down: refuse those that change something.
    """

    def __init__(
        self, table: Iterable[Method], log: FilteringBoundLogger, saved: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        others = tuple(table)
        self.table = (*others, *DiscoverMethods(others).table)
        self._log = log
        self._saved = saved
        self.tokens = Tokens()
        self.shutting_down = False
        self._envelope: Envelope[Call] = Envelope(
            {
                method.name: self._logged(method) if method.role is Role.CHANGE else self._guarded(method)
                for method in self.table
            }
        )

    async def handle(self, connection: Connection, line: bytes, fds: list[int]) -> str | None:
        """Answer one line; None when it asked for no answer."""
        call = Call(connection, fds)
        try:
            return await self._envelope.answer(line, call)
        except Exception:  # noqa: BLE001 - logged, and the connection goes on
            self._log.exception("a request failed", uid=connection.peer.uid, pid=connection.peer.pid)
            return refusal(VethdError("the request failed", hint="this is a bug; the log has more"))
        finally:
            call.close()
            for each in call.afterwards:  # the connection sends the answer before the loop turns
                asyncio.get_running_loop().call_soon(each)

    def _logged(self, method: Method) -> Callable[[Call, Any], Awaitable[Any]]:
        """The method, guarded, and a line in the log that says who called it and what came out."""
        guarded = self._guarded(method)

        async def logged(call: Call, params: Any) -> Any:
            outcome = "done"
            try:
                result = await guarded(call, params)
                if self._saved is not None:
                    await self._saved()
                return result
            except VethdError as error:
                outcome = error.kind
                raise
            finally:
                peer = call.peer
                self._log.info(
                    "change asked for", method=method.name, uid=peer.uid, gid=peer.gid, pid=peer.pid, outcome=outcome
                )

        return logged

    def _guarded(self, method: Method) -> Callable[[Call, Any], Awaitable[Any]]:
        """The method as the envelope calls it; it raises VethdErrors only."""

        async def guarded(call: Call, params: Any) -> Any:
            try:
                call.peer.require(method.role, method.name)
                if not isinstance(params, dict):
                    raise InvalidParams("params is a list", hint="give an object: parameters go by name")
                if len(call.fds) > MAX_FDS:
                    raise InvalidParams("too many file descriptors for one request", hint=f"send at most {MAX_FDS}")
                checked = _validate(method.params, params)
                await call.open_paths(checked)
                if self.shutting_down and method.role is Role.CHANGE:
                    raise ShuttingDown("the daemon is shutting down", hint="try again when it is back")
                token: str | None = getattr(checked, "token", None)
                if token is None:
                    return await method.call(checked, call)
                mark = fingerprint(method.name, params, call)
                return await self.tokens.once(call.peer.uid, token, mark, partial(method.call, checked, call))
            except VethdError:
                raise
            except Exception as error:
                self._log.exception("method failed", method=method.name)
                raise VethdError(f"{method.name} failed: {error!r}", hint="this is a bug; the log has more") from error

        return guarded


def _validate(model: type[P], params: dict[str, Any]) -> P:
    """The parameters as their model. Raises InvalidParams, naming each field."""
    try:
        return model.model_validate(params)
    except ValidationError as error:
        sentences, hint = findings(error, model)
        raise InvalidParams("; ".join(sentences), hint=hint) from error
