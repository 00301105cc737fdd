"""REST of a person's files. A path that ends in a slash is a folder, any other a file, none at all the usage.

Not here: the content's meaning; whatever it is, a browser saves it and never renders it.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from ropewalk_core.artifacts import streamed
from ropewalk_core.errors import BadInput, Unauthenticated
from ropewalk_core.model import Actor, FileEntry, Page, Usage
from ropewalk_core.signed import read_signed
from ropewalk_hub.api.common import After, ApiRoute, Its, Limit, UploadRoute, download, problems
from ropewalk_hub.secrets_store import Secret, SecretsStore
from ropewalk_hub.security import Public, Signed

router = APIRouter(route_class=ApiRoute, tags=["files"])
uploads = APIRouter(route_class=UploadRoute, tags=["files"])
_CONTENT: dict[str, Any] = {
    "responses": problems(404, 422)
    | {200: {"description": "A page of entries (path ends in a slash), or the file's bytes"}}
}


class SignWish(BaseModel):
    """For how long an address shall work."""

    model_config = ConfigDict(extra="forbid")

    path: str
    seconds: float = Field(default=300, gt=0, le=3600)


class SignedAddress(BaseModel):
    """An address that opens one file for a while without sign-in."""

    address: str


@router.get("/files/{owner}", operation_id="get_usage", responses=problems(404))
async def get_usage(actor: Signed, its: Its, owner: str) -> Usage:
    """Return what a person's files use and may use."""
    return await its.storage.usage(actor, owner)


@router.post("/files/{owner}", operation_id="sign_file", responses=problems(404, 422))
async def sign_file(actor: Signed, its: Its, owner: str, wish: SignWish) -> SignedAddress:
    """Return an address that opens one file for a while without sign-in."""
    return SignedAddress(address=await its.storage.sign(actor, owner, wish.path, seconds=wish.seconds))


@router.get("/files/{owner}/{path:path}", operation_id="get_file", response_model=None, **_CONTENT)
async def get_file(
    actor: Signed, its: Its, owner: str, path: str, after: After = "", limit: Limit = 200
) -> StreamingResponse | Page[FileEntry]:
    """Return a folder's entries by name, or a file's content."""
    if path == "" or path.endswith("/"):
        return await its.storage.list(actor, owner, path, after=after, limit=limit)
    return download(streamed(await its.storage.open(actor, owner, path)), path.rsplit("/", 1)[-1])


@uploads.put("/files/{owner}/{path:path}", operation_id="write_file", responses=problems(404, 413, 422, 507))
async def write_file(actor: Signed, its: Its, owner: str, path: str, request: Request) -> FileEntry:
    """Write a file, whole or not at all; the body is its content."""
    if path.endswith("/"):
        raise BadInput("A file's path does not end in a slash.", field="path")
    return await its.storage.write(actor, owner, path, request.stream())


@router.delete("/files/{owner}/{path:path}", status_code=204, operation_id="remove_file", responses=problems(404, 422))
async def remove_file(actor: Signed, its: Its, owner: str, path: str) -> Response:
    """Remove a file, or a folder with all in it."""
    await its.storage.remove(actor, owner, path)
    return Response(status_code=204)


@router.get(
    "/signed/{token}",
    operation_id="open_signed",
    dependencies=[Depends(Public("the address itself was signed for whoever holds it"))],
    responses=problems(404),
    response_class=StreamingResponse,
)
async def open_signed(its: Its, token: str) -> StreamingResponse:
    """Return the file that a signed address names."""
    key = SecretsStore(its.settings).text(Secret.FILE_KEY).encode()
    owner, path = read_signed(key, token, its.clock.wall())
    account = its.issuer.accounts.get(owner)
    if account is None or account.state != "active":
        raise Unauthenticated("This address is not valid any more.", hint="Ask for a fresh one.")
    file = await its.storage.open(Actor(account=owner, audience="signed-file"), owner, path)
    return download(streamed(file), path.rsplit("/", 1)[-1])
