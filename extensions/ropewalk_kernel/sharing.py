"""Who may call a function, in a notebook: what a person wrote, cards that say it plainly, and keys that do not leak.

Not here: what may be chosen (``access`` of the core).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ropewalk_core import access, sync
from ropewalk_core.model import CallKey, Function, NewKey
from ropewalk_kernel import calls, cards, live

OPTIONS = frozenset({"access", "origins"})
Wish = tuple[str | Sequence[str] | None, Sequence[str] | None]


def wished(options: Mapping[str, Any]) -> Wish | None:
    """Return what options of a deploy say of who may call; None if they say nothing. Wrong words are refused here."""
    who, origins = options.get("access"), options.get("origins")
    if who is None and origins is None:
        return None
    access.checked(access.chosen(who or "private", origins), "")
    return who, origins


def apply(function: Function, who: str | Sequence[str] | None, origins: Sequence[str] | None) -> Function:
    """Return the function with this choice; what is left out stays."""
    have = function.access
    kept = have.accounts if have.who == "shared" else have.who
    wish = access.checked(access.chosen(kept if who is None else who, origins, before=have), function.owner)
    return sync.wait(sync.client().functions.access(function.name, wish))


class Borrowed:
    """Somebody else's function that its owner lets you call: ``double(21)``, ``await double.aio(21)``.

    Parameters
    ----------
    function
        What the platform shows of it: where it answers, and nothing of its code.
    """

    def __init__(self, function: Function) -> None:
        self.owner, self.name, self.url = function.owner, function.name, function.address

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it with Python values, as you."""
        return calls.call(self.url, args, kwargs)

    async def aio(self, *args: Any, **kwargs: Any) -> Any:
        """Call it without blocking."""
        return await calls.aio(sync.client(), self.url, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("owner", "name", "url"):  # asked of what is not made whole yet
            raise AttributeError(name)
        raise AttributeError(
            f"Of {self.owner}'s function {self.name} you have the call, {self.name}(x) or await {self.name}.aio(x); "
            f"'{name}' is its owner's."
        )

    def __repr__(self) -> str:
        return f"<function {self.name} of {self.owner} on the platform>"


class Keys(cards.Pictured):
    """The keys of a function, as a table; iterate over it for `CallKey`."""

    def __init__(self, items: tuple[CallKey, ...]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[CallKey]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def _picture(self) -> cards.Picture:
        rows = [
            (
                one.id,
                one.label,
                f"{one.calls} calls in {one.seconds} s",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created)),
            )
            for one in self.items
        ]
        return cards.listing("keys", ("id", "label", "quota", "made"), rows, empty="No keys. .add_key() makes one.")


class Secret(cards.Pictured):
    """A key that was made just now; ``text`` is what goes into the header X-Ropewalk-Key."""

    def __init__(self, made: NewKey) -> None:
        self.id, self.text, self._key = made.key.id, made.secret, made.key

    def _picture(self) -> cards.Picture:
        said = f"key {self.id}, {self._key.calls} calls in {self._key.seconds} s; its secret is in .text, and only now"
        return cards.notice(said)


class Shared:
    """The part of a handle that is about who may call."""

    name: str

    def info(self) -> Function:
        """Return the function as it is now."""
        raise NotImplementedError

    def access(self, who: str | Sequence[str] | None = None, *, origins: Sequence[str] | None = None) -> None:
        """Say who may call it, or show who does, as a card. It belongs to the function and stays when it is deployed.

        Parameters
        ----------
        who
            ``"private"`` (you alone, as at first), the names of accounts, or ``"public"``: anybody, without signing in.
        origins
            Web pages of which other origins may call it; left out, those that may already.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.access("private")
        """
        function = self.info()
        if who is not None or origins is not None:
            function = apply(function, who, origins)
        live.show(cards.function_card(function, line=f"function {self.name}: {access.said(function.access)}"))

    def keys(self) -> Keys:
        """Return its keys, without their secrets.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.keys()
        """
        return Keys(sync.wait(sync.client().functions.keys(self.name)).items)

    def add_key(self, label: str = "", *, calls: int = 1000, seconds: int = 3600) -> Secret:
        """Make a key, with which a program without an account calls it: ``-H "X-Ropewalk-Key: ..."``.

        The secret is in the answer's ``text`` and cannot be had again. A notebook shows the key without it, so that it
        does not lie in the notebook's file.

        Parameters
        ----------
        label
            What it is for.
        calls, seconds
            How many calls it is good for in each window, and how long a window is.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> key = double.add_key("website", calls=100, seconds=60)
        >>> double.revoke_key(key.id)
        """
        return Secret(sync.wait(sync.client().functions.add_key(self.name, label=label, calls=calls, seconds=seconds)))

    def revoke_key(self, identifier: str) -> None:
        """End a key; it opens nothing any more.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> for key in double.keys():
        ...     double.revoke_key(key.id)
        """
        sync.wait(sync.client().functions.revoke_key(self.name, identifier))
        live.show(cards.notice(f"function {self.name}: key {identifier} opens nothing any more"))
