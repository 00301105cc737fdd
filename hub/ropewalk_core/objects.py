"""Objects: the only module that speaks S3. Writes and reads objects, and makes users and buckets on our own server.

Every request is signed with the keys that it is given (signature version 4), so one client serves all tenants and no
tenant's keys are kept; of one bucket a few objects are read at a time, so that no tenant has all connections. Users and
buckets are made through the administrator's interface of versitygw, the S3 server of the chart; the rest is plain S3.
Not here: whose bucket is whose (``kube/buckets.py``). Rejected: boto3 and aiobotocore (thirty megabytes for five
requests, and the first one blocks).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
from asyncio import Semaphore
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape

import httpx

from ropewalk_core.errors import Conflict, Denied, Internal, NotFound, RopewalkError, Unavailable
from ropewalk_core.ports import Clock

REGION = "us-east-1"
PATIENCE = 20.0
_TRIES = (0.1, 0.3, 1.0, 3.0)
_CHUNK = 1 << 18
PIECE = 1 << 20
"""Bytes that are read at once for somebody who may pause."""
_OF_ONE = 4
"""Objects of one bucket that are read at the same time; further readers wait. All buckets share 64 connections."""
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, repr=False)
class Keys:
    """Who asks: an access key and its secret. Its text shows neither the secret nor a part of it."""

    access: str
    secret: str

    def __repr__(self) -> str:
        return f"Keys({self.access!r})"


class Objects:
    """One S3 server.

    Parameters
    ----------
    address
        Its URL, without a path.
    clock
        The time that signatures carry, and time to wait in.
    transport
        Replaces the network.
    """

    def __init__(self, address: str, clock: Clock, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.address, self._clock = address.rstrip("/"), clock
        self._http = httpx.AsyncClient(
            base_url=self.address,
            timeout=httpx.Timeout(60.0, connect=5.0),
            trust_env=False,
            transport=transport,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
        )
        self._reading: defaultdict[str, Semaphore] = defaultdict(lambda: Semaphore(_OF_ONE))

    async def close(self) -> None:
        """End every connection."""
        await self._http.aclose()

    async def put(self, keys: Keys, bucket: str, key: str, content: bytes) -> None:
        """Write an object whole; what was there under this key is replaced."""
        await self._ask(keys, "PUT", bucket, key, content)

    async def size(self, keys: Keys, bucket: str, key: str) -> int:
        """Return an object's size, or raise `NotFound`."""
        answer = await self._ask(keys, "HEAD", bucket, key)
        return int(answer.headers.get("content-length") or 0)

    async def remove(self, keys: Keys, bucket: str, key: str) -> None:
        """Remove an object; one that is not there is removed already."""
        with contextlib.suppress(NotFound):
            await self._ask(keys, "DELETE", bucket, key)

    @contextlib.asynccontextmanager
    async def open(
        self, keys: Keys, bucket: str, key: str, *, start: int = 0, most: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an object and give its content from a byte on, in chunks; raise `NotFound` if there is none.

        It holds one of a few connections: who may pause in the middle, as a person does, reads `pieces`.
        """
        extra = {"range": f"bytes={start}-{start + most - 1 if most else ''}"} if start or most else {}
        async with self._reading[bucket]:
            request = self._signed(keys, "GET", _path(bucket, key), b"", extra)
            with _as_ours():
                answer = await self._http.send(request, stream=True)
            try:
                if extra and answer.status_code == 416:
                    yield _nothing()
                    return
                if not answer.is_success:
                    await answer.aread()
                    raise _refusal(answer, f"{bucket}/{key}")
                yield _chunks(answer)
            finally:
                await answer.aclose()

    async def pieces(self, keys: Keys, bucket: str, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """Yield an object's content from a byte on, and hold nothing of the store's between two pieces."""
        while piece := await self.read(keys, bucket, key, start=start, most=PIECE):
            yield piece
            if len(piece) < PIECE:
                return
            start += PIECE

    async def read(self, keys: Keys, bucket: str, key: str, *, most: int, start: int = 0) -> bytes:
        """Return a small object's content, or ``most`` bytes from one on."""
        async with self.open(keys, bucket, key, start=start, most=most) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def make_user(self, root: Keys, keys: Keys) -> None:
        """Have a user with these keys, who may use only buckets that belong to them."""
        try:
            await self._admin(root, "/create-user", _account(keys))
        except Conflict:
            query = f"/update-user?access={quote(keys.access, safe='')}"
            await self._admin(root, query, f"<MutableProps><Secret>{escape(keys.secret)}</Secret></MutableProps>")

    async def make_bucket(self, root: Keys, bucket: str, owner: str) -> None:
        """Have a bucket that belongs to a user; nobody else but the server's root may use it."""
        path = f"{_path(bucket)}/create"
        with contextlib.suppress(Conflict):
            await self._admin(root, path, "", {"x-vgw-owner": owner})

    async def _admin(self, root: Keys, path: str, body: str, extra: Mapping[str, str] | None = None) -> None:
        await self._patiently(root, "PATCH", path, body.encode(), extra or {}, "the artifact store's users")

    async def _ask(self, keys: Keys, method: str, bucket: str, key: str, content: bytes = b"") -> httpx.Response:
        return await self._patiently(keys, method, _path(bucket, key), content, {}, f"{bucket}/{key}")

    async def _patiently(
        self, keys: Keys, method: str, path: str, content: bytes, extra: Mapping[str, str], about: str
    ) -> httpx.Response:
        """Send a request, again while the server is away; each is the same if it is carried out twice."""
        end = self._clock.steady() + PATIENCE
        for wait in (*_TRIES, None):
            try:
                with _as_ours():
                    answer = await self._http.send(self._signed(keys, method, path, content, extra))
                if answer.is_success:
                    return answer
                raise _refusal(answer, about)
            except Unavailable:
                if wait is None or self._clock.steady() + wait > end:
                    raise
            await self._clock.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _signed(self, keys: Keys, method: str, path: str, content: bytes, extra: Mapping[str, str]) -> httpx.Request:
        now = datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC)
        request = self._http.build_request(method, path, content=content or None)
        headers = {"host": request.headers["host"], **extra}
        headers |= sign(keys, method, path, headers, content, now)
        request.headers.update(headers)
        return request


