"""Tidying after functions: what belongs to revisions that neither serve nor are tried goes from the cluster.

What goes is what the journal does not name. What is wished meanwhile is applied afterwards: who applies waits for who
tidies, but who asks for something waits for neither. Not here: when it is time for that, which whoever carries a wish
out or sees a revision ready knows. Rejected: owner references to one object of ours, by which the cluster would tidy by
itself, but at another moment than the journal says.
"""

from __future__ import annotations

import contextlib

from ropewalk_core.errors import NotFound
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.function_ledger import FunctionLedger, Key
from ropewalk_core.kube.function_objects import REVISION, Place, labels_of
from ropewalk_core.kube.kinds import CONFIG_MAP, DEPLOYMENT, KNATIVE_REVISION, KNATIVE_SERVICE, SERVICE, Kind, Object


async def tidy(api: Api, ledger: FunctionLedger, key: Key, namespace: str) -> None:
    """Remove what belongs to revisions that neither serve nor are tried."""
    found: list[tuple[Kind, Object]] = []
    for kind in (KNATIVE_SERVICE, KNATIVE_REVISION, DEPLOYMENT, SERVICE, CONFIG_MAP):
        with contextlib.suppress(NotFound):  # no Knative here
            listing = await api.list(kind, namespace, labels=labels_of(key[1]))
            owned = () if kind is KNATIVE_REVISION else ("ownerReferences",)
            found += [(kind, one) for one in listing.items if not any(one["metadata"].get(field) for field in owned)]
    async with ledger.hands(*key):
        for kind, one in found:  # whatever is wished is written down before it is made, so nothing new goes
            if not _stays(ledger, key, kind, one):
                await remove(api, kind, one["metadata"]["name"], namespace)


def _stays(ledger: FunctionLedger, key: Key, kind: Kind, one: Object) -> bool:
    """Say whether the journal names what an object belongs to. The function's own Knative Service always stays."""
    name, revision = one["metadata"]["name"], (one["metadata"].get("labels") or {}).get(REVISION) or ""
    kept, apart = ledger.kept(*key), ledger.apart(*key)
    if kind not in (KNATIVE_SERVICE, KNATIVE_REVISION):
        return revision in kept | apart
    main, own = Place(*key, revision, ""), Place(*key, revision, "", apart=True)
    if revision in apart and name in (own.service, own.knative_revision):
        return True
    return name == main.service or (revision in kept and name == main.object)


async def remove(api: Api, kind: Kind, name: str, namespace: str) -> None:
    """Remove an object; one that is not there is removed already."""
    with contextlib.suppress(NotFound):
        await api.delete(kind, name, namespace)
