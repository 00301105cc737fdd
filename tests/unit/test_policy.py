"""Who may do what: the whole table, and that guards ask it."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import guard, policy, ports
from ropewalk_core.errors import Denied, NotFound
from ropewalk_core.flows import Run
from ropewalk_core.guard_flows import GuardedWorkflows
from ropewalk_core.model import (
    Actor,
    Bundle,
    Function,
    FunctionSpec,
    Revision,
    Service,
    ServiceSpec,
    State,
    Status,
    Why,
)
from ropewalk_core.policy import Allow, Deny, decide

OWNER = Actor(account="ada")
OTHER = Actor(account="bob")
ADMIN = Actor(account="eve", administrator=True)
NOBODY = Actor(account="")

verbs = st.sampled_from(get_args(policy.Verb))
kinds = st.sampled_from([kind for kind in get_args(policy.Kind) if kind != "account"])


@given(verb=verbs, kind=kinds)
def test_owner_may_do_everything_with_their_own(verb: Any, kind: Any) -> None:
    assert decide(OWNER, verb, kind, "ada") == Allow()


@given(verb=verbs, kind=kinds)
def test_a_stranger_does_not_learn_that_it_exists(verb: Any, kind: Any) -> None:
    decision = decide(OTHER, verb, kind, "ada")
    assert isinstance(decision, Deny) and isinstance(decision.error(), NotFound)


@given(verb=verbs, kind=st.sampled_from(get_args(policy.Kind)), owner=st.sampled_from(["", "ada"]))
def test_nobody_may_do_nothing(verb: Any, kind: Any, owner: str) -> None:
    assert isinstance(decide(NOBODY, verb, kind, owner), Deny)


@given(verb=verbs, kind=kinds)
def test_an_administrator_sees_outlines_and_changes_nothing(verb: Any, kind: Any) -> None:
    decision = decide(ADMIN, verb, kind, "ada")
    if isinstance(decision, Allow):
        assert verb in ("list", "get", "watch") or (kind, verb) == ("notebook", "stop")
        assert decision.outline or kind == "notebook"
    else:
        assert isinstance(decision.error(), Denied)


@pytest.mark.parametrize("verb", ["list", "approve", "deactivate"])
def test_only_administrators_manage_accounts(verb: Any) -> None:
    assert decide(ADMIN, verb, "account", "ada") == Allow()
    refusal = decide(OWNER, verb, "account", "ada")
    assert isinstance(refusal, Deny) and isinstance(refusal.error(), Denied)


def test_everybody_sees_their_own_account() -> None:
    assert decide(OWNER, "get", "account", "ada") == Allow()
    assert isinstance(decide(OTHER, "get", "account", "ada"), Deny)


def test_outline_leaves_out_code_and_values() -> None:
    status = Status(state=State.IDLE)
    bundle = Bundle(files={"cell.py": "hush = 1"}, entry="cell:f")
    spec = FunctionSpec(name="f", bundle=bundle, environment={"MODE": "hush"}, secrets=("hush",))
    function = Function(owner="ada", name="f", revision=Revision(id="r", number=1, spec=spec), status=status)
    service = Service(
        owner="ada", spec=ServiceSpec(name="s", template="voila", values={"password": "p"}), status=status
    )
    assert "hush" not in guard.outline(function).model_dump_json()
    assert "password" not in guard.outline(service).model_dump_json()
    why = Why(cause="The step a failed: ValueError: secret", next="secret", code="RW-USER-CODE", raw="secret line")
    failed = Status(state=State.FAILED, why=why)
    run = Run(id="run-1", owner="ada", name="r", status=failed, outputs={"result": "secret"}, arguments={"a": "secret"})
    for noun in (run, service.model_copy(update={"status": failed})):
        assert "secret" not in guard.outline(noun).model_dump_json()
        assert guard.outline(noun).model_dump()["status"]["why"]["code"] == "RW-USER-CODE"


class _Recorder:
    """A port that fails the test when it is reached."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the port was reached by {name}")


class _Empty(_Recorder):
    """Functions, of which none is there: only its own record says with whom one is shared."""

    async def get(self, *_: Any) -> Function:
        raise NotFound("There is none.")


@pytest.mark.parametrize(
    ("guarded", "port"),
    [
        (guard.GuardedNotebooks, ports.Notebooks),
        (guard.GuardedServices, ports.Services),
        (guard.GuardedFunctions, ports.Functions),
        (guard.GuardedDurable, ports.Durable),
        (guard.GuardedTriggers, ports.Triggers),
        (GuardedWorkflows, ports.Workflows),
        (guard.GuardedIdentity, ports.Identity),
        (guard.GuardedStorage, ports.Storage),
    ],
)
async def test_every_method_of_every_port_is_guarded(guarded: Any, port: Any) -> None:
    names = [name for name, _ in inspect.getmembers(port, inspect.isfunction) if not name.startswith("_")]
    one = guarded(_Empty() if port is ports.Functions else _Recorder())
    for name in names:
        wanted, given_ = inspect.signature(getattr(port, name)), inspect.signature(getattr(guarded, name))
        assert wanted.parameters.keys() == given_.parameters.keys(), name
        blanks = ["x" for p in list(wanted.parameters.values())[2:] if p.default is inspect.Parameter.empty]
        blanks = blanks[: sum(p.kind is not p.KEYWORD_ONLY for p in list(wanted.parameters.values())[2:])]
        needed = {
            p.name: "x"
            for p in wanted.parameters.values()
            if p.kind is p.KEYWORD_ONLY and p.default is inspect.Parameter.empty
        }
        with pytest.raises((Denied, NotFound)):
            result = getattr(one, name)(NOBODY, *blanks, **needed)
            if inspect.isawaitable(result):
                await result
