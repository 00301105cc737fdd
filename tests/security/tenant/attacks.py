"""Which attack is refused by which defence. `docs/walls.md` shows it to people; tests compare, and try each."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Defence:
    """One wall, and how its refusal reads."""

    name: str
    words: str


SILENCE = "nobody answered"
"""What is said of a place that was tried and from which nothing came back: a network has no words of its own."""
NETWORK = Defence("network policies of the account's namespace", rf"^{SILENCE}$|i/o timeout|Client\.Timeout")
GUARD = Defence(
    "Pod Security at `restricted`", r"It asks for rights that no work of people has here|violates PodSecurity"
)
RIGHTS = Defence("roles of the service account", r"Forbidden|cannot|may not")
QUOTA = Defence("the account's quota", r"You use \S+ of \S+")
TOKENLESS = Defence("no token in the pod", r"No such file")
STORE = Defence("the artifact store, by the owner of the bucket", r"HTTP/1\.[01] 403")
KEY = Defence("the key of the file server, which the platform has", r"HTTP/1\.[01] 401")
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
    "reach the gateway through which functions are called": NETWORK,
    "reach Knative's activator, which leads to every function": NETWORK,
    "reach the port at which the proxy takes orders": NETWORK,
    "read another account's bucket with one's own keys": STORE,
    "use the account's own file server without its key": KEY,
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


TRIED: set[str] = set()
"""The attacks that were refused so far."""


def refused(attack: str, by: Defence, said: str) -> None:
    """Check that a refusal is the one that is written down."""
    assert ATTACKS[attack] == by, attack
    assert re.search(by.words, said), f"{attack}: {said!r} is not how {by.name} refuses"
    TRIED.add(attack)


def table() -> str:
    """Return the table of `docs/walls.md`."""
    rows = [f"| {attack} | {by.name} |" for attack, by in ATTACKS.items()]
    return "\n".join(["| From a pod, somebody tries to | Refused by |", "|---|---|", *rows])
