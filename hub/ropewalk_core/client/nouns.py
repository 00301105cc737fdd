"""The nouns of the platform over REST: one small class each, with the verbs of its port.

``owner`` is the person themselves unless it is given. Every answer is a class of ``model``. Not here: connections,
tokens and repeats (``wire.py``).
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from ropewalk_core.client.wire import Wire
from ropewalk_core.errors import BadPath, Internal
from ropewalk_core.model import (
    Access,
    Account,
    Call,
    CallKey,
    Costs,
    Figures,
    FileEntry,
    Function,
    FunctionSpec,
    LogLine,
    NewKey,
    Notebook,
    Noun,
    Page,
    Requirements,
    Revision,
    Service,
    ServiceSpec,
    Usage,
    Window,
)
from ropewalk_core.placement import Placement
from ropewalk_core.wrong import wrong

_DEPLOY = 150.0
N = TypeVar("N", bound=Noun)


def read(kind: type[N], content: bytes) -> N:
    """Return an answer as a model, or raise `Internal` if it is none."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise Internal(
            f"The platform's answer cannot be read: {wrong(error.errors(), whole='answer').message}",
            hint="Update Ropewalk here or there, so that both agree.",
        ) from error


class Resource:
    """What all nouns share: the wire, the owner in the path, and pages that are read to their end."""

    noun = ""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def _path(self, owner: str, *parts: str) -> str:
        return "/".join([self.noun, quote(owner or await self._me(), safe=""), *(quote(one, safe="") for one in parts)])

    async def _me(self) -> str:
        if not await self._wire.known_account():
            self._wire.account = (await self._get(Account, "me")).name
        return self._wire.account

    async def _get(self, kind: type[N], path: str, params: Mapping[str, Any] | None = None) -> N:
        return read(kind, (await self._wire.request("GET", path, params=params)).content)

    async def _send(
        self,
        kind: type[N],
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        key: str = "",
        timeout: float = 30.0,
    ) -> N:
        key = key or secrets.token_hex(16)
        answer = await self._wire.request(method, path, params=params, body=body, key=key, timeout=timeout)
        return read(kind, answer.content)

    async def _page(self, kind: type[N], path: str, *, after: str = "", limit: int | None = None) -> Page[N]:
        answer = await self._wire.request("GET", path, params={"after": after, "limit": limit})
        return read(Page[kind], answer.content)  # type: ignore[valid-type]

    async def _all(self, kind: type[N], path: str) -> AsyncIterator[N]:
        after = ""
        while True:
            page = await self._page(kind, path, after=after, limit=200)
            for one in page.items:
                yield one
            if not (after := page.next):
                return


class NotebooksClient(Resource):
    """The person's notebook servers."""

    noun = "notebooks"

    async def list(self, *, owner: str = "") -> Page[Notebook]:
        """Return the servers."""
        return await self._page(Notebook, await self._path(owner))

    async def start(self, name: str = "", *, placement: Placement | None = None, owner: str = "") -> Notebook:
        """Start the server, or return the one that runs."""
        body = {"name": name, "placement": placement.model_dump(mode="json") if placement else None}
        return await self._send(Notebook, "POST", await self._path(owner, "start"), body)

    async def stop(self, name: str = "", *, owner: str = "") -> Notebook:
        """Stop the server."""
        return await self._send(Notebook, "POST", await self._path(owner, "stop"), {"name": name})

    async def logs(
        self, name: str = "", *, after: int = 0, follow: bool = False, owner: str = ""
    ) -> AsyncIterator[LogLine]:
        """Yield log lines."""
        path = await self._path(owner, "logs")
        async for line in self._wire.log_lines(path, after=after, follow=follow, name=name):
            yield line


class ServicesClient(Resource):
    """The person's services."""

    noun = "services"

    async def list(self, *, after: str = "", limit: int | None = None, owner: str = "") -> Page[Service]:
        """Return one page by name."""
        return await self._page(Service, await self._path(owner), after=after, limit=limit)

    async def all(self, *, owner: str = "") -> AsyncIterator[Service]:
        """Yield every service."""
        async for one in self._all(Service, await self._path(owner)):
            yield one

    async def get(self, name: str, *, owner: str = "") -> Service:
        """Return one service."""
        return await self._get(Service, await self._path(owner, name))

    async def apply(self, spec: ServiceSpec, *, key: str = "", owner: str = "") -> Service:
        """Ask for a service; the same spec again changes nothing."""
        path = await self._path(owner, spec.name)
        return await self._send(Service, "PUT", path, spec.model_dump(mode="json"), key=key)

    async def remove(self, name: str, *, owner: str = "") -> Service:
        """Stop and remove it; its files stay."""
        return await self._send(Service, "DELETE", await self._path(owner, name))

    async def logs(self, name: str, *, after: int = 0, follow: bool = False, owner: str = "") -> AsyncIterator[LogLine]:
        """Yield log lines."""
        async for line in self._wire.log_lines(await self._path(owner, name, "logs"), after=after, follow=follow):
            yield line


