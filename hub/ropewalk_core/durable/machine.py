"""What becomes of one durable call: ``step(call, event, policy, now)``. Pure.

    waiting --Begun--> running --Answered--> done
       ^  ^               |----Failed------> failed, a dead letter --Replayed--> waiting
       |  '---retry-------|
       '------Returned----'          waiting, running --Canceled--> stopped

An event that does not fit is none: a report of an attempt that is not the latest, or of a call that has ended, changes
nothing, so that everything may be reported twice and one result is recorded. Not here: where calls are kept (``desk``).
Rejected: counting retries where they are carried out; whatever carries them may be killed by the call itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ropewalk_core.errors import (
    BadInput,
    Limited,
    RopewalkError,
    StorageFull,
    TimedOut,
    TooLarge,
    Unavailable,
    UserCodeFailed,
    from_problem,
)
from ropewalk_core.model import DurableCall, FunctionRoute, FunctionSpec, State, Status, Why
from ropewalk_runtime.bundle import RAW

LONGEST_PAUSE = 600.0
"""Seconds that a retry is waited for at most."""
CROWDED = 1.0
"""Seconds until a call for which there was no room is tried again."""
LONGEST_TEXT = 70_000


@dataclass(frozen=True)
class Policy:
    """Which failures are worth a retry, how many, and how soon."""

    retries: int = 0
    errors: bool = False
    wait: float = 1.0

    @classmethod
    def of(cls, spec: FunctionSpec) -> Policy:
        """Return a function's own."""
        return cls(spec.retries, spec.retry_errors, spec.retry_wait)

    def worth(self, error: RopewalkError) -> bool:
        """Say whether a failure may pass by itself: what was lost or took too long, and no wrong argument.

        A result for which there is no space is there, and to run again would not make any.
        """
        if isinstance(error, UserCodeFailed) and not isinstance(error, TimedOut):
            return self.errors
        if isinstance(error, StorageFull):
            return False
        return error.status >= 500 or isinstance(error, Limited)

    def pause(self, spent: int, chance: float) -> float:
        """Return the seconds before the next attempt after so many, a little apart from others' (0 to 1)."""
        return float(min(self.wait * 2.0 ** min(spent - 1, 30), max(LONGEST_PAUSE, self.wait)) * (1.0 + 0.2 * chance))


@dataclass(frozen=True)
class Begun:
    """A life of the gateway takes it; on disk before the gateway hears of it, so no attempt is uncounted."""

    holder: str


@dataclass(frozen=True)
class Answered:
    """An attempt gave a result of so many bytes."""

    attempt: int
    size: int
    call: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Failed:
    """An attempt failed."""

    attempt: int
    problem: dict[str, Any] = field(default_factory=dict)
    call: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Returned:
    """An attempt was taken, but it certainly did not begin; it does not count."""

    attempt: int
    pause: float = 0.0


@dataclass(frozen=True)
class Canceled:
    """The person does not want it any more."""


@dataclass(frozen=True)
class Replayed:
    """The person wants a dead letter tried again."""


Event: TypeAlias = Begun | Answered | Failed | Returned | Canceled | Replayed


def lost() -> dict[str, Any]:
    """Return the failure of an attempt of which nothing was heard again."""
    return Unavailable("The gateway that carried this call was ended.", hint="It may have run.").problem()


def refuse_raw(route: FunctionRoute) -> None:
    """Refuse durable calls of what answers requests as they come: status and headers of an answer are no result.

    Raises
    ------
    BadInput
        If the function is such a one.
    """
    form = route.spec.bundle.form
    if form in RAW:
        what = "an ASGI app" if form == "asgi" else "a program that listens"
        raise BadInput(
            f"'{route.name}' is {what}, which has no durable calls.",
            field="function",
            hint="Ask it directly; a function, a generator, a class or a program for each call can be spawned.",
        )


def refuse_long(size: int, most: int) -> None:
    """Refuse arguments that are larger than is kept.

    Raises
    ------
    TooLarge
        If they are.
    """
    if size > most:
        raise TooLarge(
            f"The arguments are {size} bytes, over the {most} that a durable call may have.",
            field="limits.durable_payload",
            hint="Send numpy arrays or data frames, which go as files by themselves, or the path of a file.",
        )


