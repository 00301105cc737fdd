"""The journal: the only SQL, and the only durable truth of a platform. One process writes it.

It keeps *records* (kind, owner, name -> JSON body, with a version) and *events* (an append-only history whose cursor
orders everything). A batch of operations is applied whole or not at all, and acknowledged when it is on disk; batches
that wait at the same time share one commit. Accounts, sessions, clients and tokens are records as well. It must not
know what a record means. It runs on SQLite in a file of the home, or on PostgreSQL, with the same statements.
Rejected: one table per noun (every new noun would be a migration in two databases), and an ORM (its unit of work hides
when a commit happens).
"""

from ropewalk_core.journal.core import HISTORY, PATIENCE, Journal
from ropewalk_core.journal.records import Append, Forget, Operation, Put, Record, Remove
from ropewalk_core.journal.statements import SCHEMA_VERSION

__all__ = [
    "HISTORY",
    "PATIENCE",
    "SCHEMA_VERSION",
    "Append",
    "Forget",
    "Journal",
    "Operation",
    "Put",
    "Record",
    "Remove",
]
