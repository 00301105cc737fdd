"""The tree of failures: every failure that crosses a module boundary is one of these.

Each class has a stable ``code``, an HTTP ``status``, whether the person may read the message (``public``) and a
``hint`` that says what to do next. The words of each class are also its entry in ``docs/errors.md`` and in the
platform's ``/help/errors``: its docstring says what happened, ``example`` how that reads, ``default_hint`` what to do.

    RopewalkError
    ├── BadInput            RW-BAD-INPUT           422   a field, a line or a value is wrong
    │   ├── BadName         RW-BAD-NAME            422
    │   ├── BadCode         RW-BAD-CODE            422   the person's code does not compile or cannot be captured
    │   ├── BadValues       RW-BAD-VALUES          422   template values break their schema
    │   ├── BadWorkflow     RW-BAD-WORKFLOW        422   a cycle, an unknown step, an unsupported field
    │   ├── BadPath         RW-BAD-PATH            422   a path leaves its volume
    │   ├── Unsatisfiable   RW-UNSATISFIABLE       422   no node can ever satisfy the placement
    │   └── TooLarge        RW-TOO-LARGE           413
    ├── Unauthenticated     RW-SIGN-IN             401
    ├── Denied              RW-DENIED              403
    │   ├── WrongOrigin     RW-WRONG-ORIGIN        403   the request did not come from our own page
    │   └── NotApproved     RW-NOT-APPROVED        403   the account waits for an administrator
    ├── NotFound            RW-NOT-FOUND           404
    ├── Conflict            RW-CONFLICT            409
    │   ├── NameTaken       RW-NAME-TAKEN          409
    │   ├── HomeHeld        RW-HOME-HELD           409   another ``ropewalk up`` holds this home
    │   └── WouldBreak      RW-WOULD-BREAK         409   a package would break the person's environment
    ├── Limited             RW-LIMITED             429   too many at once; try later
    ├── UserCodeFailed      RW-USER-CODE           500   the person's own code raised; its owner sees the traceback
    │   ├── OutOfMemory     RW-OUT-OF-MEMORY       500
    │   └── TimedOut        RW-TIMED-OUT           504
    ├── Unavailable         RW-UNAVAILABLE         503   a part of the platform is away; it is being restarted
    ├── StorageFull         RW-STORAGE-FULL        507
    └── Internal            RW-INTERNAL            500   our fault; the message stays in the log

Rejected: one class per HTTP status (a status does not say what to do next), and error codes as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Self


class RopewalkError(Exception):
    """The base of all our failures.

    Parameters
    ----------
    message
        One clear sentence for the person.
    hint
        What to do next; a class default is used when omitted.
    field
        The name of the field, or ``cell line 3``, or the limit that was hit.
    details
        Further JSON-serialisable facts: a traceback, what was asked, what exists.
    """

    code: ClassVar[str] = "RW-INTERNAL"
    status: ClassVar[int] = 500
    public: ClassVar[bool] = True
    example: ClassVar[str] = ""
    default_hint: ClassVar[str] = "Do the same again; if it fails again, tell your administrator the code and the time."

    def __init__(
        self, message: str, *, hint: str | None = None, field: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.field = field
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.message} [{self.code}] {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (from_problem, (self.problem(reveal=True),))

    def problem(self, *, reveal: bool = False, origin: str = "") -> dict[str, Any]:
        """Return the body that crosses a process or HTTP boundary.

        ``reveal`` keeps the message of a non-public error; only a log may ask for it. With ``origin``, the platform's,
        ``type`` is the address that explains the code.
        """
        body = self._body(reveal)
        return body | {"type": help_address(origin, self.code)} if origin else body

    def _body(self, reveal: bool) -> dict[str, Any]:
        if not (self.public or reveal):
            return {
                "code": self.code,
                "message": "Something went wrong on our side.",
                "hint": self.hint,
                "field": None,
                "details": {},
            }
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "field": self.field,
            "details": self.details,
        }


class BadInput(RopewalkError):
    """A field, a line or a value is wrong. `field` names it; nothing was changed."""

    code, status = "RW-BAD-INPUT", 422
    example = "'timeout' must be more than 0."
    default_hint = "Correct the field and send it again; nothing was changed."


class BadName(BadInput):
    """A name cannot be used for an account, a service, a function or a step.

    A few words such as `api` and `hub` are reserved.
    """

    code = "RW-BAD-NAME"
    example = "The name 'My_Model' cannot be used."
    default_hint = "Use 1 to 32 small letters, digits and single dashes, starting with a letter."


class BadCode(BadInput):
    """Your code does not compile, or something that it uses cannot be taken along. `field` names the cell's line."""

    code = "RW-BAD-CODE"
    example = "helpers.py does not compile: '(' was never closed."
    default_hint = "Correct the cell and run it again; the version that ran before is untouched."


