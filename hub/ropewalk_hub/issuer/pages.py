"""The pages of the door: sign in, sign up, the first administrator, sign out, the account.

Each form that is refused comes back with what was typed (never the password) and the complaint at its field. Methods
of the issuer block, so the handlers are plain functions, which FastAPI runs in threads. Not here: who may do what.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from ropewalk_core.errors import BadInput, Conflict, Limited, NameTaken, RopewalkError, Unauthenticated
from ropewalk_hub import problem
from ropewalk_hub.first import link_command
from ropewalk_hub.issuer.endpoints import Its
from ropewalk_hub.issuer.passwords import SHORTEST
from ropewalk_hub.issuer.service import Issuer
from ropewalk_hub.issuer.sessions import Session
from ropewalk_hub.pages.render import render
from ropewalk_hub.security import Public, Signed, clear_cookies, client_address, cookie_name, safe_next, set_cookie

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form()]
"""Without limits of the framework's, whose refusal would lose what was typed; the issuer judges, the form shows it."""
_SIGN_UP = {
    "title": "Ask for an account",
    "lead": "An administrator approves it before you can sign in.",
    "button": "Ask for the account",
    "action": "/sign-up",
}


# Signing in


@router.get("/sign-in", dependencies=[Depends(Public("the sign-in page itself"))])
def sign_in_page(request: Request, issuer: Its, next: str = "/", account: str = "", again: bool = False) -> Response:
    """Show the form; whoever is signed in already goes on, unless a fresh sign-in is asked for."""
    if not again and issuer.actor_of_cookie(request.cookies.get(cookie_name(issuer.settings.door), "")):
        return RedirectResponse(safe_next(next), 303)
    return sign_in_form(request, issuer, next=next, account=account)


def sign_in_form(
    request: Request,
    issuer: Issuer,
    *,
    next: str = "/",
    account: str = "",
    kept: str = "",
    error: RopewalkError | None = None,
    status: int = 200,
) -> Response:
    """Return the sign-in page."""
    response = render(
        request,
        "identity/sign-in.html",
        status_code=error.status if error else status,
        actor=None,
        next=safe_next(next),
        account=account[:2000],
        kept=kept,
        problem=error.problem() if error else None,
        signed_out="signed-out" in request.query_params,
        may_sign_up=issuer.settings.accounts.sign_up,
        link_from="" if issuer.accounts.first_administrator() else link_command(issuer.settings),
    )
    return _waiting(response, error)


@router.post("/sign-in", dependencies=[Depends(Public("the sign-in page itself"))])
def sign_in(
    request: Request,
    issuer: Its,
    account: Text = "",
    password: Text = "",
    next: Text = "/",
    kept: Text = "",
) -> Response:
    """Sign in, then go on to where the person wanted to be."""
    try:
        session, cookie = issuer.sign_in(account, password, address=client_address(request), browser=_browser(request))
    except RopewalkError as error:
        return sign_in_form(request, issuer, next=next, account=account, kept=kept, error=error)
    response = _after(request, issuer, session, next, kept)
    return _signed_in(response, issuer, cookie)


def _after(request: Request, issuer: Issuer, session: Session, next: str, kept: str) -> Response:
    form = issuer.kept.unpack(kept) if kept else None
    if form is None:
        return RedirectResponse(safe_next(next), 303)
    actor = issuer.actor_of(session)
    return render(request, "identity/kept.html", actor=actor, target=safe_next(form[0]), fields=form[1])


