"""FunctionCarrier: brings what was accepted of functions to the API server.

Objects are applied under names that follow from the revision, so a wish that is carried out twice after a kill changes
nothing. Not here: which
wish is open (``intents.py``), what the objects are (``function_objects.py``), what goes (``function_tidy.py``), what
becomes of a revision (``function_judge.py``). Rejected: creating instead of
applying, which would leave half of a revision that a kill cut off.
"""

from __future__ import annotations

from collections.abc import Iterable

from ropewalk_core import history
from ropewalk_core.errors import RopewalkError
from ropewalk_core.functions import find, function_of
from ropewalk_core.journal import Operation
from ropewalk_core.kube.function_judge import FunctionJudge
from ropewalk_core.kube.function_ledger import WHAT, FunctionLedger, Next
from ropewalk_core.kube.function_objects import KNATIVE, Place, clearer, code, packed
from ropewalk_core.kube.function_tidy import remove, tidy
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.intents import Intent
from ropewalk_core.kube.kinds import CONFIG_MAP, DEPLOYMENT, KNATIVE_SERVICE, SERVICE, Kind, Object
from ropewalk_core.kube.volumes import ensure_files
from ropewalk_core.model import Bundle


class FunctionCarrier:
    """Carries out the open wishes about functions.

    Parameters
    ----------
    ground
        What every port on a cluster is built on; its intents are told that we carry these.
    ledger, judge
        What is wished; who follows what was applied.
    """

    def __init__(self, ground: KubeGround, ledger: FunctionLedger, judge: FunctionJudge) -> None:
        self._settings, self._api, self._space = ground.settings, ground.api, ground.space
        self._intents, self._journal = ground.intents, ground.journal
        self._ledger, self._judge = ledger, judge
        self._intents.carried_by(WHAT, self._carry, self._refused)

    async def _carry(self, intent: Intent) -> Iterable[Operation]:
        """Bring a wish to the API server."""
        key = (intent.owner, intent.name)
        if intent.wish["do"] == "deploy":
            tried = self._ledger.next(*key)
            if tried is not None and tried.function.revision.id == intent.wish["revision"]:
                async with self._ledger.hands(*key):
                    await self._apply(tried)
                now = self._ledger.next(*key)
                if now is not None and now.version == tried.version:  # one accepted meanwhile is not in the cluster yet
                    self._judge.follow(key)
            return ()
        namespace = intent.wish["namespace"] or await self._space(intent.owner)
        at = self._ledger.at(*key)
        generation = 0
        if at is None:
            await remove(self._api, KNATIVE_SERVICE, Place(*key, "", namespace).service, namespace)
        elif at.body["how"] == KNATIVE:
            applied = [await self._api.apply(KNATIVE_SERVICE, one, force=True) for one in at.body["objects"]]
            generation = int(applied[0]["metadata"]["generation"])
        await tidy(self._api, self._ledger, key, namespace)
        self._ledger.ended(*key)
        return self._ledger.put_right(at, generation) if at is not None and generation else ()

    async def _refused(self, intent: Intent, error: RopewalkError) -> Iterable[Operation]:
        """Say what becomes of a wish that the API server will never take."""
        tried = self._ledger.next(intent.owner, intent.name)
        if intent.wish["do"] != "deploy" or tried is None or tried.function.revision.id != intent.wish["revision"]:
            return ()
        self._intents.hurry(WHAT, intent.owner, intent.name)
        return self._ledger.failed(tried, clearer(error))

    async def _apply(self, tried: Next) -> None:
        await ensure_files(self._api, tried.namespace, self._settings)
        if not tried.split:
            await self._bring(tried.place, tried.function.revision.spec.bundle, tried.objects)
        numbers = {one.revision: one.number for one in tried.function.traffic.shares}
        for place in self._ledger.fresh(tried):
            function = function_of(find(self._journal, place.owner, place.name))
            chosen = history.find(self._journal, function, numbers[place.revision])
            await self._bring(place, chosen.spec.bundle, tried.others[place.revision])

    async def _bring(self, place: Place, bundle: Bundle, objects: list[Object]) -> None:
        await self._api.apply(CONFIG_MAP, code(place, packed(bundle)), force=True)
        for one in objects:
            await self._api.apply(_kind(one), one, force=True)


def _kind(one: Object) -> Kind:
    """Return the kind of an object of ours."""
    kinds = {kind.api_version: kind for kind in (KNATIVE_SERVICE, DEPLOYMENT, SERVICE)}
    return kinds[one["apiVersion"]]
