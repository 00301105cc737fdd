"""Which attack is refused by which defence. `docs/walls.md` shows it to people; tests compare, and try each."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Defence:
    """One wall, and how its refusal reads; a network has no words, it is only silent."""

    name: str
    words: str = ""


NETWORK = Defence("network policies of the account's namespace")
GUARD = Defence(
    "Pod Security at `restricted`", r"It asks for rights that no work of people has here|violates PodSecurity"
)
RIGHTS = Defence("roles of the service account", r"Forbidden|cannot|may not")
QUOTA = Defence("the account's quota", r"You use \S+ of \S+")
TOKENLESS = Defence("no token in the pod", r"No such file")
UNPRIVILEGED = Defence("an ordinary user without privileges", r"permission denied|Operation not permitted")

ATTACKS: dict[str, Defence] = {
    "reach another account's pod": NETWORK,
    "reach another account's service by its name": NETWORK,
    "reach a port that is open on every node": NETWORK,
    "reach a node's kubelet": NETWORK,
    "reach the API server": NETWORK,
    "reach the registry that the nodes pull from": NETWORK,
    "fetch the cloud's keys at the metadata address": NETWORK,
    "call another account's pod with the platform's labels on": NETWORK,
    "take the token of the pod's service account": TOKENLESS,
    "list another account's pods with a pod's token": RIGHTS,
    "read the account's own secrets with a pod's token": RIGHTS,
    "read another account's secrets with the token of a release": RIGHTS,
    "make a token of another account": RIGHTS,
    "give oneself a role": RIGHTS,
    "make a volume out of a node's folder": RIGHTS,
    "open a port on every node": QUOTA,
    "take more than one's share": QUOTA,
    "mount a node's folder": GUARD,
    "see the node's processes": GUARD,
    "use the node's network": GUARD,
    "run privileged": GUARD,
    "bring such a pod in by a deployment": GUARD,
    "mount a file system inside a pod": UNPRIVILEGED,
}


def refused(attack: str, by: Defence, said: str = "") -> None:
    """Check that a refusal is the one that is written down."""
    assert ATTACKS[attack] == by, attack
    assert re.search(by.words, said), f"{attack}: {said!r} is not how {by.name} refuses"


def table() -> str:
    """Return the table of `docs/walls.md`."""
    rows = [f"| {attack} | {by.name} |" for attack, by in ATTACKS.items()]
    return "\n".join(["| From a pod, somebody tries to | Refused by |", "|---|---|", *rows])
