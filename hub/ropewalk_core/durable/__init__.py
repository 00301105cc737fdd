"""Durable calls: accepted on disk before they are acknowledged, carried out whatever is killed, one result recorded.

``machine`` decides what becomes of one call (pure), ``lanes`` whose turn it is (pure, in memory), ``desk`` keeps both
in the journal. The gateway carries calls as it carries any other: it takes work from the desk and reports. Not here:
workers, HTTP, policy (``guard``). Rejected: a broker beside the journal (two places could disagree about what was
accepted), and a queue of the gateway's own (whatever is killed, the journal is what is left).
"""

from ropewalk_core.durable.desk import DurableDesk
from ropewalk_core.durable.shelves import Shelf
from ropewalk_core.durable.wire import Accepted, Report, Wish, Work, WorkPage

__all__ = ["Accepted", "DurableDesk", "Report", "Shelf", "Wish", "Work", "WorkPage"]
