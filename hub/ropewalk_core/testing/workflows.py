"""What any engine of workflows must do. Not here: what a manifest may say (the engine's own tests)."""

from __future__ import annotations

import pytest

from ropewalk_core.errors import BadWorkflow, Conflict, NotFound
from ropewalk_core.flows import Run, RunSpec
from ropewalk_core.guard_flows import GuardedWorkflows
from ropewalk_core.model import State
from ropewalk_core.ports import Workflows
from ropewalk_core.testing.people import ADA, BOB, take, until


class WorkflowsContract:
    """Subclass it and override the fixtures ``port``, ``quick`` and ``slow``."""

    seconds = 40.0

    @pytest.fixture
    def port(self) -> Workflows:
        """Return the backend, without its guard; its engine runs."""
        raise NotImplementedError

    @pytest.fixture
    def workflows(self, port: Workflows) -> GuardedWorkflows:
        """Return the backend behind policy."""
        return GuardedWorkflows(port)

    @pytest.fixture
    def quick(self) -> RunSpec:
        """Return a workflow of two or more steps that is done in a moment and writes to its logs."""
        raise NotImplementedError

    @pytest.fixture
    def slow(self) -> RunSpec:
        """Return a workflow that runs for a minute if nobody stops it."""
        raise NotImplementedError

    async def ended(self, workflows: GuardedWorkflows, run: Run) -> Run:
        """Return the run when it has ended."""

        async def over() -> bool:
            return (await workflows.get(ADA, "ada", run.id)).status.state.terminal

        await until(over, seconds=self.seconds)
        return await workflows.get(ADA, "ada", run.id)

    async def test_a_run_is_done(self, workflows: GuardedWorkflows, quick: RunSpec) -> None:
        """An accepted run is seen at once, and ends with all its steps done."""
        asked = await workflows.submit(ADA, "ada", quick)
        assert (await workflows.get(ADA, "ada", asked.id)).name == quick.name
        run = await self.ended(workflows, asked)
        assert run.status.state is State.DONE, run.status.why
        assert len(run.steps) >= 2 and all(one.status.state is State.DONE for one in run.steps)
        assert run.ended is not None

    async def test_the_same_key_is_the_same_run(self, workflows: GuardedWorkflows, quick: RunSpec) -> None:
        """A submission that is repeated with its key starts nothing new; another key does."""
        first = await workflows.submit(ADA, "ada", quick, key="k1")
        again = await workflows.submit(ADA, "ada", quick, key="k1")
        other = await workflows.submit(ADA, "ada", quick, key="k2")
        assert again.id == first.id != other.id

    async def test_logs_come_back(self, workflows: GuardedWorkflows, quick: RunSpec) -> None:
        """A finished step's log can be read, and read on from the middle."""
        run = await self.ended(workflows, await workflows.submit(ADA, "ada", quick))
        for step in run.steps:
            lines = [line async for line in workflows.logs(ADA, "ada", run.id, step.id)]
            if len(lines) >= 2:
                after = lines[0].offset
                rest = [line async for line in workflows.logs(ADA, "ada", run.id, step.id, after=after)]
                assert [line.text for line in rest] == [line.text for line in lines[1:]]
                return
        raise AssertionError("no step wrote two lines")

    async def test_a_run_can_be_cancelled(self, workflows: GuardedWorkflows, slow: RunSpec) -> None:
        """Cancelling ends a run; cancelling again, or a finished one, is done already."""
        run = await workflows.submit(ADA, "ada", slow)
        await workflows.cancel(ADA, "ada", run.id)
        ended = await self.ended(workflows, run)
        assert ended.status.state is State.STOPPED
        assert (await workflows.cancel(ADA, "ada", run.id)).status.state is State.STOPPED

    async def test_a_run_is_suspended_and_resumed(
        self, workflows: GuardedWorkflows, quick: RunSpec, slow: RunSpec
    ) -> None:
        """Suspended, a run says so until its owner resumes it, and then it ends; one that has ended is neither."""
        run = await workflows.submit(ADA, "ada", quick)
        going = await workflows.submit(ADA, "ada", slow)
        for one in (run, going):
            assert (await workflows.suspend(ADA, "ada", one.id)).suspended
            assert (await workflows.get(ADA, "ada", one.id)).suspended
        for act in (workflows.suspend, workflows.resume):
            with pytest.raises(NotFound):
                await act(BOB, "ada", run.id)
        assert not (await workflows.resume(ADA, "ada", run.id)).suspended
        assert (await self.ended(workflows, run)).status.state is State.DONE
        await workflows.cancel(ADA, "ada", going.id)
        assert (await self.ended(workflows, going)).status.state is State.STOPPED
        for one in (run, going):
            for act in (workflows.suspend, workflows.resume):
                with pytest.raises(Conflict):
                    await act(ADA, "ada", one.id)

    async def test_what_is_checked_is_not_kept(self, workflows: GuardedWorkflows, quick: RunSpec) -> None:
        """A wish can be looked at before it is made."""
        await workflows.check(ADA, "ada", quick)
        broken = {**quick.manifest, "spec": {**quick.manifest["spec"], "entrypoint": "nowhere"}}
        with pytest.raises(BadWorkflow, match="nowhere"):
            await workflows.check(ADA, "ada", quick.model_copy(update={"manifest": broken}))
        assert (await workflows.list(ADA, "ada")).items == ()

    async def test_what_has_ended_can_be_removed(
        self, workflows: GuardedWorkflows, quick: RunSpec, slow: RunSpec
    ) -> None:
        """A run is forgotten with all its steps, once it has ended; the same wish is a new run then."""
        going = await workflows.submit(ADA, "ada", slow)
        with pytest.raises(Conflict):
            await workflows.remove(ADA, "ada", going.id)
        run = await self.ended(workflows, await workflows.submit(ADA, "ada", quick, key="again"))
        with pytest.raises(NotFound):
            await workflows.remove(BOB, "ada", run.id)
        assert (await workflows.remove(ADA, "ada", run.id)).id == run.id
        assert [one.id for one in (await workflows.list(ADA, "ada")).items] == [going.id]
        for act in (workflows.get, workflows.retry, workflows.remove):
            with pytest.raises(NotFound):
                await act(ADA, "ada", run.id)
        with pytest.raises(NotFound):
            [one async for one in workflows.logs(ADA, "ada", run.id, run.steps[0].id)]
        [(seen, _)] = await take(workflows.watch(ADA, "ada"), 1)  # past the events of what is gone
        assert seen.id == going.id
        assert (await workflows.submit(ADA, "ada", quick, key="again")).id != run.id
        await workflows.cancel(ADA, "ada", going.id)

    async def test_somebody_elses_is_not_found(self, workflows: GuardedWorkflows, quick: RunSpec) -> None:
        """A stranger learns nothing and stops nothing."""
        run = await workflows.submit(ADA, "ada", quick)
        for act in (workflows.get, workflows.cancel, workflows.retry):
            with pytest.raises(NotFound):
                await act(BOB, "ada", run.id)
            with pytest.raises(NotFound):
                await act(BOB, "bob", run.id)

    async def test_runs_of_one_workflow_are_compared(self, workflows: GuardedWorkflows, quick: RunSpec) -> None:
        """All runs of a name are there with what they were given, for their owner alone."""
        spec = quick.model_copy(update={"arguments": {"rate": 0.5}})
        first = await self.ended(workflows, await workflows.submit(ADA, "ada", spec, key="1"))
        second = await workflows.submit(ADA, "ada", spec, key="2")
        found = await workflows.compare(ADA, "ada", quick.name)
        assert [one.run for one in found.rows] == [second.id, first.id] and not found.more
        assert found.rows[1].parameters == {"rate": 0.5} and found.rows[1].metrics["seconds"] > 0
        latest = await workflows.compare(ADA, "ada", quick.name, limit=1)
        assert [one.run for one in latest.rows] == [second.id] and latest.more
        for actor, owner, name in ((BOB, "ada", quick.name), (BOB, "bob", quick.name), (ADA, "ada", "nothing")):
            with pytest.raises(NotFound):
                await workflows.compare(actor, owner, name)

    async def test_lists_have_pages_newest_first(self, workflows: GuardedWorkflows, quick: RunSpec) -> None:
        """Pages follow each other, newest first, without steps."""
        asked = [(await workflows.submit(ADA, "ada", quick, key=key)).id for key in ("1", "2", "3")]
        first = await workflows.list(ADA, "ada", limit=2)
        rest = await workflows.list(ADA, "ada", after=first.next, limit=2)
        assert [one.id for one in (*first.items, *rest.items)] == asked[::-1]
        assert all(one.steps == () for one in first.items)
        assert first.next and not rest.next

    async def test_the_unknown_is_not_found(self, workflows: GuardedWorkflows) -> None:
        """Nothing is made up."""
        for act in (workflows.get, workflows.cancel, workflows.retry):
            with pytest.raises(NotFound):
                await act(ADA, "ada", "run-0000000000")

    async def test_a_watch_resumes_after_its_cursor(self, workflows: GuardedWorkflows, quick: RunSpec) -> None:
        """Whoever comes back with a cursor sees the run's end, and nothing twice."""
        run = await workflows.submit(ADA, "ada", quick)
        [(_, cursor)] = await take(workflows.watch(ADA, "ada", run=run.id), 1)
        async for seen, later in workflows.watch(ADA, "ada", run=run.id, after=cursor):
            assert later > cursor and seen.id == run.id
            cursor = later
            if seen.status.state.terminal:
                break
        assert (await workflows.get(ADA, "ada", run.id)).status.state is State.DONE
