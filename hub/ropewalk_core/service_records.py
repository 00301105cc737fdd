"""What all backends of services share: their records in the journal, the address, and what is refused. Pure.

Not here: carrying anything out (``local/services.py``, ``kube/services.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from ropewalk_core import names
from ropewalk_core.errors import Conflict, NotFound
from ropewalk_core.journal import Journal, Record
from ropewalk_core.model import Page, Service, ServiceSpec, State, Status
from ropewalk_core.settings import Settings

KIND = "service"
LAST = "service-last"
"""Records of this kind hold the values that a person used last with a template, for the form."""
RESTING = (State.FAILED, State.STOPPED)
"""Wanted no more until somebody asks again."""


def address(settings: Settings, owner: str, name: str) -> str:
    """Return the stable address of a service."""
    door = settings.door
    return f"{door.scheme}://{names.service_host(name, owner, door.people)}:{door.people_port}/"


def service_of(record: Record) -> Service:
    """Return the service that a record holds."""
    return Service.model_validate(record.body)


def found(journal: Journal, owner: str, name: str) -> Record:
    """Return the record of a service, or raise `NotFound`."""
    record = journal.get(KIND, owner, name)
    if record is None:
        raise NotFound.named("services", f"There is no service '{name[:60]}'.", field="name")
    return record


def wanted(settings: Settings, owner: str, spec: ServiceSpec, *, now: float, created: float | None = None) -> Service:
    """Return a service as it is when it was asked for just ``now``, in Unix seconds."""
    return Service(
        owner=owner,
        spec=spec,
        status=Status(state=State.ASKED, since=now),
        address=address(settings, owner, spec.name),
        created=created or now,
    )


def page(journal: Journal, owner: str, *, after: str, limit: int) -> Page[Service]:
    """Return a page of somebody's services by name."""
    limit = max(1, min(limit, 500))
    records = journal.page(KIND, owner, after=after, limit=limit + 1)
    items = tuple(service_of(one) for one in records[:limit])
    return Page(items=items, next=items[-1].spec.name if len(records) > limit else "")


async def changes(journal: Journal, owner: str, *, after: int) -> AsyncIterator[tuple[Service, int]]:
    """Yield each change of somebody's services after a cursor, as they come."""
    async for event in journal.follow(KIND, after=after, owner=owner):
        yield Service.model_validate(event.body), event.cursor


def stands(have: Service, spec: ServiceSpec) -> bool:
    """Whether what is there is what is asked for, so that nothing is to do; another template is a `Conflict`."""
    if have.spec.template != spec.template and have.status.state is not State.STOPPING:
        raise _other_template(have, spec)
    return have.spec == spec and have.status.state not in (*RESTING, State.STOPPING)


def _other_template(have: Service, spec: ServiceSpec) -> Conflict:
    """Return the refusal of another template under a name that is in use."""
    return Conflict(
        f"The service '{spec.name}' is of the template '{have.spec.template}', not '{spec.template}'.",
        field="template",
        hint=f"Choose another name, or stop and remove it first: `ropewalk services remove {spec.name}`.",
    )