class BadValues(BadInput):
    """Values for a service's template break its schema. `field` names the value."""

    code = "RW-BAD-VALUES"
    example = "'Port' must be a whole number, not 'many'."
    default_hint = "Correct the value and launch it again; the launch form of the template explains each of its values."


class BadWorkflow(BadInput):
    """A workflow cannot run as written: a cycle, an unknown step, a field that no engine here supports."""

    code = "RW-BAD-WORKFLOW"
    example = "The tasks train > score > train wait for one another: a cycle."
    default_hint = "Correct the workflow and submit it again; nothing was started."


class BadPath(BadInput):
    """A path leaves your files, goes through a link, or does not name a regular file or folder."""

    code = "RW-BAD-PATH"
    example = "The path '../bob/notes.txt' cannot be used."
    default_hint = "Use a path inside your files, without '..' and links."


class Unsatisfiable(BadInput):
    """No machine that exists, and none that could be added, satisfies the placement.

    `details` holds what was asked and what exists.
    """

    code = "RW-UNSATISFIABLE"
    example = (
        "No machine here can give accelerator npu. There is this machine: arch amd64, 2 cores, 7.6 GiB of memory, no "
        "accelerator."
    )
    default_hint = "Ask for what exists (`ropewalk accelerators list`), or leave the field out."


class TooLarge(BadInput):
    """A payload, a function's answer, a file or the captured code is over its limit. `field` names the limit."""

    code, status = "RW-TOO-LARGE", 413
    example = "The request is larger than 33554432 bytes."
    default_hint = "Send or return less, or pass the data as a file."


class Unauthenticated(RopewalkError):
    """Nobody is signed in, the sign-in has ended, or the token is not valid any more.

    A token is good for ten minutes.
    """

    code, status = "RW-SIGN-IN", 401
    example = "The token is not valid, or it has ended."
    default_hint = "Sign in, or take a fresh token with `ropewalk token`."


class Denied(RopewalkError):
    """You are known and may not do this."""

    code, status = "RW-DENIED", 403
    example = "Only an administrator can see and change accounts."
    default_hint = "Ask the owner or an administrator."


class WrongOrigin(Denied):
    """A request that changes something did not come from the platform's own pages.

    Pages of notebooks and services cannot act in your name. For a call of a function: it came from a web page that is
    not on the function's list.
    """

    code = "RW-WRONG-ORIGIN"
    example = "This request did not come from a page of the platform, so it was refused."
    default_hint = "Open the platform at its own address and do it there. Programs send a token instead of a cookie."


class NotApproved(Denied):
    """The account waits for an administrator, or was deactivated."""

    code = "RW-NOT-APPROVED"
    example = "Your account waits for an administrator to approve it."
    default_hint = "An administrator approves accounts on the People page, or with `ropewalk accounts approve NAME`."


class NotFound(RopewalkError):
    """There is no such thing, or it belongs to somebody else; the two answers are the same on purpose."""

    code, status = "RW-NOT-FOUND", 404
    example = "There is no such service."
    default_hint = "Look for its exact name in your own list, on its page or with the `list` of the command line."

    @classmethod
    def named(cls, noun: str, message: str, *, field: str | None = None) -> Self:
        """Return the error for a thing whose kind has a list: ``noun`` is its plural, as the command line says it."""
        return cls(message, field=field, hint=f"Look for its exact name with `ropewalk {noun} list`, or on its page.")


class Conflict(RopewalkError):
    """The thing changed meanwhile, or is in a state that forbids this."""

    code, status = "RW-CONFLICT", 409
    example = "The function 'digits' changed meanwhile."
    default_hint = "Load it again and repeat your change."


class NameTaken(Conflict):
    """The name belongs to something else. Names of accounts are never used a second time."""

    code = "RW-NAME-TAKEN"
    example = "The name 'ada' is taken."
    default_hint = "Choose another name."


