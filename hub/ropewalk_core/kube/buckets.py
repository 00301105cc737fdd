"""Buckets: one bucket and one pair of keys for each tenant on the artifact store, and what Argo needs to know of them.

A tenant's secret key follows from the store's own by HMAC, so that none is kept. It keeps tenants apart, and nobody
from the platform, which has the store's own key. In the tenant's namespace lie a Secret with the keys, the ConfigMap
that Argo reads, and the token of the account that reports a step's outputs. Not here: S3 (``objects.py``). Rejected:
one pair of keys for all (whoever reads them reads everybody's values).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import defaultdict
from dataclasses import dataclass

import yaml

from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import CONFIG_MAP, SECRET, Kind, Object
from ropewalk_core.kube.tenancy import REPORTS
from ropewalk_core.objects import REGION, Keys, Objects
from ropewalk_core.settings import Cluster

SECRET_NAME, CONFIG_NAME, CONFIG_KEY = "objects", "artifact-repositories", "ropewalk"
ENVIRONMENT = "objects-environment"
"""Secret with the same keys under the names that S3 clients look for; a notebook has it in its environment."""
ROOT = "ropewalk"
"""Access key of the store's root."""


def address(cluster: Cluster) -> str:
    """Return where the artifact store answers, as pods and the platform see it."""
    return cluster.objects or f"http://objects.{cluster.namespace}.svc:7070"


@dataclass(frozen=True)
class Bucket:
    """One tenant's place on the store."""

    name: str
    keys: Keys


class Buckets:
    """The tenants' buckets.

    Parameters
    ----------
    api
        The API server, with the platform's rights.
    objects
        The store.
    root
        Its root's secret key.
    """

    def __init__(self, api: Api, objects: Objects, root: str) -> None:
        self._api, self.objects, self._root = api, objects, Keys(ROOT, root)
        self._there: set[str] = set()
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def of(self, space: str) -> Bucket:
        """Return the bucket of a namespace, there or not; both have one name."""
        secret = hmac.new(self._root.secret.encode(), f"bucket {space}".encode(), hashlib.sha256).hexdigest()
        return Bucket(space, Keys(space, secret[:40]))

    async def ensure(self, space: str) -> Bucket:
        """Return the bucket of a namespace, made if it lacks, with what Argo needs there; quick after the first time.

        Raises
        ------
        Unavailable
            If the store or the API server does not answer.
        """
        bucket = self.of(space)
        async with self._making[space]:
            if space not in self._there:
                await self.objects.make_user(self._root, bucket.keys)
                await self.objects.make_bucket(self._root, bucket.name, bucket.keys.access)
                for kind, body in inside(space, bucket, self.objects.address):
                    await self._api.apply(kind, body, force=True)
                self._there.add(space)
        return bucket


def inside(space: str, bucket: Bucket, store: str) -> list[tuple[Kind, Object]]:
    """Return what lies in a tenant's namespace so that Argo can use the tenant's bucket and hear of outputs."""
    keys = {"accessKey": bucket.keys.access, "secretKey": bucket.keys.secret}
    scheme, _, host = store.partition("://")
    place = {
        "endpoint": host,
        "insecure": scheme == "http",
        "bucket": bucket.name,
        "region": REGION,
        **{f"{one}Secret": {"name": SECRET_NAME, "key": one} for one in keys},
    }
    account = {"kubernetes.io/service-account.name": REPORTS}
    known = {
        "AWS_ACCESS_KEY_ID": bucket.keys.access,
        "AWS_SECRET_ACCESS_KEY": bucket.keys.secret,
        "AWS_ENDPOINT_URL": store,
        "AWS_DEFAULT_REGION": REGION,
        "ROPEWALK_BUCKET": bucket.name,
    }
    return [
        (SECRET, {"metadata": {"name": ENVIRONMENT, "namespace": space}, "stringData": known}),
        (SECRET, {"metadata": {"name": SECRET_NAME, "namespace": space}, "stringData": keys}),
        (
            CONFIG_MAP,
            {
                "metadata": {"name": CONFIG_NAME, "namespace": space},
                "data": {CONFIG_KEY: yaml.safe_dump({"s3": place})},
            },
        ),
        (  # Argo mounts it into its own two containers beside a step, and never into the step's
            SECRET,
            {
                "metadata": {
                    "name": f"{REPORTS}.service-account-token",
                    "namespace": space,
                    "annotations": account,
                },
                "type": "kubernetes.io/service-account-token",
            },
        ),
    ]
