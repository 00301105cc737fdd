"""The desk of the triggers of one kind: adds, lists, removes, pauses and fires them by hand. The `Triggers` port.

The same on every backend; what looks into folders is the backend's own, and where there is none a trigger by file is
refused. What waits for its occasion runs in the ``house``. Not here: what a trigger may be (``wishes``), what makes it
fire (``occasions``), and making calls (``firing``). Rejected: triggers as a part of the function; a deploy that is
still under way would write back what its owner took away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk_core.errors import BadInput, NotFound, RopewalkError
from ropewalk_core.journal import Operation
from ropewalk_core.model import Actor, Page, Trigger, TriggerSpec, Why
from ropewalk_core.names import new_id
from ropewalk_core.triggers import occasions, records, wishes
from ropewalk_core.triggers.book import Key
from ropewalk_core.triggers.firing import Made
from ropewalk_core.triggers.house import Target, TriggerHouse
from ropewalk_core.triggers.occasions import Firing
from ropewalk_core.triggers.watching import found

_APART = 1e-6
"""Seconds between triggers that are made together, so that they are listed as they were named."""


class TriggerDesk:
    """Keeps the triggers of one kind of target.

    Parameters
    ----------
    house
        All triggers of the home.
    kind
        What they call: ``function`` or ``workflow``.
    """

    def __init__(self, house: TriggerHouse, kind: str) -> None:
        self._house, self._kind = house, kind
        self._limits, self._clock, self._look = house.limits, house.clock, house.look
        self._book, self._firer, self._ends = house.book, house.firer, house.ends

    @property
    def _target(self) -> Target:
        return self._house.targets[self._kind]

    # The port

    async def list(self, actor: Actor, owner: str, function: str) -> Page[Trigger]:
        """See `Triggers.list`."""
        self._found(owner, function)
        return Page(items=tuple(self._shown(one) for one in self._book.of(owner, self._kind, function)))

    async def add(self, actor: Actor, owner: str, function: str, spec: TriggerSpec) -> Trigger:
        """See `Triggers.add`."""
        async with self._house.lock(owner):
            spec = self._checked(owner, function, spec)
            have = self._book.of(owner, self._kind, function)
            known = next((one for one in have if wishes.same(one.spec, spec)), None)
            if known is None:
                [known] = await self._exchange(owner, function, (), [spec])
        return self._shown(known)

    async def choose(self, actor: Actor, owner: str, function: str, specs: Sequence[TriggerSpec]) -> Page[Trigger]:
        """See `Triggers.choose`."""
        async with self._house.lock(owner):
            self._found(owner, function)
            wanted = [self._checked(owner, function, one) for one in specs]
            gone, new = wishes.changes(self._book.of(owner, self._kind, function), wanted)
            await self._exchange(owner, function, gone, new)
        return await self.list(actor, owner, function)

    async def remove(self, actor: Actor, owner: str, function: str, trigger: str) -> Trigger:
        """See `Triggers.remove`."""
        one = self._one(owner, function, trigger)
        await self._book.replace([_key(one)], ())
        return self._shown(one)

    async def pause(self, actor: Actor, owner: str, function: str, trigger: str, paused: bool) -> Trigger:
        """See `Triggers.pause`."""
        one = self._one(owner, function, trigger)
        if one.paused == paused:
            return self._shown(one)
        also: list[Operation] = []
        if not paused and one.spec.on_file:
            also.append(records.there(*_key(one), await self._there(owner, one)))
        begun = {"paused": paused, "why": None} | ({} if paused else {"settled": self._clock.wall()})
        changed = await self._book.change(_key(one), lambda seen: seen.model_copy(update=begun), lambda: also)
        if changed is None:
            raise self._gone(function)
        self._firer.poke()
        return self._shown(changed)

    async def fire(self, actor: Actor, owner: str, function: str, trigger: str, *, key: str = "") -> Made:
        """See `Triggers.fire`."""
        one = self._one(owner, function, trigger)
        occasion = occasions.by_hand(one, key or new_id("hand"), self._clock.wall(), await self._facts(owner, one))
        [made] = await self._target.fire([Firing(one, occasion)])
        if isinstance(made, RopewalkError):
            raise made
        fired = {"fired": self._clock.wall(), "call": made.id, "why": None}

        def noted(seen: Trigger) -> Trigger:
            again = seen.call == made.id  # the same key, because its answer was lost
            return seen if again else seen.model_copy(update={"fires": seen.fires + 1, **fired})

        await self._book.change(_key(one), noted)
        return made

    # Adding

    async def _exchange(
        self, owner: str, function: str, gone: Sequence[Trigger], specs: Sequence[TriggerSpec]
    ) -> Sequence[Trigger]:
        """Remove triggers and make others; all of it, or nothing."""
        self._check_room(owner, function, len(specs) - len(gone))
        now = self._clock.wall()
        made = [self._made(owner, function, spec, now, number) for number, spec in enumerate(specs)]
        also: list[Operation] = []
        for one in made:
            if one.spec.on_file and not one.spec.existing:
                also.append(records.there(*_key(one), await self._there(owner, one)))
            if one.spec.after.startswith(f"{wishes.WORKFLOW}:"):
                also += self._ends.placing()
        if gone or made:
            await self._book.replace([_key(one) for one in gone], made, also)
        if made and not self._target.there(owner, function):  # removed while its folder was looked through, say
            await self._book.replace([_key(one) for one in made], ())
            self._found(owner, function)
        self._ends.followed()
        self._firer.poke()
        return made

    def _checked(self, owner: str, function: str, spec: TriggerSpec) -> TriggerSpec:
        """Return a wish as it is kept, or raise what is wrong with it."""
        self._found(owner, function)
        spec = wishes.checked(spec, self._clock.wall())
        self._target.check(owner, function, spec)
        kind, _, name = spec.after.partition(":")
        if kind == wishes.FUNCTION and not self._house.there(kind, owner, name):
            raise NotFound.named("functions", f"There is no function '{name[:60]}' to come after.", field="after")
        if spec.on_file and self._look is None:
            raise BadInput(
                "On a cluster no file fires anything yet.",
                field="on_file",
                hint=f"Use a schedule, and look into the folder from the {self._kind}.",
            )
        return spec

    def _check_room(self, owner: str, function: str, more: int) -> None:
        if more <= 0:
            return
        each, all_of_them = self._limits.triggers_each, self._limits.triggers
        if len(self._book.of(owner, self._kind, function)) + more > each:
            hint = f"`ropewalk {self._kind}s trigger list {function}` lists them; remove one that is not needed."
            raise BadInput(f"'{function}' may have {each} triggers.", field="limits.triggers_each", hint=hint)
        if self._book.count(owner) + more > all_of_them:
            hint = "Remove triggers of your functions and workflows that are not needed."
            raise BadInput(f"You may have {all_of_them} triggers.", field="limits.triggers", hint=hint)

    async def _there(self, owner: str, trigger: Trigger) -> dict[str, str]:
        """Return the files that are there already; none where the folder is yet to come."""
        if self._look is None:
            return {}
        try:
            return await found(self._look, owner, trigger, self._limits.trigger_entries)
        except NotFound:
            return {}

    async def _facts(self, owner: str, trigger: Trigger) -> Mapping[str, Any]:
        """Return what a call by hand is told: of a file that fits, the one that was changed last."""
        if not trigger.spec.on_file:
            return occasions.sample(trigger)
        there = await self._there(owner, trigger)
        if not there:
            hint = "Put a file there, then fire it again."
            raise NotFound(f"No file fits {trigger.spec.on_file}.", field="on_file", hint=hint)
        name = max(there, key=lambda one: float(there[one].partition(":")[2]))
        folder = wishes.place(trigger.spec.on_file)[0]
        return occasions.arrived(f"{folder}/{name}" if folder else name, there[name]).facts

    # Small things

    def _shown(self, trigger: Trigger) -> Trigger:
        """Return a trigger with what is known of it now."""
        now = self._clock.wall()
        return trigger.model_copy(
            update={
                "next": occasions.comes_next(trigger, now),
                "outcome": self._target.outcome(trigger.owner, trigger.call) if trigger.call else None,
                "why": trigger.why or self._widowed(trigger),
            }
        )

    def _widowed(self, trigger: Trigger) -> Why | None:
        """Return why a trigger never fires that comes after a function which was removed; None if it may."""
        kind, _, name = trigger.spec.after.partition(":")
        if kind != wishes.FUNCTION or self._house.there(kind, trigger.owner, name):
            return None
        hint = f"Deploy '{name}' again, or remove this trigger."
        return Why(cause=f"It comes after '{name}', which was removed.", next=hint, code=NotFound.code)

    def _found(self, owner: str, function: str) -> None:
        if not self._target.there(owner, function):
            what = "function" if self._kind == wishes.FUNCTION else "saved workflow"
            raise NotFound.named(f"{self._kind}s", f"There is no {what} '{function[:60]}'.", field="name")

    def _one(self, owner: str, function: str, identifier: str) -> Trigger:
        found_one = self._book.get((owner, records.key_of(self._kind, function, identifier)))
        if found_one is None:
            raise self._gone(function)
        return found_one

    def _gone(self, function: str) -> NotFound:
        hint = f"`ropewalk {self._kind}s trigger list {function[:60]}` lists them."
        return NotFound(f"'{function[:60]}' has no such trigger.", field="trigger", hint=hint)

    def _made(self, owner: str, name: str, spec: TriggerSpec, now: float, number: int) -> Trigger:
        facts = {"id": new_id("t"), "owner": owner, "kind": self._kind, "name": name, "spec": spec}
        return Trigger.model_validate({**facts, "created": now + number * _APART, "settled": now})


def _key(trigger: Trigger) -> Key:
    return trigger.owner, records.name_of(trigger)