class HomeHeld(Conflict):
    """Another `ropewalk up` holds this home. `details` holds its process id."""

    code = "RW-HOME-HELD"
    example = "The home /home/ada/.local/state/ropewalk is held by process 4711 at http://localhost:8000."
    default_hint = "Use that one, stop it with `ropewalk down`, or give this one another `--home`."


class WouldBreak(Conflict):
    """Installing a package would replace one that your environment needs to speak to the platform."""

    code = "RW-WOULD-BREAK"
    example = "Installing this would replace pydantic 2.12 with 1.10, which ropewalk needs."
    default_hint = "Install a version of the package that works with the one that is there; the message names it."


class Limited(RopewalkError):
    """Too many requests, or too much at once.

    The answer's `Retry-After` says for how long; the client waits by itself for a while.
    """

    code, status = "RW-LIMITED", 429
    example = "Too many tries. Wait 30 seconds, then try again."
    default_hint = "Wait as long as it says, then do the same again; nothing was changed."

    def __init__(self, message: str, *, retry_after: float = 1.0, **keywords: Any) -> None:
        super().__init__(message, **keywords)
        said = self.details.setdefault("retry_after", retry_after)
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said < math.inf:
            said = self.details["retry_after"] = retry_after  # what was rebuilt from JSON may hold anything there
        self.retry_after = float(said)
        if not keywords.get("hint"):
            self.hint = f"Wait {max(1, round(self.retry_after))} s, then do the same again; nothing was changed."


class UserCodeFailed(RopewalkError):
    """Your own code raised. You see the traceback, with the lines of your cells; nobody else does."""

    code, status = "RW-USER-CODE", 500
    example = "The function raised ValueError."
    default_hint = "Look at the traceback, correct your code and run it again."


class OutOfMemory(UserCodeFailed):
    """Your code used more memory than its placement allows, and was ended."""

    code = "RW-OUT-OF-MEMORY"
    example = "The step 'train' ran out of memory and was ended. It may use 2Gi."
    default_hint = "Ask for more than its limit with `Placement(memory=...)`, or use less."


class TimedOut(UserCodeFailed):
    """Your code ran over its time, and was ended."""

    code, status = "RW-TIMED-OUT", 504
    example = "The function 'digits' ran over its time and was ended after 60 s."
    default_hint = "Give it more time with `timeout=`, or make it do less."


class Unavailable(RopewalkError):
    """A part of the platform is away; it is being restarted. What was acknowledged is not lost."""

    code, status = "RW-UNAVAILABLE", 503
    example = "JupyterHub does not answer; it is being restarted."
    default_hint = (
        "It comes back by itself, as a rule within a minute: do the same again then. If it lasts, `ropewalk doctor` "
        "says what is wrong."
    )


class StorageFull(RopewalkError):
    """The disk is full, or your files are at their limit. Nothing was half-written."""

    code, status = "RW-STORAGE-FULL", 507
    example = "Your files would be over their limit of 20Gi; nothing was written."
    default_hint = "Remove files you do not need, or ask for more space."


class Internal(RopewalkError):
    """Our own fault. The message stays in the log, under the mark that the hint names."""

    code, status, public = "RW-INTERNAL", 500, False
    example = "Something went wrong on our side."
    default_hint = "Do the same again. If it happens again, tell your administrator the code, the time and the mark."


def help_address(origin: str, code: str) -> str:
    """Return where a running platform explains a code."""
    return f"{origin}/help/errors#{code}"


def all_errors() -> Iterator[type[RopewalkError]]:
    """Yield every class of the tree, the base first."""
    stack: list[type[RopewalkError]] = [RopewalkError]
    while stack:
        one = stack.pop()
        yield one
        stack.extend(one.__subclasses__())


def documented() -> tuple[type[RopewalkError], ...]:
    """Return the classes that people meet, in the order of the tree."""
    found = [one for one in globals().values() if isinstance(one, type) and issubclass(one, RopewalkError)]
    return tuple(one for one in found if one is not RopewalkError)


def from_problem(problem: dict[str, Any]) -> RopewalkError:
    """Rebuild the error that `RopewalkError.problem` wrote; an unknown code becomes the base class."""
    classes = {one.code: one for one in all_errors() if one is not RopewalkError}
    chosen = classes.get(str(problem.get("code")), RopewalkError)
    details = problem.get("details")
    return chosen(
        str(problem.get("message", "Something went wrong.")),
        hint=problem.get("hint"),
        field=problem.get("field"),
        details=details if isinstance(details, dict) else None,
    )