def sign(
    keys: Keys, method: str, path: str, headers: Mapping[str, str], content: bytes, now: datetime.datetime
) -> dict[str, str]:
    """Return the headers that say who asks: signature version 4 for the service ``s3``.

    Parameters
    ----------
    keys
        Who asks.
    method, path, headers, content
        The request; the path is quoted already and may have a query, names of headers are in small letters.
    now
        The time.
    """
    stamp, hashed = now.strftime("%Y%m%dT%H%M%SZ"), hashlib.sha256(content).hexdigest() if content else _EMPTY
    told = {**headers, "x-amz-content-sha256": hashed, "x-amz-date": stamp}
    named = ";".join(sorted(told))
    place, _, query = path.partition("?")
    lines = [method, place, "&".join(sorted(query.split("&"))), *(f"{one}:{told[one].strip()}" for one in sorted(told))]
    canonical = "\n".join([*lines, "", named, hashed])
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    derived = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(derived, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={keys.access}/{scope}, SignedHeaders={named}, Signature={signature}"
    return {"x-amz-content-sha256": hashed, "x-amz-date": stamp, "authorization": f"AWS4-HMAC-SHA256 {credential}"}


def _path(bucket: str, key: str = "") -> str:
    parts = [bucket, *(key.split("/") if key else ())]
    if any(one in ("", ".", "..") for one in parts):
        raise Internal(f"{key!r} is no key of an object.")
    return "/" + "/".join(quote(one, safe="-_.~") for one in parts)


def _account(keys: Keys) -> str:
    fields = {"Access": keys.access, "Secret": keys.secret, "Role": "user"}
    return f"<Account>{''.join(f'<{name}>{escape(value)}</{name}>' for name, value in fields.items())}</Account>"


async def _chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    with _as_ours():
        async for chunk in answer.aiter_bytes(_CHUNK):
            yield chunk


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _refusal(answer: httpx.Response, about: str) -> RopewalkError:
    details = {"status": answer.status_code, "raw": answer.text[:1000]}
    if answer.status_code == 404:
        return NotFound(f"There is no object {about}.", field="key", details=details)
    if answer.status_code == 409:
        return Conflict(f"{about} is there already.", details=details)
    if answer.status_code in (401, 403):
        sentence = f"The artifact store refuses the keys for {about}."
        return Denied(sentence, hint="An administrator looks at the Secret of the artifact store.", details=details)
    if answer.status_code >= 500 or answer.status_code == 429:
        return Unavailable(f"The artifact store did not carry out what was asked for {about}.", details=details)
    return Internal(f"{about}: {answer.status_code} {answer.text[:300]}", details=details)


@contextlib.contextmanager
def _as_ours() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise Unavailable(f"The artifact store does not answer: {str(error) or type(error).__name__}.") from error
