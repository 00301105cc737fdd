"""Triggers and durable calls on a real journal, with time and folders in the test's hands, and kills at any moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ropewalk_core import settings as settings_module
from ropewalk_core.durable import DurableDesk, Report, shelves
from ropewalk_core.errors import NotFound, RopewalkError, TooLarge
from ropewalk_core.journal import Journal
from ropewalk_core.model import (
    Bundle,
    DurableCall,
    FileEntry,
    FunctionRoute,
    FunctionSpec,
    Page,
    Trigger,
    TriggerSpec,
)
from ropewalk_core.testing import ADA
from ropewalk_core.triggers.desk import TriggerDesk
from ropewalk_core.triggers.house import TriggerHouse
from ropewalk_core.triggers.occasions import Firing
from ropewalk_hub import triggers as between
from tests.clock import Hands


class Killed(BaseException):
    """The platform was killed right here."""


class House:
    """The two desks, and the next ones on the same journal after a kill."""

    def __init__(self, home: Path, **limits: Any) -> None:
        base = settings_module.load(home, environ={})
        self.settings = replace(base, limits=replace(base.limits, **limits))
        self.home, self.clock = home, Hands()
        self.functions = {"f", "g"}
        self.form = "python"
        self.files: dict[str, tuple[int, float]] = {}
        """By path: size, and when it was changed."""
        self.asleep: set[str] = set()
        self.dies = False
        self.refuses: RopewalkError | None = None
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.home / "journal.db", now=self.clock.wall)
        target = between.functions(self.route, lambda: self.durable, self.journal)
        self.house = TriggerHouse(
            self.settings,
            self.journal,
            self.clock,
            [replace(target, fire=self.fire)],
            active=lambda owner: owner not in self.asleep,
            look=self.look,
        )
        self.triggers = TriggerDesk(self.house, "function")
        self.durable = DurableDesk(
            self.settings,
            self.journal,
            self.clock,
            route=self.route,
            active=lambda owner: owner not in self.asleep,
            followers=self.house,
        )

    def kill(self) -> None:
        """What a kill of the platform leaves, and the next platform."""
        self.journal.close()
        self.open()

    def route(self, owner: str, name: str) -> FunctionRoute | None:
        if name not in self.functions:
            return None
        bundle = Bundle.model_validate({"files": {}, "entry": "cell:handler", "form": self.form})
        spec = FunctionSpec(name=name, bundle=bundle, max_workers=64, retries=0)
        return FunctionRoute(owner=owner, name=name, revision="r", spec=spec)

    async def fire(self, firings: Sequence[Firing]) -> Sequence[DurableCall | RopewalkError]:
        if self.refuses is not None:
            return [self.refuses for _ in firings]
        made = await between.fire(self.durable, firings)
        if self.dies:
            raise Killed
        return made

    async def look(self, owner: str, folder: str, pattern: str, most: int) -> Sequence[FileEntry]:
        inside = {path: seen for path, seen in self.files.items() if path.rpartition("/")[0] == folder}
        if folder == "missing":
            raise NotFound("There is no such folder.", field="path")
        if len(inside) > most:
            raise TooLarge("There are too many.", field="limits.trigger_entries")
        return [FileEntry(path=path, kind="file", size=size, modified=at) for path, (size, at) in inside.items()]

    # What tests do

    async def add(self, function: str = "f", owner: str = "ada", **spec: Any) -> Trigger:
        return await self.triggers.add(ADA, owner, function, TriggerSpec.model_validate(spec))

    async def get(self, function: str = "f", owner: str = "ada") -> Trigger:
        [one] = (await self.triggers.list(ADA, owner, function)).items
        return one

    async def steps(self) -> None:
        """Do all that is to be done now."""
        while await self.house.firer.step():
            pass

    async def looks(self, times: int = 1) -> None:
        """Look into folders as often, some time apart."""
        assert self.house.files is not None
        for _ in range(times):
            self.clock.now += 6.0
            while await self.house.files.step():
                pass

    async def runs(self) -> None:
        """Read what is new in the history of runs."""
        while await self.house.ends.step():
            pass

    async def calls(self, function: str = "f", owner: str = "ada") -> list[DurableCall]:
        """Return the durable calls of a function, oldest first."""
        found: list[DurableCall] = []
        after = ""
        while True:
            page: Page[DurableCall] = await self.durable.list(ADA, owner, function, after=after, limit=200)
            found += page.items
            if not (after := page.next):
                return found[::-1]

    def told(self, call: DurableCall) -> dict[str, Any]:
        """Return what a call that has not ended was told."""
        record = self.journal.get(shelves.INPUT, call.owner, call.id)
        assert record is not None
        facts: dict[str, Any] = json.loads(shelves.unpacked(record.body))
        return facts

    async def carry(self, body: bytes = b"42", problem: dict[str, Any] | None = None, only: str = "") -> list[str]:
        """Carry what is open as the gateway does, once; or only one function's."""
        await self.durable._reconcile("life", frozenset())
        work = await self.durable._begin("life", 200)  # `take` would wait for more, and time stands still
        mine = [one for one in work if not only or one.function == only]
        reports = [
            Report(
                id=one.id,
                attempt=one.attempt,
                owner=one.owner,
                body=body,
                content_type="application/json",
                problem=problem,
            )
            for one in mine
        ]
        await self.durable.report(reports)
        return [one.id for one in mine]
