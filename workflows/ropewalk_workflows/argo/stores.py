"""What a run reads and writes in its owner's bucket: code and values before it starts, files and logs after.

Code and values lie under their digests, so putting them again changes nothing. Not here: S3 (``ropewalk_core.objects``)
and whose bucket it is (``kube.buckets``). Rejected: values as parameters of the manifest (a megabyte is all it holds);
a copy of a file while it is looked at (one account's files would fill the disk under everybody's platform).
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Sequence

from ropewalk_core.artifacts import streamed
from ropewalk_core.errors import Conflict
from ropewalk_core.flows import RunSpec
from ropewalk_core.kube.buckets import Bucket, Buckets
from ropewalk_core.model import Bundle
from ropewalk_core.objects import PIECE, Objects
from ropewalk_runtime import bundle as bundles
from ropewalk_workflows import names
from ropewalk_workflows.accepted import given_values
from ropewalk_workflows.engine.state import Reference

_AT_ONCE = 8


async def put_inputs(buckets: Buckets, bucket: Bucket, spec: RunSpec, most: int) -> None:
    """Put the code and values that came with a run where its steps read them.

    Raises
    ------
    BadWorkflow, TooLarge
        If a value is not what its digest says, or has more than ``most`` bytes.
    """
    contents = {f"{names.VALUES}{digest}": content for digest, content in given_values(spec, most)}
    for digest, bundle in spec.bundles.items():
        contents[f"{names.BUNDLES}{digest}"] = await asyncio.to_thread(packed, bundle)
    free = asyncio.Semaphore(_AT_ONCE)

    async def put(key: str, content: bytes) -> None:
        async with free:
            await buckets.objects.put(bucket.keys, bucket.name, key, content)

    await asyncio.gather(*(put(key, content) for key, content in contents.items()))


async def removed(buckets: Buckets, bucket: Bucket, keys: Sequence[str]) -> None:
    """Remove files of an account; what is not there is removed already."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def remove(key: str) -> None:
        async with free:
            await buckets.objects.remove(bucket.keys, bucket.name, key)

    await asyncio.gather(*(remove(key) for key in keys))


def packed(bundle: Bundle) -> bytes:
    """Return a bundle as Argo unpacks it into a folder; the same bundle gives the same bytes."""
    facts = bundle.model_dump(mode="json", exclude={"files"})
    contents = {**bundle.files, bundles.FILE: json.dumps(facts)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in sorted(contents.items()):
            content = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


async def measured(buckets: Buckets, bucket: Bucket, key: str) -> Reference:
    """Return the digest and size of a file that a step wrote without telling them."""
    seen, size = hashlib.sha256(), 0
    async with buckets.objects.open(bucket.keys, bucket.name, key) as chunks:
        async for chunk in chunks:
            seen.update(chunk)
            size += len(chunk)
    return {"digest": seen.hexdigest(), "size": size, "media_type": "application/octet-stream", "type": "file"}


async def verified(
    buckets: Buckets, bucket: Bucket, key: str, digest: str, size: int | None = None
) -> AsyncIterator[bytes]:
    """Return the content of a file, which was read whole and has this digest.

    What is larger than a little is read once more to give it, as nobody has room for a copy of anything that an account
    may keep; in pieces, as whoever downloads it may be slow and the store's connections are for all.

    Raises
    ------
    Conflict
        If somebody changed it: people hold the keys of their own bucket.
    """
    objects = buckets.objects
    if size is not None and await objects.size(bucket.keys, bucket.name, key) != size:
        raise _changed()
    seen, small, length = hashlib.sha256(), list[bytes](), 0
    async with objects.open(bucket.keys, bucket.name, key) as chunks:
        async for chunk in chunks:
            seen.update(chunk)
            length += len(chunk)
            if length <= PIECE:
                small.append(chunk)
            else:
                small.clear()
    if seen.hexdigest() != digest:
        raise _changed()
    return streamed(io.BytesIO(b"".join(small))) if length <= PIECE else _given(objects, bucket, key, digest)


async def _given(objects: Objects, bucket: Bucket, key: str, digest: str) -> AsyncIterator[bytes]:
    """Yield a file's content, and its last piece only if all of it has this digest."""
    seen, last = hashlib.sha256(), b""
    async for piece in objects.pieces(bucket.keys, bucket.name, key):
        seen.update(piece)
        if last:
            yield last
        last = piece
    if seen.hexdigest() != digest:
        raise _changed()
    yield last


def _changed() -> Conflict:
    return Conflict(
        "The artifact was changed and cannot be used.", field="digest", hint="Run the step that made it again."
    )
