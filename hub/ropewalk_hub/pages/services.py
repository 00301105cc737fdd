"""Pages of services: cards and catalogue, the launch form, one service.

Not here: what values are right (``catalog``), what happens then (the port). Rejected: one page per template; a new
template must need no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response

from ropewalk_core import names
from ropewalk_core.errors import BadInput, Conflict, NameTaken, NotFound, RopewalkError
from ropewalk_core.model import Actor, Service, ServiceSpec, State, Template
from ropewalk_core.placement import Placement, fit, parse_placement
from ropewalk_core.service_records import LAST
from ropewalk_hub.pages import forms
from ropewalk_hub.pages.common import Its, Viewed, hit, or_none, search, see, some
from ropewalk_hub.pages.render import render
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed

router = APIRouter(include_in_schema=False)
_STATES = (State.RUNNING, State.STARTING, State.WAITING, State.FAILED)


@dataclass(frozen=True)
class _Form:
    """A launch form as it is shown: what was typed, and what is wrong with it."""

    name: str = ""
    typed: Mapping[str, str] | None = None
    errors: Mapping[str, forms.Complaint] = field(default_factory=dict)


@router.get("/services")
async def services(request: Request, actor: Signed, its: Its, view: Viewed) -> Response:
    """Show my services as cards, and the catalogue."""
    owner = actor.account
    listing = await search(
        lambda after, limit: its.services.list(actor, owner, after=after, limit=limit),
        lambda one: hit(view, one.status.state, one.spec.name, one.spec.template),
        view,
    )
    templates = its.catalog.list()
    titles = {one.name: one.title for one in templates}
    return render(
        request, "services.html", listing=listing, view=view, states=_STATES, templates=templates, titles=titles
    )


@router.get("/services/new/{template}")
async def new(request: Request, actor: Signed, its: Its, template: str) -> Response:
    """Show the form that launches a service, filled with the values of last time."""
    return await _show_form(request, actor, its, its.catalog.get(template[:60]).template, _Form())


@router.post("/services/new/{template}")
async def launch(request: Request, actor: Signed, its: Its, template: str) -> Response:
    """Launch a service, or show the form again with everything that was typed."""
    entry = its.catalog.get(template[:60])
    typed = await _typed(request)
    name = typed.get("name", "").strip()
    existing, _ = await or_none(its.services.get(actor, actor.account, name)) if name else (None, None)
    taken = NameTaken(f"You have a service named '{name}' already.", field="name") if existing else None
    return await _apply(request, actor, its, entry.template, name, typed, taken)


@router.get("/services/{name}/settings")
async def settings(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Show the values of a service as a form."""
    service = await its.services.get(actor, actor.account, name)
    template = its.catalog.get(service.spec.template).template
    return await _show_form(request, actor, its, template, _Form(name=name), service=service)


@router.post("/services/{name}/settings")
async def change(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Run a service with other values."""
    service = await its.services.get(actor, actor.account, name)
    template = its.catalog.get(service.spec.template).template
    return await _apply(request, actor, its, template, name, await _typed(request), None, service=service)


@router.get("/services/{name}")
async def service(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Show one service."""
    one = await its.services.get(actor, actor.account, name)
    lines, offset = await some(its.services.logs(actor, actor.account, name))
    template, usual = None, 0.0
    try:
        entry = its.catalog.get(one.spec.template)
        template, usual = entry.template, entry.local.readiness.usual if entry.local else 0.0
    except NotFound:  # a template that went away: the service is shown all the same
        pass
    return render(
        request,
        "service.html",
        service=one,
        template=template,
        usual=usual,
        lines=lines,
        offset=offset,
        python=_python(one),
        command=f"ropewalk services get {name}",
    )


@router.post("/services/{name}/restart")
async def restart(actor: Signed, its: Its, name: str) -> Response:
    """Ask for a service again as it was; for one that failed."""
    one = await its.services.get(actor, actor.account, name)
    await its.services.apply(actor, actor.account, one.spec)
    return see(f"/services/{name}")


@router.post("/services/{name}/remove")
async def remove(actor: Signed, its: Its, name: str) -> Response:
    """Stop and remove a service."""
    await its.services.remove(actor, actor.account, name)
    return see("/services")


async def _apply(
    request: Request,
    actor: Actor,
    its: Platform,
    template: Template,
    name: str,
    typed: Mapping[str, str],
    taken: RopewalkError | None,
    service: Service | None = None,
) -> Response:
    values, errors = forms.parse(template.values_schema, typed)
    placed: list[Placement] = []

    def check_name() -> None:
        names.check_name(name)
        names.check_pair(name, actor.account)
        if taken:
            raise taken

    def check_placement() -> None:
        placed.append(parse_placement(forms.placement_of(typed)))
        fit(placed[0], its.inventory)

    for check in (check_name, lambda: its.catalog.check(template.name, values), check_placement):
        try:
            check()
        except (BadInput, NameTaken) as error:  # go on: whoever reads the form wants to know all of it
            errors = forms.complaints(error) | errors
    try:
        if not errors:
            spec = ServiceSpec(name=name, template=template.name, values=values, placement=placed[0])
            done = await its.services.apply(actor, actor.account, spec)
            return see(f"/services/{done.spec.name}")
    except (BadInput, Conflict) as error:
        errors = forms.complaints(error)
    return await _show_form(request, actor, its, template, _Form(name, typed, errors), service=service)


async def _show_form(
    request: Request, actor: Actor, its: Platform, template: Template, form: _Form, service: Service | None = None
) -> Response:
    errors = dict(form.errors)
    last = its.journal.get(LAST, actor.account, template.name)
    values = template.defaults | (service.spec.values if service else last.body if last else {})
    placement = service.spec.placement if service else Placement()
    placed = {key.removeprefix(forms.PLACED): text for key, text in errors.items() if key.startswith(forms.PLACED)}
    known = {"name", *template.values_schema.get("properties", {}), *(forms.PLACED + key for key in placed)}
    return render(
        request,
        "launch.html",
        status_code=422 if errors else 200,
        template=template,
        service=service,
        name=form.name if form.typed is not None or service else await _free_name(actor, its, template.name),
        name_error=errors.get("name"),
        fields=forms.fields(template.values_schema, values, form.typed, errors),
        placement=forms.placement_fields(its.inventory, placement, form.typed, placed),
        placed=bool(placed) or bool(form.typed and forms.placement_of(form.typed)),
        general=[text for key, text in errors.items() if key not in known],
    )


async def _free_name(actor: Actor, its: Platform, template: str) -> str:
    page = await its.services.list(actor, actor.account, limit=500)
    taken = {one.spec.name for one in page.items}
    numbered = (f"{template}-{number}" for number in range(2, 1000))
    return template if template not in taken else next(one for one in numbered if one not in taken)


async def _typed(request: Request) -> dict[str, str]:
    form = await request.form(max_fields=200)
    return {name: value[:20_000] for name, value in form.items() if isinstance(value, str)}


def _python(one: Service) -> str:
    values = "".join(f", {name}={value!r}" for name, value in one.spec.values.items() if name.isidentifier())
    return f"import ropewalk\n\nropewalk.services.launch({one.spec.template!r}, name={one.spec.name!r}{values})"