async def ask_to_sign_in(request: Request, issuer: Issuer) -> Response:
    """Answer a page's request of somebody who is not signed in (any more), without losing what they typed."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method in ("GET", "HEAD"):
        target = f"/sign-in?next={quote(here, safe='')}"
        if "hx-request" in request.headers:  # a part of a page: send the whole page to the sign-in
            return Response(status_code=204, headers={"HX-Redirect": "/sign-in?next=" + _page_of(request)})
        return RedirectResponse(target, 303)
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kept = ""
    if media == "application/x-www-form-urlencoded":
        form = await request.form()
        kept = issuer.kept.pack(here, [(name, str(value)) for name, value in form.multi_items()])
    if "hx-request" in request.headers:
        # htmx swaps only successful answers; this one takes the place of the whole page.
        response = sign_in_form(request, issuer, next=_page_path(request), kept=kept)
        response.headers["HX-Retarget"], response.headers["HX-Reswap"] = "body", "innerHTML"
        return response
    return sign_in_form(request, issuer, next=_page_path(request), kept=kept, status=401)


def _page_path(request: Request) -> str:
    """Return the page that a form was on, if it was one of ours."""
    origin = request.app.state.platform.settings.door.origin
    referer = request.headers.get("referer", "")
    return safe_next(referer.removeprefix(origin)) if referer.startswith(f"{origin}/") else "/"


def _page_of(request: Request) -> str:
    return quote(_page_path(request), safe="")


# New accounts


@router.get("/sign-up", dependencies=[Depends(Public("asks for an account"))])
def sign_up_page(request: Request, issuer: Its) -> Response:
    """Show the form that asks for an account."""
    return _new_account(request, _SIGN_UP)


@router.post("/sign-up", dependencies=[Depends(Public("asks for an account"))])
def sign_up(request: Request, issuer: Its, account: Text = "", password: Text = "", full_name: Text = "") -> Response:
    """Ask for an account."""
    try:
        made = issuer.sign_up(account, password, full_name=full_name, address=client_address(request))
    except RopewalkError as error:
        return _new_account(request, _SIGN_UP, account=account, full_name=full_name, error=error)
    return render(request, "identity/asked.html", actor=None, account=made.name)


def _first_words(code: str) -> dict[str, str]:
    return {
        "title": "Make the first administrator",
        "lead": "This account approves the others. The link works once.",
        "button": "Make the account and sign in",
        "action": f"/first/{quote(code, safe='')}",
    }


@router.get("/first/{code}", dependencies=[Depends(Public("the one-time link is the proof"))])
def first_page(request: Request, issuer: Its, code: str) -> Response:
    """Show the form that makes the first administrator."""
    issuer.check_first(code)
    return _new_account(request, _first_words(code))


@router.post("/first/{code}", dependencies=[Depends(Public("the one-time link is the proof"))])
def first(
    request: Request, issuer: Its, code: str, account: Text = "", password: Text = "", full_name: Text = ""
) -> Response:
    """Make the first administrator and sign them in."""
    try:
        _, cookie = issuer.use_first(
            code,
            account,
            password,
            full_name=full_name,
            address=client_address(request),
            browser=_browser(request),
        )
    except (BadInput, NameTaken) as error:
        return _new_account(request, _first_words(code), account=account, full_name=full_name, error=error)
    return _signed_in(RedirectResponse("/", 303), issuer, cookie)


def _new_account(
    request: Request,
    words: dict[str, str],
    *,
    account: str = "",
    full_name: str = "",
    error: RopewalkError | None = None,
) -> Response:
    response = render(
        request,
        "identity/sign-up.html",
        status_code=error.status if error else 200,
        actor=None,
        account=account,
        full_name=full_name,
        shortest=SHORTEST,
        problem=error.problem() if error else None,
        **words,
    )
    return _waiting(response, error)


# Signing out, and the account


@router.get("/sign-out", dependencies=[Depends(Public("asks before signing out"))])
def sign_out_page(request: Request, issuer: Its) -> Response:
    """Ask whether to sign out."""
    actor = issuer.actor_of_cookie(request.cookies.get(cookie_name(issuer.settings.door), ""))
    if actor is None:
        return RedirectResponse("/sign-in?signed-out=1", 303)
    return render(request, "identity/sign-out.html", actor=actor)


@router.post("/sign-out", dependencies=[Depends(Public("signing out twice is done already"))])
async def sign_out(request: Request, issuer: Its) -> Response:
    """End the sign-in here, then let the hub end its own: it knows which notebook cookies it gave out."""
    actor = issuer.actor_of_cookie(request.cookies.get(cookie_name(issuer.settings.door), ""))
    there = await request.app.state.platform.hub.answers()
    if actor is not None:
        await run_in_threadpool(issuer.sign_out, actor.session, hub_away=not there)
    response = RedirectResponse("/hub/logout" if there else "/sign-in?signed-out=1", 303)
    clear_cookies(response, issuer.settings.door, hub=not there)
    return response


@router.get("/account")
def account_page(request: Request, issuer: Its, actor: Signed, changed: bool = False) -> Response:
    """Show the person's own account."""
    return _account(request, issuer, actor.account, changed=changed)


@router.post("/account/password")
def change_password(request: Request, issuer: Its, actor: Signed, old: Text = "", password: Text = "") -> Response:
    """Change the password; every other sign-in ends."""
    try:
        _, cookie = issuer.change_password(
            actor, old, password, address=client_address(request), browser=_browser(request)
        )
    except (BadInput, Conflict, Limited) as error:
        return _account(request, issuer, actor.account, error=error)
    return _signed_in(RedirectResponse("/account?changed=1", 303), issuer, cookie)


@router.post("/account/sign-out-everywhere")
async def sign_out_everywhere(request: Request, issuer: Its, actor: Signed) -> Response:
    """End every sign-in of the account."""
    await run_in_threadpool(issuer.sign_out_everywhere, actor.account)
    return await sign_out(request, issuer)


def _account(
    request: Request, issuer: Issuer, name: str, *, changed: bool = False, error: RopewalkError | None = None
) -> Response:
    account = issuer.accounts.get(name)
    if account is None:
        raise Unauthenticated("You are not signed in.")
    response = render(
        request,
        "identity/account.html",
        status_code=error.status if error else 200,
        account=account,
        sessions=issuer.sessions.of(name),
        shortest=SHORTEST,
        changed=changed,
        problem=error.problem() if error else None,
    )
    return _waiting(response, error)


def _signed_in(response: Response, issuer: Issuer, cookie: str) -> Response:
    # Another person may have used this browser before: the hub must not take one for the other.
    clear_cookies(response, issuer.settings.door, hub=True, session=False)
    set_cookie(response, issuer.settings.door, cookie)
    return response


def _waiting(response: Response, error: RopewalkError | None) -> Response:
    if isinstance(error, Limited):
        response.headers["Retry-After"] = problem.retry_after(error)
    return response


def _browser(request: Request) -> str:
    text = request.headers.get("user-agent", "")
    return "".join(one if one.isprintable() else "?" for one in text[:200])
