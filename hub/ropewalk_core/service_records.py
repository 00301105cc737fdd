"""What all backends of services share: their records in the journal, the address, and what is refused. Pure.

Not here: carrying anything out (``local/services.py``, ``kube/services.py``).
"""

from __future__ import annotations

from ropewalk_core import names
from ropewalk_core.errors import Conflict, NotFound
from ropewalk_core.journal import Journal, Record
from ropewalk_core.model import Service, ServiceSpec, State
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


def other_template(have: Service, spec: ServiceSpec) -> Conflict:
    """Return the refusal of another template under a name that is in use."""
    return Conflict(
        f"The service '{spec.name}' is of the template '{have.spec.template}', not '{spec.template}'.",
        field="template",
        hint=f"Choose another name, or stop and remove it first: `ropewalk services remove {spec.name}`.",
    )
