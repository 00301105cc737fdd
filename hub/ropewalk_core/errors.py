"""The tree of failures: every failure that crosses a module boundary is one of these.

Each class has a stable ``code``, an HTTP ``status``, whether the person may read the message (``public``) and a
``hint`` that says what to do next. The page of each code is ``docs/errors.md``; a test compares the two.

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

from collections.abc import Iterator
from typing import Any, ClassVar


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
    default_hint: ClassVar[str] = "Try again; if it happens again, tell your administrator the code and the time."

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

    def problem(self, *, reveal: bool = False) -> dict[str, Any]:
        """Return the body that crosses a process or HTTP boundary.

        ``reveal`` keeps the message of a non-public error; only a log may ask for it.
        """
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
    """A field, a line or a value is wrong."""

    code, status = "RW-BAD-INPUT", 422
    default_hint = "Correct the field and send it again; nothing was changed."


class BadName(BadInput):
    """A name cannot be used."""

    code = "RW-BAD-NAME"
    default_hint = "Use 1 to 32 small letters, digits and single dashes, starting with a letter."


class BadCode(BadInput):
    """The person's code does not compile, or something it uses cannot be captured."""

    code = "RW-BAD-CODE"
    default_hint = "Correct the cell and run it again; the version that ran before is untouched."


class BadValues(BadInput):
    """Values given to a template break its schema."""

    code = "RW-BAD-VALUES"


class BadWorkflow(BadInput):
    """A workflow cannot run as written: a cycle, an unknown step, an unsupported field."""

    code = "RW-BAD-WORKFLOW"
    default_hint = "Correct the workflow and submit it again; nothing was started."


class BadPath(BadInput):
    """A path leaves its volume, or is not a regular file or folder."""

    code = "RW-BAD-PATH"
    default_hint = "Use a path inside your files, without '..' and links."


class Unsatisfiable(BadInput):
    """No node can ever satisfy the placement that was asked for."""

    code = "RW-UNSATISFIABLE"
    default_hint = "Ask for what exists, or leave the field out."


class TooLarge(BadInput):
    """A payload, a file or a bundle is over its limit."""

    code, status = "RW-TOO-LARGE", 413
    default_hint = "Send less, or pass the data as a file."


class Unauthenticated(RopewalkError):
    """Nobody is signed in, or the token is not valid any more."""

    code, status = "RW-SIGN-IN", 401
    default_hint = "Sign in, or take a fresh token with `ropewalk token`."


class Denied(RopewalkError):
    """The person is known and may not do this."""

    code, status = "RW-DENIED", 403
    default_hint = "Ask the owner or an administrator."


class WrongOrigin(Denied):
    """The request did not come from the platform's own pages."""

    code = "RW-WRONG-ORIGIN"
    default_hint = "Open the platform at its own address and try there."


class NotApproved(Denied):
    """The account waits for an administrator, or was deactivated."""

    code = "RW-NOT-APPROVED"
    default_hint = "An administrator approves new accounts on the People page."


class NotFound(RopewalkError):
    """There is no such thing, or it belongs to somebody else."""

    code, status = "RW-NOT-FOUND", 404
    default_hint = "Look at the list for the exact name."


class Conflict(RopewalkError):
    """The thing changed meanwhile, or is in a state that forbids this."""

    code, status = "RW-CONFLICT", 409
    default_hint = "Load it again and repeat your change."


class NameTaken(Conflict):
    """The name belongs to something else."""

    code = "RW-NAME-TAKEN"
    default_hint = "Choose another name."


class HomeHeld(Conflict):
    """Another `ropewalk up` holds this home."""

    code = "RW-HOME-HELD"
    default_hint = "Use that one, stop it with `ropewalk down`, or give this one another --home."


class WouldBreak(Conflict):
    """A package would break what the person's environment needs."""

    code = "RW-WOULD-BREAK"
    default_hint = "Install another version of the package."


class Limited(RopewalkError):
    """Too many requests or too much at once."""

    code, status = "RW-LIMITED", 429
    default_hint = "Wait a moment and try again."

    def __init__(self, message: str, *, retry_after: float = 1.0, **keywords: Any) -> None:
        super().__init__(message, **keywords)
        self.retry_after = float(self.details.setdefault("retry_after", retry_after))


class UserCodeFailed(RopewalkError):
    """The person's own code raised. ``details['traceback']`` is for its owner only."""

    code, status = "RW-USER-CODE", 500
    default_hint = "Look at the traceback, correct your code and run it again."


class OutOfMemory(UserCodeFailed):
    """The person's code used more memory than its placement allows."""

    code = "RW-OUT-OF-MEMORY"
    default_hint = "Ask for more: Placement(memory=...)."


class TimedOut(UserCodeFailed):
    """The person's code ran over its time."""

    code, status = "RW-TIMED-OUT", 504
    default_hint = "Give it more time with timeout=..., or make it do less."


class Unavailable(RopewalkError):
    """A part of the platform is away; the supervisor is restarting it."""

    code, status = "RW-UNAVAILABLE", 503
    default_hint = "Try again in a few seconds."


class StorageFull(RopewalkError):
    """The disk or the quota is full; nothing was half-written."""

    code, status = "RW-STORAGE-FULL", 507
    default_hint = "Remove files you do not need, or ask for more space."


class Internal(RopewalkError):
    """Our own fault. The message stays in the log."""

    code, status, public = "RW-INTERNAL", 500, False


def all_errors() -> Iterator[type[RopewalkError]]:
    """Yield every class of the tree, the base first."""
    stack: list[type[RopewalkError]] = [RopewalkError]
    while stack:
        one = stack.pop()
        yield one
        stack.extend(one.__subclasses__())


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
