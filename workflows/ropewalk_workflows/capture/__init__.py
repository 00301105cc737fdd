"""What a cell's function needs to run elsewhere: its source, helpers, imports, small values and local modules.

The result is a `model.Bundle` of readable source, shown before it is sent. What cannot travel by source is refused with
the name, the cell and the line, and with what to do. Rejected: pickling the function by value (nobody can read it, and
it ties the platform to one Python version) and running the whole notebook again (slow, and not what was asked).
"""

from ropewalk_workflows.capture.collect import MAIN, capture, capture_cell, sealed

__all__ = ["MAIN", "capture", "capture_cell", "sealed"]
