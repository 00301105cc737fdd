"""FileClient: speaks to file servers over HTTP; content streams both ways, and errors come back as their own classes.

A server runs in its tenant's namespace, so what it answers is that tenant's word: read with limits, never followed to
another address, and shown to nobody but who asked. Not here: whether a server runs (``file_server.py``).
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from ropewalk_core.errors import RopewalkError, Unauthenticated, Unavailable, from_problem
from ropewalk_core.model import FileEntry, Page, Usage

_ANSWER = 8 * 2**20  # a page of 1000 entries with the longest paths is 2 MiB
_AGAIN = "Do the same again in a moment."
_TIMES = httpx.Timeout(60.0, connect=5.0)  # a volume over the network may take long to sync what was written
Noun = TypeVar("Noun", bound=BaseModel)


def unreached(error: Unavailable) -> bool:
    """Whether no file server took the request, so that it can be sent again whatever it was."""
    return error.details.get("reached") is False


def broke(error: Unavailable) -> bool:
    """Whether the connection ended before the answer did."""
    return "reached" in error.details


@dataclass(frozen=True)
class Server:
    """Where an account's file server listens, and what it wants to be shown."""

    address: str
    key: str


class FileClient:
    """A client of many file servers."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=15.0)
        self._http = httpx.AsyncClient(trust_env=False, timeout=_TIMES, limits=limits)
        self._files = httpx.Client(trust_env=False, timeout=_TIMES, limits=limits)

    async def close(self) -> None:
        """End every connection."""
        await self._http.aclose()
        self._files.close()

    async def ready(self, server: Server) -> bool:
        """Whether a server answers."""
        try:
            answer = await self._http.get(f"{server.address}/ready", timeout=5.0)
        except httpx.HTTPError:
            return False
        return answer.status_code == 204

    async def list(self, server: Server, path: str, *, after: str, limit: int) -> Page[FileEntry]:
        """Return a page of a folder's entries."""
        query = {"path": path, "after": after, "limit": str(limit)}
        return _read(Page[FileEntry], await self._ask("GET", server, "/list", query))

    async def usage(self, server: Server) -> Usage:
        """Return what the files use."""
        return _read(Usage, await self._ask("GET", server, "/usage", {}))

    async def remove(self, server: Server, path: str) -> None:
        """Remove a file, or a folder with all in it."""
        await self._ask("DELETE", server, "/file", {"path": path})

    async def write(self, server: Server, path: str, content: AsyncIterator[bytes]) -> FileEntry:
        """Write a file whole or not at all."""
        return _read(FileEntry, await self._ask("PUT", server, "/file", {"path": path}, content))

    def open(self, server: Server, path: str, closed: Callable[[], None]) -> BinaryIO:
        """Return a file opened for reading, from a thread that may block; ``closed`` is called when it is closed."""
        with ExitStack() as stack:
            request = self._files.build_request(
                "GET", _address(server, "/file", {"path": path}), headers=_shown(server)
            )
            try:
                answer = self._files.send(request, stream=True)
                stack.callback(answer.close)
                if answer.status_code != 200:
                    raise _refusal(answer.status_code, b"".join(_bounded(answer.iter_raw())))
            except httpx.HTTPError as error:
                raise _broken(error) from error
            stack.pop_all()
        # What is typed as BinaryIO is read, closed and used as a context; a buffered reader is all of that.
        return cast(BinaryIO, io.BufferedReader(_Content(answer, closed), 256 * 1024))

    async def _ask(
        self,
        method: str,
        server: Server,
        path: str,
        query: Mapping[str, str],
        content: AsyncIterator[bytes] | None = None,
    ) -> bytes:
        try:
            async with self._http.stream(
                method, _address(server, path, query), headers=_shown(server), content=content
            ) as answer:
                body = b""
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > _ANSWER:
                        raise Unavailable("The file server's answer is too long.")
                if not answer.is_success:
                    raise _refusal(answer.status_code, body)
                return body
        except httpx.HTTPError as error:
            raise _broken(error) from error


class _Content(io.RawIOBase):
    """The content of an answer as a file."""

    def __init__(self, answer: httpx.Response, closed: Callable[[], None]) -> None:
        self._answer, self._closed, self._chunks, self._rest = answer, closed, answer.iter_raw(), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._rest:
            try:
                self._rest = memoryview(next(self._chunks))
            except StopIteration:
                return 0
            except httpx.HTTPError as error:
                raise _broken(error) from error
        count = min(len(into), len(self._rest))
        into[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._answer.close()
            self._closed()
        super().close()


def _address(server: Server, path: str, query: Mapping[str, str]) -> str:
    named = "&".join(f"{name}={quote(text.encode('utf-8', 'replace'), safe='')}" for name, text in query.items())
    return f"{server.address}{path}?{named}"


def _shown(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.key}", "Accept-Encoding": "identity"}


def _bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    left = _ANSWER
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            return
        yield chunk


def _read(noun: type[Noun], body: bytes) -> Noun:
    try:
        return noun.model_validate_json(body)
    except ValidationError as error:
        raise Unavailable("The file server's answer cannot be read.", hint=_AGAIN) from error


def _refusal(status: int, body: bytes) -> RopewalkError:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "code" not in problem:
        return Unavailable(f"The file server answered {status} and no reason.", hint=_AGAIN)
    error = from_problem(problem)
    if isinstance(error, Unauthenticated):  # ours to show: the person who asks is signed in
        return Unavailable("The file server does not know the platform any more; it is being started anew.")
    return error


def _broken(error: httpx.HTTPError) -> Unavailable:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Unavailable("The file server does not answer.", hint=_AGAIN, details={"reached": False})
    return Unavailable("The connection to the file server broke.", hint=_AGAIN, details={"reached": True})
