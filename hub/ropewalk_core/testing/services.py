"""What any backend of services must do. Not here: that a template's program is good for something."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk_core.errors import BadInput, BadName, BadValues, NotFound, Unsatisfiable
from ropewalk_core.guard import GuardedServices
from ropewalk_core.model import ServiceSpec, State
from ropewalk_core.placement import Placement
from ropewalk_core.ports import Services
from ropewalk_core.testing.people import ADA, BOB, gone, take, until


class ServicesContract:
    """Subclass it, override the fixture ``port``, and name a template that runs on your backend."""

    template = "editor"
    values: dict[str, Any] = {}
    wrong_values: dict[str, Any] = {"no-such-value": 1}

    @pytest.fixture
    def port(self) -> Services:
        """Return the backend, without its guard."""
        raise NotImplementedError

    @pytest.fixture
    def services(self, port: Services) -> GuardedServices:
        """Return the backend behind policy."""
        return GuardedServices(port)

    def spec(self, name: str = "one", **changes: Any) -> ServiceSpec:
        """Return a wish that the backend can grant."""
        wish: dict[str, Any] = {"name": name, "template": self.template, "values": self.values}
        return ServiceSpec(**(wish | changes))

    async def test_what_was_asked_is_there(self, services: GuardedServices) -> None:
        """An accepted wish is seen at once."""
        asked = await services.apply(ADA, "ada", self.spec())
        seen = await services.get(ADA, "ada", "one")
        assert asked.spec.name == seen.spec.name == "one"
        assert seen.status.state is not State.FAILED

    async def test_it_comes_to_run(self, services: GuardedServices) -> None:
        """A granted wish runs, and has an address."""
        await services.apply(ADA, "ada", self.spec())

        async def runs() -> bool:
            seen = await services.get(ADA, "ada", "one")
            assert seen.status.state is not State.FAILED, seen.status.why
            return seen.status.state in (State.RUNNING, State.IDLE) and bool(seen.address)

        await until(runs, seconds=45.0)

    async def test_the_same_wish_changes_nothing(self, services: GuardedServices) -> None:
        """Applying twice is applying once."""
        first = await services.apply(ADA, "ada", self.spec())
        again = await services.apply(ADA, "ada", self.spec())
        assert again.created == first.created
        assert len((await services.list(ADA, "ada")).items) == 1

    async def test_somebody_elses_is_not_found(self, services: GuardedServices) -> None:
        """A stranger learns nothing, and changes nothing."""
        await services.apply(ADA, "ada", self.spec())
        for act in (services.get, services.remove):
            with pytest.raises(NotFound):
                await act(BOB, "ada", "one")
        with pytest.raises(NotFound):
            await services.list(BOB, "ada")
        assert (await services.list(BOB, "bob")).items == ()

    async def test_lists_have_pages(self, services: GuardedServices) -> None:
        """Pages follow each other by name and leave nothing out."""
        for name in ("c", "a", "b"):
            await services.apply(ADA, "ada", self.spec(name))
        first = await services.list(ADA, "ada", limit=2)
        rest = await services.list(ADA, "ada", after=first.next, limit=2)
        assert [one.spec.name for one in (*first.items, *rest.items)] == ["a", "b", "c"]
        assert first.next and not rest.next

    async def test_what_was_removed_is_not_found(self, services: GuardedServices) -> None:
        """A removed service is gone, and its name is free again."""
        await services.apply(ADA, "ada", self.spec())
        await services.remove(ADA, "ada", "one")
        await gone(lambda: services.get(ADA, "ada", "one"))
        await services.apply(ADA, "ada", self.spec())

    async def test_the_unknown_is_not_found(self, services: GuardedServices) -> None:
        """Nothing is made up."""
        for act in (services.get, services.remove):
            with pytest.raises(NotFound):
                await act(ADA, "ada", "nothing")

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"name": "Not A Name"}, BadName),
            ({"template": "no-such-template"}, NotFound),
            ({"placement": Placement(accelerator=("npu",))}, Unsatisfiable),
            ({"values": ...}, BadValues),
        ],
        ids=["name", "template", "placement", "values"],
    )
    async def test_a_wrong_wish_leaves_nothing(
        self, services: GuardedServices, changes: dict[str, Any], error: type[BadInput]
    ) -> None:
        """What cannot be granted is refused at once, by field, and nothing is half-done."""
        given: dict[str, Any] = {key: self.wrong_values if value is ... else value for key, value in changes.items()}
        with pytest.raises(error) as caught:
            await services.apply(ADA, "ada", self.spec(**given))
        assert caught.value.field
        assert (await services.list(ADA, "ada")).items == ()

    async def test_a_watch_resumes_after_its_cursor(self, services: GuardedServices) -> None:
        """Whoever comes back with a cursor misses nothing and sees nothing twice."""
        await services.apply(ADA, "ada", self.spec("a"))
        [(_, cursor)] = await take(services.watch(ADA, "ada"), 1)
        await services.apply(ADA, "ada", self.spec("b"))
        seen = await take(services.watch(ADA, "ada", after=cursor), 1)
        assert all(later > cursor for _, later in seen)
        everything = await take(services.watch(ADA, "ada"), 2)
        assert [later for _, later in everything] == sorted({later for _, later in everything})
