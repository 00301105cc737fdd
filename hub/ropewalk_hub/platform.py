"""The composition root's result: every part of the platform process, put together once.

`build` puts what every platform has around the backend that ``settings.backend`` names (``backends``). Each port is
wrapped by its guard here, so nobody can forget policy. Not here: HTTP (``app.py``, ``internal.py``).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ropewalk_core import catalog, guard
from ropewalk_core.catalog import Catalog
from ropewalk_core.durable import DurableDesk
from ropewalk_core.errors import Unauthenticated
from ropewalk_core.guard_flows import GuardedSaved, GuardedWorkflows
from ropewalk_core.journal import Journal
from ropewalk_core.local import accounts as local_accounts
from ropewalk_core.model import Actor
from ropewalk_core.placement import Inventory
from ropewalk_core.ports import (
    Clock,
    Durable,
    Functions,
    Identity,
    Notebooks,
    SavedWorkflows,
    Secrets,
    Services,
    Storage,
    Triggers,
    Workflows,
)
from ropewalk_core.secrets import SecretBook
from ropewalk_core.settings import Settings
from ropewalk_core.triggers.desk import TriggerDesk
from ropewalk_core.triggers.house import TriggerHouse
from ropewalk_core.triggers.wishes import FUNCTION, WORKFLOW
from ropewalk_hub import triggers
from ropewalk_hub.addresses import Addresses
from ropewalk_hub.backends import Backend, Ground, Task, find
from ropewalk_hub.closing import Closing
from ropewalk_hub.gateway_feed import GatewayFeed
from ropewalk_hub.hub_client import RESTART, HubClient
from ropewalk_hub.issuer import Issuer
from ropewalk_hub.issuer.grants import Client
from ropewalk_hub.issuer.identity import IssuerIdentity
from ropewalk_hub.issuer.keys import load_keys
from ropewalk_hub.issuer.passwords import Passwords
from ropewalk_hub.notebooks import HubNotebooks, NotebookWatch
from ropewalk_hub.secrets_store import Secret, SecretsStore
from ropewalk_workflows.saved.desk import SavedDesk

HUB_CLIENT_ID = "jupyterhub"


class SystemClock:
    """The machine's clock."""

    def wall(self) -> float:
        """Return Unix time in seconds."""
        return time.time()

    def steady(self) -> float:
        """Return seconds of a clock that never steps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Platform:
    """The parts of the platform process. The ports are behind policy."""

    settings: Settings
    journal: Journal
    clock: Clock
    catalog: Catalog
    issuer: Issuer
    hub: HubClient
    identity: Identity
    notebooks: Notebooks
    services: Services
    functions: Functions
    durable: Durable
    triggers: Triggers
    saved_triggers: Triggers
    secrets: Secrets
    workflows: Workflows
    saved: SavedWorkflows
    storage: Storage
    feed: GatewayFeed
    desk: DurableDesk
    house: TriggerHouse
    """All triggers."""
    backend: Backend
    scrape_token: str
    """Lets a monitoring system read the metrics."""
    tasks: tuple[Task, ...] = ()
    """What runs as long as the process serves."""

    @property
    def inventory(self) -> Inventory:
        """What there is now; on a cluster nodes come and go."""
        return self.backend.inventory()

    def lent(self, reader: str) -> Inventory:
        """Return what there is with what is in use of it, as this account may know it. Blocks for a moment."""
        found = self.inventory
        if self.backend.lent is None:
            return found
        leases = self.backend.lent(reader)
        return Inventory(nodes=tuple(one.model_copy(update={"leases": leases}) for one in found.nodes))

    async def hub_actor(self, token: str) -> Actor:
        """Return whom the token of a notebook server speaks for.

        Only a server's own token counts: one that a visitor's browser holds for somebody's notebook must not become
        the visitor's token here.
        """
        model = await self.hub.whose(token)
        name = str(model.get("name", ""))
        account = self.issuer.accounts.get(name) if model.get("kind") == "user" else None
        own = f"users:activity!user={name}" in (model.get("scopes") or ())
        if account is None or account.state != "active" or not own:
            raise Unauthenticated("This hub token is not one of a notebook server.", hint=RESTART)
        return Actor(
            account=account.name,
            subject=account.subject,
            administrator=account.administrator,
            session=f"server:{account.name}",
            audience="hub",
        )

    async def close(self) -> None:
        """Close what is open, the journal last."""
        await self.hub.close()
        await self.backend.close()
        self.journal.close()


def hub_client_of(settings: Settings, secret: str) -> Client:
    """Return JupyterHub as a client of our issuer."""
    origin = settings.door.origin
    return Client(
        HUB_CLIENT_ID,
        secret,
        redirects=(f"{origin}/hub/oauth_callback",),
        after_sign_out=(f"{origin}/sign-in?signed-out=1",),
    )


def build(
    settings: Settings, addresses: Addresses, *, clock: Clock | None = None, passwords: Passwords | None = None
) -> Platform:
    """Put the platform together. Opens the journal, which only one process may hold."""
    clock = clock or SystemClock()
    store = SecretsStore(settings)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = Journal(settings.journal or settings.home / "journal.db", now=clock.wall)
    issuer = Issuer(
        journal,
        settings,
        clock,
        load_keys(store),
        page_key=store.text(Secret.PAGE_KEY),
        clients=[hub_client_of(settings, store.text(Secret.HUB_CLIENT))],
        passwords=passwords,
        on_first=lambda account: local_accounts.mark_first(settings, account),
    )
    hub = HubClient(
        addresses.hub_url,
        store.text(Secret.PLATFORM_TOKEN),
        host=f"{settings.door.host}:{settings.door.port}",
        folder=settings.home,
    )
    templates = Catalog(catalog.shipped())

    async def functions_token(actor: Actor) -> str:
        return (await identity.token(actor, audience="functions"))[0]

    backend = find(settings.backend)(
        Ground(settings, addresses, journal, clock, templates, issuer, store, functions_token)
    )
    identity = IssuerIdentity(issuer, apart=backend.apart)
    notebooks = HubNotebooks(hub, journal, settings, clock, inventory=backend.inventory, berth=backend.berth)

    def active(account: str) -> bool:
        found = issuer.accounts.get(account)
        return found is not None and found.state == "active"

    saved = SavedDesk(journal, clock, settings.limits, backend.workflows)
    targets = (
        triggers.functions(backend.traffic.function, lambda: desk, journal),
        triggers.workflows(saved, journal),
    )
    house = TriggerHouse(settings, journal, clock, targets, active=active, look=backend.look)
    desk = DurableDesk(settings, journal, clock, route=backend.traffic.function, active=active, followers=house)
    return Platform(
        settings=settings,
        journal=journal,
        clock=clock,
        catalog=templates,
        issuer=issuer,
        hub=hub,
        identity=guard.GuardedIdentity(identity),
        notebooks=guard.GuardedNotebooks(notebooks),
        services=guard.GuardedServices(backend.services),
        functions=guard.GuardedFunctions(backend.functions),
        durable=guard.GuardedDurable(desk),
        triggers=guard.GuardedTriggers(TriggerDesk(house, FUNCTION)),
        saved_triggers=guard.GuardedTriggers(TriggerDesk(house, WORKFLOW), "run"),
        secrets=guard.GuardedSecrets(SecretBook(journal, clock, backend.safe)),
        workflows=GuardedWorkflows(backend.workflows),
        saved=GuardedSaved(saved),
        storage=guard.GuardedStorage(backend.storage),
        feed=GatewayFeed(journal, issuer, backend.traffic),
        desk=desk,
        house=house,
        backend=backend,
        scrape_token=store.text(Secret.SCRAPE_TOKEN),
        tasks=(
            Closing(hub, journal, issuer.accounts, clock, end_work=backend.end_work).run,
            NotebookWatch(hub, journal, settings, clock, berth=backend.berth).run,
            house.run,
            *backend.tasks,
        ),
    )
