"""What a backend author tests with: a clock to move, faults to inject, a contract suite for each port. Public."""

from ropewalk_core.testing.clock import SimulatedClock

__all__ = ["SimulatedClock"]