class FunctionsClient(Resource):
    """The person's functions."""

    noun = "functions"

    async def list(self, *, after: str = "", limit: int | None = None, owner: str = "") -> Page[Function]:
        """Return one page by name, as summaries without code."""
        return await self._page(Function, await self._path(owner), after=after, limit=limit)

    async def all(self, *, owner: str = "") -> AsyncIterator[Function]:
        """Yield every function."""
        async for one in self._all(Function, await self._path(owner)):
            yield one

    async def get(self, name: str, *, owner: str = "") -> Function:
        """Return one function."""
        return await self._get(Function, await self._path(owner, name))

    async def prepare(self, spec: FunctionSpec | Requirements, *, owner: str = "") -> AsyncIterator[LogLine]:
        """Have the environment made that its requirements need, and yield the log; nothing if it is there already.

        Leaving the loop early ends what is made.
        """
        if spec.requirements:
            needs = Requirements(requirements=spec.requirements, requires_python=spec.requires_python)
            path = f"requirements/{quote(owner or await self._me(), safe='')}"
            async for line in self._wire.made(path, needs.model_dump(mode="json")):
                yield line

    async def deploy(self, spec: FunctionSpec, *, key: str = "", owner: str = "", prepared: bool = False) -> Function:
        """Deploy a revision; the same content again comes back as ``unchanged``.

        What its requirements need is made first, however long that takes, unless it is ``prepared``.
        """
        if not prepared:
            async for _ in self.prepare(spec, owner=owner):
                continue
        path = await self._path(owner, spec.name)
        # It is tried before it is accepted, which on a cluster may bring an image first.
        return await self._send(Function, "PUT", path, spec.model_dump(mode="json"), key=key, timeout=_DEPLOY)

    async def openapi(self, name: str, *, owner: str = "") -> dict[str, Any]:
        """Return it as an OpenAPI document."""
        answer = await self._wire.request("GET", await self._path(owner, name, "openapi.json"))
        return answer.json()  # type: ignore[no-any-return]

    async def revisions(
        self, name: str, *, after: str = "", limit: int | None = None, owner: str = ""
    ) -> Page[Revision]:
        """Return its kept revisions, newest first, as summaries without code."""
        return await self._page(Revision, await self._path(owner, name, "revisions"), after=after, limit=limit)

    async def revision(self, name: str, number: int, *, owner: str = "") -> Revision:
        """Return one of its revisions with its code."""
        return await self._get(Revision, await self._path(owner, name, "revisions", str(number)))

    async def rollback(self, name: str, number: int, *, key: str = "", owner: str = "") -> Function:
        """Deploy an earlier revision again; if that is what runs, it comes back as ``unchanged``."""
        path = await self._path(owner, name, "rollback")
        return await self._send(Function, "POST", path, {"number": number}, key=key, timeout=_DEPLOY)

    async def traffic(self, name: str, shares: Mapping[Any, int], *, owner: str = "") -> Function:
        """Split its calls between revisions: by number or ``"latest"``, how many of 100 calls each takes."""
        body = {"shares": {str(key): share for key, share in shares.items()}}
        return await self._send(Function, "PUT", await self._path(owner, name, "traffic"), body, timeout=_DEPLOY)

    async def access(self, name: str, access: Access, *, owner: str = "") -> Function:
        """Say who may call it."""
        path = await self._path(owner, name, "access")
        return await self._send(Function, "PUT", path, access.model_dump(mode="json"))

    async def keys(self, name: str, *, owner: str = "") -> Page[CallKey]:
        """Return its keys, without their secrets."""
        return await self._page(CallKey, await self._path(owner, name, "keys"))

    async def add_key(
        self, name: str, *, label: str = "", calls: int = 1000, seconds: int = 3600, key: str = "", owner: str = ""
    ) -> NewKey:
        """Make a key; its secret is in this answer alone."""
        body = {"label": label, "calls": calls, "seconds": seconds}
        return await self._send(NewKey, "POST", await self._path(owner, name, "keys"), body, key=key)

    async def revoke_key(self, name: str, identifier: str, *, owner: str = "") -> CallKey:
        """End a key."""
        return await self._send(CallKey, "DELETE", await self._path(owner, name, "keys", identifier))

    async def remove(self, name: str, *, owner: str = "") -> Function:
        """Remove it and end its workers."""
        return await self._send(Function, "DELETE", await self._path(owner, name))

    async def call(
        self,
        name: str,
        payload: bytes,
        *,
        content_type: str = "application/json",
        timeout: float = 3600.0,
        owner: str = "",
    ) -> bytes:
        """Call it through the platform and return the answer's body; never repeated by itself."""
        answer = await self._wire.request(
            "POST",
            await self._path(owner, name, "call"),
            content=payload,
            content_type=content_type,
            timeout=timeout,
        )
        return answer.content

    async def calls(self, name: str, *, limit: int = 50, owner: str = "") -> Page[Call]:
        """Return the latest calls, newest first."""
        return await self._page(Call, await self._path(owner, name, "calls"), limit=limit)

    async def logs(
        self, name: str, *, call: str = "", after: int = 0, follow: bool = False, owner: str = ""
    ) -> AsyncIterator[LogLine]:
        """Yield what a call prints, also while it goes on; without one what all calls print."""
        path = await self._path(owner, name, "logs")
        async for line in self._wire.log_lines(path, after=after, follow=follow, call=call):
            yield line

    async def figures(self, name: str, *, window: Window = "hour", owner: str = "") -> Figures:
        """Return how many calls there were, how long they took and how many failed."""
        return await self._get(Figures, await self._path(owner, name, "figures"), {"window": window})

    async def costs(self, name: str = "", *, owner: str = "") -> Costs:
        """Return what the calls of a function, or without a name of all of them, cost by day."""
        if name:
            return await self._get(Costs, await self._path(owner, name, "costs"))
        return await self._get(Costs, f"costs/{quote(owner or await self._me(), safe='')}")


