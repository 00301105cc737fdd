"""A small platform in memory that answers the REST routes which the kernel uses. A fake, not a mock: it keeps state."""

from __future__ import annotations

import json
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ropewalk_core import callkeys, comparison, openapi
from ropewalk_core.access import checked
from ropewalk_core.errors import BadInput, NotFound, RopewalkError, UserCodeFailed
from ropewalk_core.figures import Series
from ropewalk_core.flows import Artifact, Comparison, Run, RunSpec, Saved, SavedSpec, Step, StepInputs
from ropewalk_core.model import (
    Access,
    Call,
    Costs,
    DurableCall,
    Function,
    FunctionSpec,
    LogLine,
    Page,
    Revision,
    Service,
    ServiceSpec,
    Share,
    State,
    Status,
    StoredKey,
    StoredSecret,
    Traffic,
    Trigger,
    TriggerSpec,
    Window,
)
from ropewalk_core.placement import Inventory, Node, fit
from ropewalk_core.traffic import weights
from ropewalk_core.triggers import wishes
from ropewalk_runtime import values
from ropewalk_workflows.saved import launching

HERE = Inventory(nodes=(Node(name="here", arch="amd64", cpu=2, memory=8 * 2**30),))


class FakePlatform:
    """State, and the application that serves it. A run walks one state further each time it is looked at."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.revisions: dict[str, list[Revision]] = {}
        self.services: dict[str, Service] = {}
        self.runs: dict[str, Run] = {}
        self.scripts: dict[str, list[Run]] = {}
        self.saved: dict[str, Saved] = {}
        self.artifacts: dict[str, bytes] = {}
        self.inputs: dict[str, StepInputs] = {}
        self.logs: dict[str, list[str]] = {}
        self.calls: list[Call] = []
        self.stored: list[StoredSecret] = []
        self.values: dict[str, str] = {}
        self.counted = Series()
        self.made: list[StoredKey] = []
        self.called: dict[str, list[Trigger]] = {}
        self.durable: dict[str, DurableCall] = {}
        self.results: dict[str, Any] = {}
        self.away: dict[str, int] = {}
        self.submitted: list[RunSpec] = []
        self.prepared: list[tuple[str, ...]] = []
        route = "/api/v1"
        self.app = Starlette(
            routes=[
                Route(f"{route}/functions/ada", self.list_functions),
                Route(f"{route}/functions/ada/{{name}}", self.function, methods=["GET", "PUT", "DELETE"]),
                Route(f"{route}/functions/ada/{{name}}/calls", self.list_calls),
                Route(f"{route}/functions/ada/{{name}}/figures", self.count),
                Route(f"{route}/functions/ada/{{name}}/costs", self.cost),
                Route(f"{route}/costs/ada", self.cost),
                Route(f"{route}/functions/ada/{{name}}/openapi.json", self.describe),
                Route(f"{route}/functions/ada/{{name}}/revisions", self.list_revisions),
                Route(f"{route}/functions/ada/{{name}}/revisions/{{number:int}}", self.revision),
                Route(f"{route}/functions/ada/{{name}}/rollback", self.roll_back, methods=["POST"]),
                Route(f"{route}/functions/ada/{{name}}/traffic", self.split, methods=["PUT"]),
                Route(f"{route}/functions/ada/{{name}}/access", self.share, methods=["PUT"]),
                Route(f"{route}/functions/ada/{{name}}/keys", self.keys, methods=["GET", "POST"]),
                Route(f"{route}/functions/ada/{{name}}/keys/{{key}}", self.revoke, methods=["DELETE"]),
                Route(f"{route}/functions/ada/{{name}}/triggers", self.triggers, methods=["GET", "POST", "PUT"]),
                Route(f"{route}/functions/ada/{{name}}/triggers/{{trigger}}", self.trigger, methods=["DELETE"]),
                Route(f"{route}/functions/ada/{{name}}/triggers/{{trigger}}/{{act}}", self.trigger, methods=["POST"]),
                Route(f"{route}/secrets/ada", lambda _: page(self.stored)),
                Route(f"{route}/secrets/ada/{{name}}", self.secret, methods=["PUT", "DELETE"]),
                Route(f"{route}/requirements/ada", self.prepare, methods=["POST"]),
                Route(f"{route}/durable/ada", self.list_durable),
                Route(f"{route}/durable/ada/{{call}}", self.durable_call, methods=["GET", "DELETE"]),
                Route(f"{route}/durable/ada/{{call}}/result", self.durable_result),
                Route(f"{route}/durable/ada/{{call}}/{{act}}", self.durable_act, methods=["POST"]),
                Route(f"{route}/services/ada", self.list_services),
                Route(f"{route}/services/ada/{{name}}", self.service, methods=["GET", "PUT", "DELETE"]),
                Route(f"{route}/services/ada/{{name}}/logs", self.log),
                Route(f"{route}/templates", lambda _: page([])),
                Route(f"{route}/saved-workflows/ada", lambda _: page(list(self.saved.values()))),
                Route(f"{route}/saved-workflows/ada/{{name}}", self.save, methods=["GET", "PUT", "DELETE"]),
                Route(f"{route}/saved-workflows/ada/{{name}}/launch", self.launch, methods=["POST"]),
                Route(f"{route}/saved-workflows/ada/{{name}}/triggers", self.triggers, methods=["GET", "POST", "PUT"]),
                Route(f"{route}/workflows/ada", self.workflows, methods=["GET", "POST"]),
                Route(f"{route}/workflows/ada/compare", self.compared),
                Route(f"{route}/workflows/ada/{{run}}", self.run),
                Route(f"{route}/workflows/ada/{{run}}/steps/{{step}}/logs", self.log),
                Route(f"{route}/workflows/ada/{{run}}/artifacts/{{digest}}", self.artifact),
                Route(f"{route}/workflows/ada/{{run}}/steps/{{step}}/inputs", self.step_inputs),
                Route(f"{route}/workflows/ada/{{run}}/spec", self.run_spec),
            ],
            exception_handlers={RopewalkError: refuse},
        )

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or be away for as many requests whose path ends so as ``away`` says."""
        for end, times in self.away.items():
            if scope["path"].endswith(end) and times > 0:
                self.away[end] -= 1
                await Response("<html>proxy</html>", status_code=503)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def list_functions(self, request: Request) -> Response:
        return page(list(self.functions.values()))

    async def function(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "PUT":
            return model(self.deploy(FunctionSpec.model_validate(await request.json())))
        if name not in self.functions:
            raise NotFound(f"There is no function {name}.")
        return model(self.functions.pop(name) if request.method == "DELETE" else self.functions[name])

    async def prepare(self, request: Request) -> Response:
        """Build an environment once, and say so; "nothing" does not exist."""
        lines = (await request.json())["requirements"]
        self.prepared.append(tuple(lines))
        if self.prepared.count(tuple(lines)) > 1:
            return Response("")
        said = [LogLine(offset=at, text=f"installing {one}").model_dump_json() for at, one in enumerate(lines, 1)]
        if "nothing" in lines:
            problem = BadInput("The requirements cannot be met: nothing is not there.", field="requirements").problem()
            said.append(json.dumps({"problem": problem}))
        return Response("\n\n".join(said))

    def deploy(self, spec: FunctionSpec) -> Function:
        fit(spec.placement, HERE)
        name, have = spec.name, self.functions.get(spec.name)
        if have and same(have.revision.spec, spec):
            return have.model_copy(update={"unchanged": True})
        number = have.revision.number + 1 if have else 1
        kept = [] if have is None else self.revisions[name]
        twin = next((one.id for one in kept if same(one.spec, spec)), f"r{number}")
        revision = Revision(id=twin, number=number, spec=spec, environment="e1")
        self.revisions[name] = [revision, *kept]
        self.functions[name] = Function(
            owner="ada",
            name=name,
            revision=revision,
            status=Status(state=State.IDLE),
            address=f"http://{name}--fn--ada.localhost:8001/",
            traffic=have.traffic if have else Traffic(),
            access=have.access if have else Access(),
        )
        return self.functions[name]

    async def list_revisions(self, request: Request) -> Response:
        return page([one.summary() for one in self.revisions[request.path_params["name"]]])

    async def revision(self, request: Request) -> Response:
        return model(self.kept(request.path_params["name"], request.path_params["number"]))

    async def roll_back(self, request: Request) -> Response:
        name = request.path_params["name"]
        deployed = self.deploy(self.kept(name, (await request.json())["number"]).spec)
        shares = tuple(one.model_copy(update={"weight": 0}) for one in deployed.traffic.shares)
        made = deployed.model_copy(update={"traffic": Traffic(shares=shares)})
        self.functions[name] = made.model_copy(update={"unchanged": False})
        return model(made)

    async def split(self, request: Request) -> Response:
        name, wish = request.path_params["name"], weights((await request.json())["shares"])
        shares = tuple(
            Share(
                number=one,
                revision=self.kept(name, one).id,
                weight=wish[one],
                address=f"http://r{one}--{name}--fn--ada.localhost:8001/",
            )
            for one in sorted(wish)
            if one
        )
        changed = {"traffic": Traffic(latest=wish[0], shares=shares)}
        self.functions[name] = self.functions[name].model_copy(update=changed)
        return model(self.functions[name])

    async def share(self, request: Request) -> Response:
        name = request.path_params["name"]
        access = checked(Access.model_validate(await request.json()), "ada")
        if "nosuch" in access.accounts:
            raise BadInput("There is no account 'nosuch'.", field="accounts")
        self.functions[name] = self.functions[name].model_copy(update={"access": access})
        return model(self.functions[name])

    async def keys(self, request: Request) -> Response:
        if request.method == "GET":
            return page([one.listed() for one in self.made])
        wish = await request.json()
        kept, told = callkeys.make(f"{len(self.made):010}", wish["label"], wish["calls"], wish["seconds"], 1.0)
        self.made.append(kept)
        return model(told)

    async def revoke(self, request: Request) -> Response:
        [ended] = [one for one in self.made if one.id == request.path_params["key"]]
        self.made.remove(ended)
        return model(ended.listed())

    async def secret(self, request: Request) -> Response:
        name = request.path_params["name"]
        [*had] = [one for one in self.stored if one.name == name]
        self.stored = [one for one in self.stored if one.name != name]
        if request.method == "DELETE":
            if not had:
                raise NotFound(f"There is no secret {name}.")
            return model(had[0])
        self.values[name] = (await request.json())["value"]
        self.stored.append(StoredSecret(owner="ada", name=name, stored=1.0))
        return model(self.stored[-1])

    async def triggers(self, request: Request) -> Response:
        name = request.path_params["name"]
        have = self.called.setdefault(name, [])
        if request.method == "GET":
            return page(have)
        body = await request.json()
        specs = [TriggerSpec.model_validate(one) for one in body.get("triggers", [body])]
        known = {} if request.method == "POST" else {one.spec: one for one in have}
        start = sum(map(len, self.called.values()))
        made = [
            known.get(spec)
            or Trigger(id=f"t-{start + number}", owner="ada", name=name, spec=wishes.checked(spec, 1.0), created=1.0)
            for number, spec in enumerate(specs)
        ]
        if request.method == "PUT":
            self.called[name] = made
            return page(made)
        have += made
        return model(made[0])

    async def trigger(self, request: Request) -> Response:
        name, act = request.path_params["name"], request.path_params.get("act", "")
        [one] = [each for each in self.called.get(name, []) if each.id == request.path_params["trigger"]]
        if act == "fire":
            return model(await self.spawn(None, f"http://{name}--", b'{"args": [21], "kwargs": {}}', "by hand"))
        have = self.called[name]
        if request.method == "DELETE":
            have.remove(one)
            return model(one)
        have[have.index(one)] = changed = one.model_copy(update={"paused": act == "pause"})
        return model(changed)

    def kept(self, name: str, number: int) -> Revision:
        """Return a revision, or raise as the platform does."""
        for one in self.revisions.get(name, []):
            if one.number == number:
                return one
        raise NotFound(f"There is no revision {number} of '{name}'.", field="number")

    async def describe(self, request: Request) -> Response:
        return JSONResponse(openapi.describe(self.functions[request.path_params["name"]]))

    async def list_calls(self, request: Request) -> Response:
        return page(self.calls)

    async def count(self, request: Request) -> Response:
        window: Window = "day" if request.query_params["window"] == "day" else "hour"
        name, now = request.path_params["name"], time.time()
        return model(self.counted.figures(window, now, owner="ada", function=name))

    async def cost(self, request: Request) -> Response:
        name, days = request.path_params.get("name", ""), self.counted.days(time.time())
        return model(Costs(owner="ada", function=name, days=days))

    async def spawn(self, client: Any, address: str, body: bytes, key: str) -> DurableCall:
        """Accept a call as the gateway does, and carry it out when its result is asked for."""
        function = address.removeprefix("http://").partition("--")[0]
        known = next((one for one in self.durable.values() if one.key == f"{function} {key}"), None)
        if known is not None:
            return known
        number = f"{function}.{len(self.durable):018}"
        status = Status(state=State.WAITING)
        call = DurableCall(
            id=number, owner="ada", function=function, status=status, created=1.0, key=f"{function} {key}"
        )
        self.durable[number] = call
        bundle, scope = self.functions[function].revision.spec.bundle, {}  # type: dict[str, Any]
        exec("\n".join(bundle.files.values()), scope)
        given = json.loads(body)
        self.results[number] = scope[bundle.entry.partition(":")[2]](*given["args"], **given["kwargs"])
        return call

    async def list_durable(self, request: Request) -> Response:
        return page([one for one in self.durable.values() if one.function == request.query_params["function"]][::-1])

    async def durable_call(self, request: Request) -> Response:
        call = request.path_params["call"]
        if call not in self.durable:
            raise NotFound(f"There is no durable call {call}.")
        return model(self.durable.pop(call) if request.method == "DELETE" else self.durable[call])

    async def durable_result(self, request: Request) -> Response:
        one = self.durable[request.path_params["call"]]
        if one.status.state is State.FAILED:
            raise UserCodeFailed("It failed.", details={"wait": False})
        if one.status.state is State.WAITING:
            self.durable[one.id] = one.model_copy(update={"status": Status(state=State.DONE), "attempt": 1})
            return JSONResponse(one.model_dump(mode="json"), status_code=202)
        return Response(json.dumps(self.results[one.id]), media_type="application/octet-stream")

    async def durable_act(self, request: Request) -> Response:
        call, state = request.path_params["call"], {"cancel": State.STOPPED, "replay": State.WAITING}
        status = Status(state=state[request.path_params["act"]])
        self.durable[call] = self.durable[call].model_copy(update={"status": status})
        return model(self.durable[call])

    async def list_services(self, request: Request) -> Response:
        return page(list(self.services.values()))

    async def service(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "PUT":
            spec = ServiceSpec.model_validate(await request.json())
            fit(spec.placement, HERE)
            self.services[name] = Service(
                owner="ada",
                spec=spec,
                status=Status(state=State.RUNNING),
                address=f"http://{name}--ada.localhost:8001/",
            )
        if name not in self.services:
            raise NotFound(f"There is no service {name}.")
        return model(self.services.pop(name) if request.method == "DELETE" else self.services[name])

    async def workflows(self, request: Request) -> Response:
        if request.method == "GET":
            return page([one.model_copy(update={"steps": ()}) for one in reversed(self.runs.values())])
        spec = RunSpec.model_validate(await request.json())
        self.submitted.append(spec)
        same = [one for one in self.runs.values() if one.name == spec.name and not spec.fresh]
        if same:
            return model(same[-1].model_copy(update={"unchanged": True}))
        run = Run(id=f"run-{len(self.runs)}", owner="ada", name=spec.name, status=Status(state=State.ASKED))
        self.runs[run.id] = run
        return model(run)

    async def save(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "PUT":
            version = self.saved[name].version + 1 if name in self.saved else 1
            self.saved[name] = Saved(owner="ada", spec=SavedSpec.model_validate(await request.json()), version=version)
        if name not in self.saved:
            raise NotFound(f"There is no saved workflow {name}.")
        return model(self.saved.pop(name) if request.method == "DELETE" else self.saved[name])

    async def launch(self, request: Request) -> Response:
        saved, body = self.saved[request.path_params["name"]], await request.json()
        self.submitted.append(launching.launched(saved.spec, body["arguments"], fresh=body["fresh"]))
        run = Run(id=f"run-{len(self.runs)}", owner="ada", name=saved.name, status=Status(state=State.ASKED))
        self.runs[run.id] = run
        return model(run)

    async def compared(self, request: Request) -> Response:
        name, steps = request.query_params["name"], request.query_params.getlist("step")
        runs = [one for one in reversed(self.runs.values()) if one.name == name]
        if not runs:
            raise NotFound(f"There is no run of '{name}'.")
        rows = [comparison.row(one, {each.name: each for each in one.steps if each.name in steps}) for one in runs]
        return model(Comparison(owner="ada", name=name, rows=tuple(rows)))

    async def run(self, request: Request) -> Response:
        name = request.path_params["run"]
        if name not in self.runs:
            raise NotFound(f"There is no run {name}.")
        if script := self.scripts.get(name):
            self.runs[name] = script.pop(0)
        return model(self.runs[name])

    async def log(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 0))
        lines = self.logs.get(request.path_params.get("step") or request.path_params["name"], [])
        rows = [{"offset": at + 1, "text": text} for at, text in enumerate(lines) if at >= after]
        return Response("".join(json.dumps(row) + "\n" for row in rows), media_type="application/x-ndjson")

    async def artifact(self, request: Request) -> Response:
        return Response(self.artifacts[request.path_params["digest"]])

    async def run_spec(self, request: Request) -> Response:
        if not self.submitted:
            raise NotFound("There is no such run.")
        return model(self.submitted[-1])

    async def step_inputs(self, request: Request) -> Response:
        if request.path_params["step"] not in self.inputs:
            raise NotFound("The inputs of the step are not there.")
        return model(self.inputs[request.path_params["step"]])

    def keep(self, name: str, value: Any) -> Artifact:
        """Keep a step's value and return its artifact."""
        content, kind = values.encode(value)
        digest = f"digest-{len(self.artifacts)}"
        self.artifacts[digest] = content
        return Artifact(name=name, digest=digest, size=len(content), media_type=kind)


def step(name: str, state: State, *needs: str, template: str = "", **facts: Any) -> Step:
    """Return a step that started a second ago."""
    now = time.time()
    ended = now if state.terminal else None
    status = Status(state=state)
    return Step(
        id=name, name=name, template=template or name, status=status, needs=needs, started=now - 1, ended=ended, **facts
    )


def same(one: FunctionSpec, other: FunctionSpec) -> bool:
    """Compare content; where the lines came from does not count."""
    return one.model_copy(update={"bundle": one.bundle.digest}) == other.model_copy(
        update={"bundle": other.bundle.digest}
    )


def model(one: Any) -> Response:
    return Response(one.model_dump_json(), media_type="application/json")


def page(items: list[Any]) -> Response:
    return model(Page[Any](items=tuple(items)))


async def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RopewalkError)
    return JSONResponse(error.problem(), status_code=error.status)
