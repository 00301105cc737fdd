"""What holds for every test: none fails because a machine is busy, or because a shell started it in the background."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("ropewalk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ropewalk")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what they start would inherit that, and some is interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)
