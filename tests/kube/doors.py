"""Leads names of the test cluster to where they lead inside it, through ports of this machine's loopback.

What a program in a pod calls by name, such as ``http://fun.ropewalk--ada.svc.cluster.local``, a test on this machine
calls by the same name: with an aiohttp connector or an httpx transport from here. The cluster's own name server is not
asked, because its answers are addresses that this machine has no route to.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from ropewalk_core.errors import RopewalkError, Unavailable
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import SERVICE, Kind
from tests.cluster.inside import Inside
from tests.cluster.knative import DOMAIN, GATEWAY
from tests.cluster.layout import ClusterError

_SLICE = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
_LOCAL = ("", "svc", "svc.cluster.local")


class Doors:
    """Doors into a cluster, each opened once."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._open: dict[tuple[str, int], int] = {}

    def to(self, host: str, port: int) -> int:
        """Return the port of this machine's loopback that leads to an address of the cluster."""
        if (host, port) not in self._open:
            self._open[host, port] = self._inside.door(host, port)
        return self._open[host, port]


class Names:
    """The cluster's names as this machine can follow them."""

    def __init__(self, api: Api, doors: Doors) -> None:
        self._api, self._doors = api, doors
        self._known: dict[str, tuple[str, int]] = {}

    async def door(self, host: str, port: int) -> int | None:
        """Return the loopback port that leads where a name of the cluster leads; None if it is no name of it.

        Raises
        ------
        OSError
            If there is no such service, or no pod of it is ready.
        """
        try:
            found = await self._address(host, port)
            return None if found is None else await asyncio.to_thread(self._doors.to, *found)
        except (RopewalkError, ClusterError) as error:
            raise OSError(f"{host}: {error}") from error

    async def _address(self, host: str, port: int) -> tuple[str, int] | None:
        """Return where a name leads; what was known goes on while the API server is away, as in the cluster."""
        key = f"{host}:{port}"
        try:
            found = await self._looked_up(host, port)
        except Unavailable:
            if key not in self._known:
                raise
            return self._known[key]
        if found is not None:
            self._known[key] = found
        return found

    async def _looked_up(self, host: str, port: int) -> tuple[str, int] | None:
        if _is_address(host):
            return None if ip_address(host).is_loopback else (host, port)
        if host.endswith(f".{DOMAIN}"):  # functions: Kourier tells them apart by the Host header
            return await self._address(f"kourier.{GATEWAY}", 80)
        name, _, rest = host.rstrip(".").partition(".")
        namespace, _, rest = rest.partition(".")
        if not namespace or namespace == "localhost" or rest not in _LOCAL:
            return None
        spec = (await self._api.get(SERVICE, name, namespace))["spec"]
        if spec.get("type") == "ExternalName":
            return await self._address(str(spec["externalName"]), port)
        if spec.get("clusterIP") not in (None, "", "None"):
            return str(spec["clusterIP"]), port
        return await self._endpoint(name, namespace, port)

    async def _endpoint(self, name: str, namespace: str, port: int) -> tuple[str, int]:
        """Return a ready pod of a service that has no address of its own."""
        labels = {"kubernetes.io/service-name": name}
        for one in (await self._api.list(_SLICE, namespace, labels=labels)).items:
            for endpoint in one.get("endpoints") or ():
                if endpoint.get("conditions", {}).get("ready", True):
                    return str(endpoint["addresses"][0]), port
        raise OSError(f"no pod of {name}.{namespace} is ready")


class Resolver(AbstractResolver):
    """For an aiohttp connector: leads names of the cluster to doors, and others where this machine leads them."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return where a name leads."""
        door = await self._names.door(host, port)
        if door is None:
            return await ThreadedResolver().resolve(host, port, family)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=door, family=socket.AF_INET, proto=socket.IPPROTO_TCP, flags=flags
            )
        ]

    async def close(self) -> None:
        """Nothing stays open."""


class Transport(httpx.AsyncBaseTransport):
    """For an httpx client: leads names of the cluster to doors; the Host header stays as it was."""

    def __init__(self, names: Names) -> None:
        self._names, self._own = names, httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        url = request.url
        try:
            door = await self._names.door(url.host, url.port or {"http": 80, "https": 443}[url.scheme])
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        if door is not None:
            request.url = url.copy_with(host="127.0.0.1", port=door)
        try:
            return await self._own.handle_async_request(request)
        finally:
            request.url = url

    async def aclose(self) -> None:
        """End every connection."""
        await self._own.aclose()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
