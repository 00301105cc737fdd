"""What the routes under ``/argo/`` share: who asks, whose namespace, Argo's shape of an error, and one run by its name.

Only a bearer token says who asks, never a cookie: what Argo's clients send must not be what a browser can be made to
send. Not here: what the objects look like (``ropewalk_workflows.argo_server``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response

from ropewalk_core.errors import BadInput, Denied, RopewalkError, Unauthenticated
from ropewalk_core.flows import Run
from ropewalk_core.kube.tenancy import namespace_of
from ropewalk_core.model import Actor
from ropewalk_core.settings import Settings
from ropewalk_hub.api.common import ApiRoute, platform_of
from ropewalk_hub.issuer import Issuer
from ropewalk_hub.platform import Platform
from ropewalk_workflows import named
from ropewalk_workflows.argo_server import errors
from ropewalk_workflows.argo_server.told import Told, told
from ropewalk_workflows.records import Records

PREFIX = "/argo"
_DIGITS = 10


async def bearer(connection: HTTPConnection) -> Actor:
    """Return who asks, by bearer token alone, or raise `Unauthenticated`."""
    issuer: Issuer = connection.app.state.platform.issuer
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        hint = 'Run `eval "$(ropewalk argo-env)"` in your shell; its token is good for ten minutes.'
        raise Unauthenticated("There is no token.", hint=hint)
    actor = issuer.tokens.actor(token.strip(), "api")
    connection.state.actor = actor
    return actor


Asking = Annotated[Actor, Depends(bearer)]


class ArgoRoute(ApiRoute):
    """A route whose failures are in Argo's shape."""

    def failed(self, error: RopewalkError, platform: Platform) -> Response:
        """See `ApiRoute.failed`."""
        status, body = errors.said(error)
        return JSONResponse(body, status)


def namespace(settings: Settings, account: str) -> str:
    """Return what an account's namespace is called: on one machine as the account is."""
    return namespace_of(account, settings.cluster) if settings.backend == "kube" else account


class Asked:
    """Who asks, and in which namespace; it is their own, or `Denied`. The account's own name means it too."""

    def __init__(self, request: Request, actor: Asking) -> None:
        self.its, self.actor, self.owner = platform_of(request), actor, actor.account
        self.namespace = namespace(self.its.settings, self.owner)
        self.records = Records(self.its.journal)
        self.check_namespace(request.path_params.get("namespace"))

    def check_namespace(self, given: Any) -> None:
        """Raise `Denied` for a namespace that is not the person's; one that is not given is theirs."""
        if given not in (None, "", self.namespace, self.owner):
            raise Denied(
                f"Permission denied: the namespace '{str(given)[:100]}' is not yours.",
                hint=f"Yours is '{self.namespace}'; `ropewalk argo-env` sets it.",
            )

    def run_id(self, name: str) -> str:
        """Return the identifier of one of the person's runs by its name, or raise `NotFound`."""
        return named.named(self.its.journal, self.owner, name)

    def has(self, name: str) -> bool:
        """Say whether one of the person's runs has this name."""
        return named.run_of(self.its.journal, self.owner, name) is not None

    async def get(self, name: str) -> Run:
        """Return one of the person's runs by its name, or raise `NotFound`."""
        return await self.its.workflows.get(self.actor, self.owner, self.run_id(name))

    async def told(self, run: Run, *, steps: bool = True) -> Told:
        """Return a run with what its object is made of."""
        return await asyncio.to_thread(told, self.records, run, self.namespace, steps=steps)


Here = Annotated[Asked, Depends(Asked)]


async def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body; nothing is an empty one.

    Raises
    ------
    BadInput
        If it is something else.
    """
    content = await request.body()
    if not content.strip():
        return {}
    try:
        found = await request.json()
    except (ValueError, RecursionError) as error:
        raise BadInput("The request's body is not JSON.", field="body") from error
    if not isinstance(found, dict):
        raise BadInput("The request's body is no object.", field="body")
    return found


def option(request: Request, name: str) -> str:
    """Return an option of a query, in the name that clients give it: ``listOptions.limit``, or ``limit`` alone."""
    query = request.query_params
    return query.get(name) or query.get(name.rpartition(".")[2]) or ""


def number(request: Request, name: str) -> int | None:
    """Return a whole number among a query's options, None where it is not there.

    Raises
    ------
    BadInput
        If it is something else, or has more digits than anything that is counted here.
    """
    text = option(request, name)
    if text and not (text.isdecimal() and len(text) < _DIGITS):
        raise BadInput("This is a whole number.", field=name)
    return int(text) if text else None


def refused(what: str, instead: str) -> JSONResponse:
    """Return the answer for what is not answered here."""
    status, body = errors.unanswered(what, instead)
    return JSONResponse(body, status)


def refuse_set(body: Mapping[str, Any], fields: Mapping[str, str]) -> None:
    """Refuse fields that would have an effect at Argo's and have none here.

    Raises
    ------
    BadInput
        With the sentence for the first of them that is set.
    """
    for field, sentence in fields.items():
        if body.get(field):
            raise BadInput(sentence, field=field)
