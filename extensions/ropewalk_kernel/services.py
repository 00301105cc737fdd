"""Services in a notebook: launch from a template with its values, open, look at the log, stop.

Not here: the catalogue's schemas (the platform checks values and names the wrong field) and who may open a service
(the gateway).
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ropewalk_core import sync
from ropewalk_core.errors import TimedOut, Unavailable
from ropewalk_core.model import Service, ServiceSpec, State, Template
from ropewalk_core.names import check_name
from ropewalk_core.placement import Placement, parse_placement
from ropewalk_kernel import cards, live, look

_SETTLED = (State.RUNNING, State.IDLE, State.FAILED, State.STOPPED)


class ServiceHandle:
    """A service launched from a template. ``.url`` opens in the browser; ``.stop()`` stops and removes it.

    Parameters
    ----------
    service
        The service as it was last seen.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._card: live.Card[Service] | None = None

    @property
    def name(self) -> str:
        """The service's name."""
        return self._service.spec.name

    @property
    def url(self) -> str:
        """Its address, behind the login; stable as long as its name is."""
        return self._service.address

    @property
    def state(self) -> State:
        """The state now."""
        return self.info().status.state

    def info(self) -> Service:
        """Return the service as it is now."""
        self._service = sync.wait(sync.client().services.get(self.name))
        return self._service

    def show(self, line: str = "") -> ServiceHandle:
        """Put the service's live card under the cell."""

        def draw(service: Service) -> cards.Picture:
            logs = self.logs().splitlines() if service.status.state is State.FAILED else []
            return cards.service_card(service, line=line, logs=logs)

        self._card = live.Card(self.info, draw, lambda one: one.status.state in _SETTLED)
        self._card.open(self._service)
        return self

    def wait(self, timeout: float = 60) -> ServiceHandle:
        """Wait until it answers, and return it.

        Raises
        ------
        Unavailable
            If it failed instead; the message says why.
        TimedOut
            If it did not answer within ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        while (service := self._ask(end)).status.state is not State.RUNNING:
            if service.status.state in (State.FAILED, State.STOPPED):
                why = look.why_text(service.status) or "Look at its log."
                raise Unavailable(f"Service {self.name} {service.status.state.value}. {why}", hint="See .logs().")
            if time.monotonic() > end:
                raise TimedOut(f"Service {self.name} did not answer within {timeout:g} s.", hint="See .logs().")
            time.sleep(0.1)
        if self._card is not None:
            self._card.settle(service)
        return self

    def _ask(self, end: float) -> Service:
        self._service = sync.before(end, sync.client().services.get(self.name), self._service)
        return self._service

    def logs(self) -> str:
        """Return what the service printed."""
        return "\n".join(line.text for line in sync.iterate(sync.client().services.logs(self.name)))

    def stop(self) -> None:
        """Stop and remove the service; its files stay where it wrote them."""
        sync.wait(sync.client().services.remove(self.name))
        live.show(cards.notice(f"service {self.name}: stopped and removed"))

    remove = stop

    def _ipython_display_(self) -> None:
        if self._card is None or not self._card.here():
            self.info()
            self.show()

    def __repr__(self) -> str:
        return f"<service {self.name} at {self.url}>"


class Services:
    """Your services: ``services.launch(template, ...)``, ``services.get(name)``, ``services.list()``.

    Examples
    --------
    >>> import ropewalk
    >>> ropewalk.services.templates()
    """

    def launch(
        self, template: str, name: str = "", *, placement: Placement | None = None, **values: Any
    ) -> ServiceHandle:
        """Launch a service from a template, or bring the one of that name to these values; show its card.

        Parameters
        ----------
        template
            The template's name; `templates` lists them.
        name
            The service's name; empty means the template's.
        placement
            Where it may run.
        values
            The template's values. The platform checks them and names a wrong one.

        Raises
        ------
        BadValues
            If a value is wrong.
        Unsatisfiable
            If no machine can ever satisfy the placement.

        Examples
        --------
        >>> import ropewalk
        >>> ropewalk.services.launch("site", name="pages", folder="pages")
        """
        spec = ServiceSpec(
            name=check_name(name or template), template=template, values=values, placement=parse_placement(placement)
        )
        before = next((one for one in self.list().items if one.spec.name == spec.name), None)
        service = sync.wait(sync.client().services.apply(spec))
        same = before is not None and before.spec == service.spec
        return ServiceHandle(service).show(f"service {spec.name}: {'unchanged' if same else 'launched'}")

    def get(self, name: str) -> ServiceHandle:
        """Return a service by name, or raise `NotFound`.

        Examples
        --------
        >>> import ropewalk
        >>> [ropewalk.services.get(service.name).url for service in ropewalk.services.list()]
        """
        return ServiceHandle(sync.wait(sync.client().services.get(check_name(name))))

    def list(self) -> Listed:
        """Return all services by name.

        Examples
        --------
        >>> import ropewalk
        >>> ropewalk.services.list()
        """
        return Listed(tuple(sync.iterate(sync.client().services.all())))

    def templates(self) -> Templates:
        """Return the catalogue: what can be launched, and the values of each.

        Examples
        --------
        >>> import ropewalk
        >>> ropewalk.services.templates()
        """
        return Templates(sync.wait(sync.client().templates()).items)

    def __getitem__(self, name: str) -> ServiceHandle:
        return self.get(name)

    def _ipython_key_completions_(self) -> Sequence[str]:
        return [one.spec.name for one in self.list().items]

    def __repr__(self) -> str:
        return repr(self.list())


class Listed(cards.Pictured):
    """A list of services that reads well in a notebook; iterate over it for handles."""

    def __init__(self, items: tuple[Service, ...]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[ServiceHandle]:
        return iter([ServiceHandle(one) for one in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def _picture(self) -> cards.Picture:
        rows = [(one.spec.name, one.spec.template, look.word(one.status), one.address) for one in self.items]
        empty = 'No services yet. Launch one: ropewalk.services.launch("voila", notebook="report.ipynb").'
        return cards.listing("services", ("name", "template", "state", "address"), rows, empty=empty)


class Templates(cards.Pictured):
    """The catalogue of service templates."""

    def __init__(self, items: tuple[Template, ...]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Template]:
        return iter(self.items)

    def _picture(self) -> cards.Picture:
        rows = [(one.name, one.title, one.description, ", ".join(_fields(one))) for one in self.items]
        empty = "No templates are installed here."
        return cards.listing("templates", ("name", "title", "what it is", "values"), rows, empty=empty)


def _fields(template: Template) -> builtins.list[str]:
    return sorted(template.values_schema.get("properties", {}))


services = Services()
