"""Values of secrets on a cluster: a Secret for each in the account's own namespace, which its functions' pods refer to.

The platform may write them and not read them. Not here: which there are (``secrets``). Rejected: one Secret with all
of them (what is written would have to be read first), and a right to delete Secrets only for this: a removed one is
emptied.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable

from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import SECRET, Object

KEY = "value"


class KubeSafe:
    """The `Safe` of a cluster.

    Parameters
    ----------
    api
        The API server, with the platform's rights.
    space
        Returns an account's namespace, made if it lacks.
    """

    def __init__(self, api: Api, space: Callable[[str], Awaitable[str]]) -> None:
        self._api, self._space = api, space

    async def put(self, owner: str, name: str, value: str) -> None:
        """See `Safe.put`."""
        await self._api.apply(SECRET, rendered(await self._space(owner), name, value), force=True)

    async def drop(self, owner: str, name: str) -> None:
        """See `Safe.drop`."""
        await self._api.apply(SECRET, rendered(await self._space(owner), name, ""), force=True)


def object_of(name: str) -> str:
    """Return the name of a secret's object; names of variables are none that a cluster takes."""
    return f"secret--{hashlib.sha256(name.encode()).hexdigest()[:20]}"


def rendered(space: str, name: str, value: str) -> Object:
    """Return the Secret that holds a value; without its key if that is empty."""
    metadata = {
        "name": object_of(name),
        "namespace": space,
        "labels": {"ropewalk.dev/kind": "secret"},
        "annotations": {"ropewalk.dev/name": name},
    }
    return {"metadata": metadata, "data": {KEY: base64.b64encode(value.encode()).decode()} if value else {}}


def variable(name: str) -> Object:
    """Return the variable of a container that gets a secret's value."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": object_of(name), "key": KEY}}}