def too_long(size: int, most: int) -> TooLarge:
    """Return the failure of a result that is larger than is kept."""
    return TooLarge(
        f"The result is {size} bytes, over the {most} that a durable call may have.",
        field="limits.durable_payload",
        hint="Write it to a file and return its path.",
    )


def step(
    call: DurableCall, event: Event, policy: Policy, now: float, *, kept: float = 0.0, chance: float = 0.0
) -> DurableCall:
    """Return the call after an event; the very same object if the event does not fit.

    Parameters
    ----------
    call
        The call as it is.
    event
        What happened.
    policy
        The function's, as it is now.
    now
        Unix time in seconds.
    kept
        Seconds that it is kept after its end.
    chance
        A number from 0 to 1 that keeps retries of many calls apart.
    """
    state = call.status.state
    if isinstance(event, Canceled):
        return call if state.terminal else _ended(call, State.STOPPED, now, kept, problem={})
    if isinstance(event, Replayed):
        if state is not State.FAILED:
            return call
        status = Status(state=State.WAITING, since=now, note="replayed")
        fresh = {"due": now, "spent": 0, "problem": {}, "ended": None, "expires": None}
        return call.model_copy(update={"status": status, **fresh})
    if isinstance(event, Begun):
        if state is not State.WAITING:
            return call
        begun = {"attempt": call.attempt + 1, "spent": call.spent + 1, "holder": event.holder}
        return call.model_copy(update={"status": Status(state=State.RUNNING, since=now), **begun})
    if state is not State.RUNNING or event.attempt != call.attempt:
        return call
    if isinstance(event, Returned):
        return _waiting(call, now, now + event.pause, call.status.why).model_copy(update={"spent": call.spent - 1})
    ran = call.model_copy(update={"call": event.call, "revision": event.revision, "holder": ""})
    if isinstance(event, Answered):
        return _ended(ran, State.DONE, now, kept, result=event.size, problem={})
    return _failed(ran, event.problem, policy, now, kept, chance)


def _failed(
    call: DurableCall, problem: dict[str, Any], policy: Policy, now: float, kept: float, chance: float
) -> DurableCall:
    problem = bounded(from_problem(problem))
    error = from_problem(problem)
    if isinstance(error, Limited) and error.details.get("wait", True):  # refused for lack of room: it did not begin
        again = _waiting(call, now, now + max(CROWDED, min(error.retry_after, LONGEST_PAUSE)), _why(error))
        return again.model_copy(update={"spent": call.spent - 1})
    told = call.model_copy(update={"problem": problem})
    if policy.worth(error) and call.spent <= policy.retries:
        return _waiting(told, now, now + policy.pause(call.spent, chance), _why(error))
    return _ended(told, State.FAILED, now, kept, why=_why(error))


def _waiting(call: DurableCall, now: float, due: float, why: Why | None) -> DurableCall:
    note = "waits to be tried again" if call.problem else ""
    status = Status(state=State.WAITING, since=now, why=why, note=note)
    return call.model_copy(update={"status": status, "due": due, "holder": ""})


def _ended(
    call: DurableCall, state: State, now: float, kept: float, why: Why | None = None, **facts: Any
) -> DurableCall:
    status = Status(state=state, since=now, why=why)
    return call.model_copy(update={"status": status, "holder": "", "ended": now, "expires": now + kept, **facts})


def _why(error: RopewalkError) -> Why:
    return Why(cause=error.message, next=error.hint, code=error.code)


def bounded(error: RopewalkError) -> dict[str, Any]:
    """Return the body of an error as it is kept: its texts come from anybody's code."""
    problem = error.problem(reveal=error.public)
    details = {
        _text(str(key), 100): _text(one, LONGEST_TEXT) if isinstance(one, str) else one
        for key, one in error.details.items()
        if isinstance(one, str | bool | int | float)
    }
    field = None if problem["field"] is None else _text(str(problem["field"]), 200)
    message, hint = _text(str(problem["message"]), 2000), _text(str(problem["hint"]), 2000)
    return problem | {"message": message, "hint": hint, "field": field, "details": details}


def _text(given: str, most: int) -> str:
    """Return text without what no journal holds: halves of surrogate pairs, and zeros."""
    return given[:most].encode(errors="replace").decode().replace("\0", "?")