class FilesClient(Resource):
    """The person's files; paths are relative to their folder."""

    noun = "files"

    async def list(
        self, path: str = "", *, after: str = "", limit: int | None = None, owner: str = ""
    ) -> Page[FileEntry]:
        """Return one page of a folder by name."""
        return await self._page(FileEntry, await self._file(owner, f"{path.strip('/')}/"), after=after, limit=limit)

    async def all(self, path: str = "", *, owner: str = "") -> AsyncIterator[FileEntry]:
        """Yield every entry of a folder."""
        async for one in self._all(FileEntry, await self._file(owner, f"{path.strip('/')}/")):
            yield one

    async def read(self, path: str, *, owner: str = "") -> AsyncIterator[bytes]:
        """Yield a file's content."""
        async for chunk in self._wire.content(await self._file(owner, path), fixed=False):
            yield chunk

    async def write(self, path: str, content: bytes, *, owner: str = "") -> FileEntry:
        """Write a file, whole or not at all."""
        answer = await self._wire.request(
            "PUT", await self._file(owner, path), content=content, content_type="application/octet-stream", timeout=600
        )
        return read(FileEntry, answer.content)

    async def remove(self, path: str, *, owner: str = "") -> None:
        """Remove a file, or a folder with all in it."""
        await self._wire.request("DELETE", await self._file(owner, path))

    async def usage(self, *, owner: str = "") -> Usage:
        """Return what is used, and the limit."""
        return await self._get(Usage, await self._path(owner))

    async def _file(self, owner: str, path: str) -> str:
        if {".", ".."} & set(path.split("/")):  # an HTTP library would resolve them, to another thing's address
            raise BadPath(f"The path '{path[:200]}' has a part that is not a name.", field="path")
        return f"{await self._path(owner)}/{quote(path.lstrip('/'))}"


class AccountsClient(Resource):
    """Accounts; for administrators."""

    noun = "accounts"

    async def list(self, *, after: str = "", limit: int | None = None) -> Page[Account]:
        """Return one page by name."""
        return await self._page(Account, self.noun, after=after, limit=limit)

    async def all(self) -> AsyncIterator[Account]:
        """Yield every account."""
        async for one in self._all(Account, self.noun):
            yield one

    async def approve(self, name: str) -> Account:
        """Let a waiting or deactivated account in."""
        return await self._send(Account, "POST", await self._path(name, "approve"))

    async def deactivate(self, name: str) -> Account:
        """End every token and server of the account."""
        return await self._send(Account, "POST", await self._path(name, "deactivate"))
