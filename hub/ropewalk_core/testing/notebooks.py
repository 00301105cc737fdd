"""What any backend of notebooks must do. Not here: that JupyterLab works (the tour sees that)."""

from __future__ import annotations

import pytest

from ropewalk_core.errors import NotFound, Unsatisfiable
from ropewalk_core.guard import GuardedNotebooks
from ropewalk_core.model import State
from ropewalk_core.placement import Placement
from ropewalk_core.ports import Notebooks
from ropewalk_core.testing.people import ADA, BOB, EVE, until


class NotebooksContract:
    """Subclass it and override the fixture ``port``; Ada may start a server there."""

    seconds = 60.0

    @pytest.fixture
    def port(self) -> Notebooks:
        """Return the backend, without its guard."""
        raise NotImplementedError

    @pytest.fixture
    def notebooks(self, port: Notebooks) -> GuardedNotebooks:
        """Return the backend behind policy."""
        return GuardedNotebooks(port)

    async def test_one_that_never_ran_is_stopped(self, notebooks: GuardedNotebooks) -> None:
        """Asking costs nothing and starts nothing."""
        assert (await notebooks.get(ADA, "ada")).status.state is State.STOPPED

    async def test_stopping_a_stopped_one_is_done_already(self, notebooks: GuardedNotebooks) -> None:
        """Stopping is idempotent."""
        assert (await notebooks.stop(ADA, "ada")).status.state in (State.STOPPED, State.STOPPING)

    async def test_it_starts_and_stops(self, notebooks: GuardedNotebooks) -> None:
        """Starting twice is starting once; a running one has an address; a stopped one is stopped."""
        first = await notebooks.start(ADA, "ada")
        again = await notebooks.start(ADA, "ada")
        assert {first.status.state, again.status.state} <= {
            State.ASKED,
            State.WAITING,
            State.STARTING,
            State.RUNNING,
            State.IDLE,
        }
        await self.reaches(notebooks, State.RUNNING, State.IDLE)
        assert (await notebooks.get(ADA, "ada")).address
        assert len((await notebooks.list(ADA, "ada")).items) == 1
        await notebooks.stop(ADA, "ada")
        await self.reaches(notebooks, State.STOPPED)

    async def reaches(self, notebooks: GuardedNotebooks, *states: State) -> None:
        """Wait until Ada's server is in one of the states."""

        async def there() -> bool:
            seen = await notebooks.get(ADA, "ada")
            assert seen.status.state is not State.FAILED, seen.status.why
            return seen.status.state in states

        await until(there, seconds=self.seconds)

    async def test_somebody_elses_is_not_found(self, notebooks: GuardedNotebooks) -> None:
        """A stranger learns nothing; an administrator sees it and starts nothing."""
        for act in (notebooks.get, notebooks.start, notebooks.stop):
            with pytest.raises(NotFound):
                await act(BOB, "ada")
        assert (await notebooks.get(EVE, "ada")).owner == "ada"

    async def test_what_no_machine_has_is_refused(self, notebooks: GuardedNotebooks) -> None:
        """An impossible placement is refused at once."""
        with pytest.raises(Unsatisfiable):
            await notebooks.start(ADA, "ada", placement=Placement(accelerator=("npu",)))
        assert (await notebooks.get(ADA, "ada")).status.state is State.STOPPED
