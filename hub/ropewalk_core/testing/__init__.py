"""What a backend author tests with: a clock to move, faults to inject, a contract suite for each port. Public.

A suite is a class of pytest tests. Subclass it, override its fixture ``port`` with your backend, and it says what is
missing. Backends are tested behind the real guard, as they are used.
"""

from ropewalk_core.testing.clock import SimulatedClock
from ropewalk_core.testing.durable import DurableContract
from ropewalk_core.testing.faults import Flaky
from ropewalk_core.testing.functions import FunctionsContract
from ropewalk_core.testing.identity import IdentityContract
from ropewalk_core.testing.notebooks import NotebooksContract
from ropewalk_core.testing.people import ADA, BOB, EVE, gone, take, until
from ropewalk_core.testing.services import ServicesContract
from ropewalk_core.testing.storage import StorageContract
from ropewalk_core.testing.workflows import WorkflowsContract

__all__ = [
    "ADA",
    "BOB",
    "EVE",
    "DurableContract",
    "Flaky",
    "FunctionsContract",
    "IdentityContract",
    "NotebooksContract",
    "ServicesContract",
    "SimulatedClock",
    "StorageContract",
    "WorkflowsContract",
    "gone",
    "take",
    "until",
]
