"""Triggers over REST: what calls the person's functions, or launches their saved workflows, by itself."""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk_core.client.nouns import Resource, read
from ropewalk_core.flows import Run
from ropewalk_core.model import DurableCall, Page, Trigger, TriggerSpec


class TriggersClient(Resource):
    """The triggers of the person's functions."""

    noun = "functions"

    async def list(self, function: str, *, owner: str = "") -> Page[Trigger]:
        """Return the triggers of a function, oldest first."""
        return await self._page(Trigger, await self._path(owner, function, "triggers"))

    async def add(self, function: str, spec: TriggerSpec, *, owner: str = "") -> Trigger:
        """Make a trigger; one that is there already is returned as it is."""
        body = spec.model_dump(mode="json")
        return await self._send(Trigger, "POST", await self._path(owner, function, "triggers"), body)

    async def choose(self, function: str, specs: Sequence[TriggerSpec], *, owner: str = "") -> Page[Trigger]:
        """Have these triggers and no others."""
        body = {"triggers": [one.model_dump(mode="json") for one in specs]}
        path = await self._path(owner, function, "triggers")
        return read(Page[Trigger], (await self._wire.request("PUT", path, body=body)).content)

    async def remove(self, function: str, trigger: str, *, owner: str = "") -> Trigger:
        """Remove a trigger; calls that it made go on."""
        return await self._send(Trigger, "DELETE", await self._path(owner, function, "triggers", trigger))

    async def pause(self, function: str, trigger: str, *, owner: str = "") -> Trigger:
        """Pause a trigger; what happens meanwhile fires nothing."""
        return await self._send(Trigger, "POST", await self._path(owner, function, "triggers", trigger, "pause"))

    async def resume(self, function: str, trigger: str, *, owner: str = "") -> Trigger:
        """Resume a trigger that was paused, from now on."""
        return await self._send(Trigger, "POST", await self._path(owner, function, "triggers", trigger, "resume"))

    async def fire(self, function: str, trigger: str, *, key: str = "", owner: str = "") -> DurableCall:
        """Make the call that the trigger would make, now; the same key again returns the call that it made."""
        path = await self._path(owner, function, "triggers", trigger, "fire")
        return await self._send(DurableCall, "POST", path, key=key)


class SavedTriggersClient(TriggersClient):
    """The triggers of the person's saved workflows."""

    noun = "saved-workflows"

    async def fire(  # type: ignore[override]  # a workflow is launched, a function called
        self, function: str, trigger: str, *, key: str = "", owner: str = ""
    ) -> Run:
        """Start the run that it would start, now; the same key again returns the run that it made."""
        return await self._send(Run, "POST", await self._path(owner, function, "triggers", trigger, "fire"), key=key)
