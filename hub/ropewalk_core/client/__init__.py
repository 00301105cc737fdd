"""The client: what dashboard scripts, magics and the command line use to speak to a platform. Async; see ``sync``.

`connect` finds the platform and the person's identity by itself. Not here: anything about terminals or notebooks.
Rejected: a generated client; it would return its own classes instead of ``model``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from pydantic import TypeAdapter

from ropewalk_core import settings
from ropewalk_core.client.durable import DurableClient
from ropewalk_core.client.nouns import (
    AccountsClient,
    FilesClient,
    FunctionsClient,
    NotebooksClient,
    Resource,
    ServicesClient,
)
from ropewalk_core.client.secrets import SecretsClient
from ropewalk_core.client.tokens import FixedToken, HomeToken, HubToken, NoToken, Token, Tokens, TokenSource, held
from ropewalk_core.client.triggers import SavedTriggersClient, TriggersClient
from ropewalk_core.client.wire import Wire
from ropewalk_core.client.workflows import SavedClient, WorkflowsClient
from ropewalk_core.errors import RopewalkError
from ropewalk_core.model import Account, Event, Page, Template
from ropewalk_core.placement import Inventory

__all__ = [
    "AccountsClient",
    "Client",
    "DurableClient",
    "FilesClient",
    "FixedToken",
    "FunctionsClient",
    "HomeToken",
    "HubToken",
    "NoToken",
    "NotebooksClient",
    "SavedClient",
    "SavedTriggersClient",
    "SecretsClient",
    "ServicesClient",
    "Token",
    "TokenSource",
    "Tokens",
    "TriggersClient",
    "WorkflowsClient",
    "argo_server",
    "connect",
    "platform_origin",
]


class Client(Resource):
    """One platform as one person sees it. Nouns are attributes; use it as a context or call `close`."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self.notebooks = NotebooksClient(wire)
        self.services = ServicesClient(wire)
        self.functions = FunctionsClient(wire)
        self.durable = DurableClient(wire)
        self.triggers = TriggersClient(wire)
        self.secrets = SecretsClient(wire)
        self.workflows = WorkflowsClient(wire)
        self.saved = SavedClient(wire)
        self.saved_triggers = SavedTriggersClient(wire)
        self.files = FilesClient(wire)
        self.accounts = AccountsClient(wire)

    async def me(self) -> Account:
        """Return the person's own account."""
        return await self._get(Account, "me")

    async def account(self) -> str:
        """Return the name of the person's account."""
        return await self._me()

    async def token(self, audience: str = "functions") -> Token:
        """Return a token for the audience, good for a minute or more; it is renewed by itself."""
        return await self._wire.tokens.get(audience)

    async def inventory(self) -> Inventory:
        """Return the machines and accelerators that exist."""
        return TypeAdapter(Inventory).validate_json((await self._wire.request("GET", "inventory")).content)

    async def templates(self) -> Page[Template]:
        """Return the catalogue of service templates."""
        return await self._page(Template, "templates", limit=200)

    async def watch(
        self, kinds: Iterable[str] = (), *, after: int | None = None, owner: str = ""
    ) -> AsyncIterator[Event]:
        """Yield each change of the owner's things after a cursor, or from now on, for ever.

        ``event.kind`` is ``notebook``, ``service``, ``function`` or ``run``; ``event.body`` is the model's JSON.
        """
        path = f"watch/{owner or await self._me()}"
        async for event in self._wire.events(path, after=after, kinds=",".join(kinds)):
            yield event

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def platform_origin(home: Path | None = None) -> str:
    """Return the address people use for the platform around us, or of a home whose platform is up; empty for none."""
    host, people = (settings.read_environment(f"ROPEWALK_{name}") for name in ("HOST", "PEOPLE"))
    if host and home is None:
        return f"{people.partition('://')[0] or 'http'}://{host}"
    try:  # what the supervisor said when it was ready, since its port may have been chosen for that start alone
        chosen = settings.load(home)
        address = str(json.loads((chosen.run / "ready.json").read_text())["address"])
        return address if held(chosen.home / "lock") else ""  # what a killed one left leads nowhere
    except (RopewalkError, OSError, ValueError, TypeError, KeyError):
        return ""


def argo_server(home: Path | None = None) -> str:
    """Return where Argo's clients find the platform around us, before ``/argo``; empty for none.

    Inside a cluster that is an address of its own: those clients cannot say which host they mean.
    """
    inside = settings.read_environment("ROPEWALK_ARGO").rstrip("/")
    return inside if inside and home is None else platform_origin(home)


def on_cluster() -> bool:
    """Say whether this is a notebook on a cluster: only there Argo's clients need an address of their own."""
    return bool(settings.read_environment("ROPEWALK_ARGO"))


def connect(
    *,
    home: Path | None = None,
    account: str = "",
    transport: httpx.AsyncBaseTransport | None = None,
    patience: float = 15.0,
    reading: float | None = None,
) -> Client:
    """Return a client for the platform around us; nothing is sent yet.

    Inside a notebook that is the platform that started it; elsewhere, the one of a home on this machine.

    Parameters
    ----------
    home
        The home folder; given, it wins over a notebook's platform.
    account
        Outside a notebook: act as this account. Empty means the first administrator.
    transport
        Replaces the network, in tests.
    patience
        Seconds for which a platform that is away is waited for.
    reading
        The same for what only reads; see `Wire`.
    """
    api = settings.read_environment("ROPEWALK_API").rstrip("/")
    if api and home is None:
        host, token = settings.read_environment("ROPEWALK_HOST"), settings.read_environment("JUPYTERHUB_API_TOKEN")
        source: TokenSource = HubToken(api, token, host=host, transport=transport) if token else NoToken()
        mine = settings.read_environment("ROPEWALK_ACCOUNT")
        return Client(
            Wire(api, source, host=host, account=mine, transport=transport, patience=patience, reading=reading)
        )
    chosen = settings.load(home)
    api = f"http://127.0.0.1:{chosen.door.port}"
    source = HomeToken(chosen.run / "platform.sock", account)
    host = f"{chosen.door.host}:{chosen.door.port}"
    return Client(
        Wire(api, source, host=host, account=account, transport=transport, patience=patience, reading=reading)
    )
