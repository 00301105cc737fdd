"""What calls a function or a saved workflow by itself, in a notebook: options, a table, and the part of a handle.

Wrong words are refused before anything is deployed. Not here: what a trigger may be (``triggers`` of the core).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ropewalk_core import sync
from ropewalk_core.client import TriggersClient
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Trigger, TriggerSpec
from ropewalk_core.triggers import wishes
from ropewalk_core.triggers.words import coming, said, standing
from ropewalk_core.wrong import wrong
from ropewalk_kernel import cards, live
from ropewalk_kernel.spawned import SpawnedCall

_BESIDE = {"every": ("zone",), "after": ("when",), "on_file": ("existing",)}
OPTIONS = frozenset({"triggers", *_BESIDE, *(one for several in _BESIDE.values() for one in several)})


def wished(options: Mapping[str, Any]) -> tuple[TriggerSpec, ...] | None:
    """Return the triggers that options of a deploy name; None if they say nothing of any.

    Raises
    ------
    BadInput
        If one of them cannot be meant.
    """
    given = {key: value for key, value in options.items() if key in OPTIONS and value is not None}
    if not given:
        return None
    found = [_spec(one) for one in _several(given.get("triggers", ()))]
    for word, beside in _BESIDE.items():
        more = {key: given[key] for key in beside if key in given}
        if more and word not in given:
            [first] = more
            raise BadInput(f"'{first}' says nothing without {word}.", field=first, hint=f"Leave out {first}.")
        found += [_spec({word: one, **more}) for one in _several(given.get(word, ()))]
    return tuple(found)


def choose(name: str, specs: Sequence[TriggerSpec], kind: str = "function") -> str:
    """Have these triggers and no others, and return in words when a function or ``workflow`` is called."""
    kept = sync.wait(_port(kind).choose(name, specs)).items
    return " and ".join(said(one.spec) for one in kept)


def _port(kind: str) -> TriggersClient:
    client = sync.client()
    return client.triggers if kind == "function" else client.saved_triggers


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _spec(given: Any) -> TriggerSpec:
    if not isinstance(given, Mapping | TriggerSpec):
        hint = 'Write {"every": "@hourly"}, {"after": "other"} or {"on_file": "inbox/*.csv"}.'
        raise BadInput(f"{given!r:.60} is no trigger.", field="triggers", hint=hint)
    try:
        spec = given if isinstance(given, TriggerSpec) else TriggerSpec.model_validate(dict(given))
    except ValidationError as error:
        raise wrong(error.errors()) from error
    return wishes.checked(spec, time.time())


class Triggers(cards.Pictured):
    """The triggers of a function or a saved workflow, as a table; iterate over it for `Trigger`."""

    def __init__(self, name: str, items: tuple[Trigger, ...]) -> None:
        self.name, self.items = name, items

    def __iter__(self) -> Iterator[Trigger]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Trigger:
        return self.items[place]

    def _picture(self) -> cards.Picture:
        rows = [
            (
                one.id,
                said(one.spec),
                coming(one),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.fired)) if one.fired else "",
                f"{standing(one)}: {one.why.cause}" if one.why else standing(one),
                one.call,
            )
            for one in self.items
        ]
        empty = 'No triggers. .add_trigger(every="@hourly") makes one.'
        head = ("trigger", "fires", "next", "last", "state", "made")
        return cards.listing(f"triggers of {self.name}", head, rows, empty=empty)


class Triggered:
    """The part of a handle that is about what calls it by itself."""

    name: str
    _kind = "function"

    def triggers(self) -> Triggers:
        """Return what calls it by itself, with when that comes next and what came of it last.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.triggers()
        """
        return Triggers(self.name, sync.wait(_port(self._kind).list(self.name)).items)

    def add_trigger(
        self,
        *,
        every: str = "",
        zone: str = "UTC",
        after: str = "",
        when: str = "success",
        on_file: str = "",
        existing: bool = False,
    ) -> Trigger:
        """Have it called by itself: say one of ``every``, ``after`` and ``on_file``. Each firing is a call or a run.

        Parameters
        ----------
        every
            A schedule in cron's five fields, or ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``.
        zone
            The schedule's time zone, such as ``Europe/Athens``.
        after
            A function of yours whose calls fire it as they end, or ``workflow:NAME``.
        when
            After which ends: ``success``, ``failure`` or ``always``.
        on_file
            A folder of your files and a pattern, such as ``inbox/*.csv``: each new file fires it once it is whole.
        existing
            Whether files that are there already count as new.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> trigger = double.add_trigger(every="0 2 * * mon-fri", zone="Europe/Athens")
        >>> double.remove_trigger(trigger.id)
        """
        given = {"every": every, "zone": zone, "after": after, "when": when, "on_file": on_file, "existing": existing}
        made = sync.wait(_port(self._kind).add(self.name, _spec(given)))
        then = f"; next {coming(made)}" if made.next else ""
        live.show(cards.notice(f"{self._kind} {self.name} is called {said(made.spec)}{then}; trigger {made.id}"))
        return made

    def remove_trigger(self, trigger: str) -> None:
        """Remove a trigger; calls that it made go on."""
        sync.wait(_port(self._kind).remove(self.name, trigger))
        live.show(cards.notice(f"{self._kind} {self.name}: trigger {trigger} is removed"))

    def pause_trigger(self, trigger: str) -> None:
        """Pause a trigger; what happens meanwhile fires nothing."""
        sync.wait(_port(self._kind).pause(self.name, trigger))
        live.show(cards.notice(f"{self._kind} {self.name}: trigger {trigger} is paused"))

    def resume_trigger(self, trigger: str) -> None:
        """Resume a trigger that was paused, from now on."""
        sync.wait(_port(self._kind).resume(self.name, trigger))
        live.show(cards.notice(f"{self._kind} {self.name}: trigger {trigger} is resumed"))

    def fire_trigger(self, trigger: str) -> Any:
        """Make the durable call, or the run, that a trigger would make, now, and return its handle.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> for trigger in double.triggers():
        ...     print(double.fire_trigger(trigger.id).result())
        """
        return self._fired(sync.wait(_port(self._kind).fire(self.name, trigger)))

    def _fired(self, made: Any) -> Any:
        return SpawnedCall(made)
