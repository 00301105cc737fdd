"""What a child must know of its namespaces before it has its own."""

from __future__ import annotations

import pytest

from ropewalk_runtime import isolate

LINES = rb"""22 1 0:20 / /proc rw - proc proc rw
23 1 8:1 / /tmp rw - tmpfs tmpfs rw
24 23 8:1 /a /tmp/a\040b rw - ext4 /dev/vda rw
25 24 8:1 /c /tmp/a\040b/inner rw - ext4 /dev/vda rw
26 1 8:1 /tmp/x /srv/tmp/x rw - ext4 /dev/vda rw
27 1 8:1 /d /tmpfs/d rw - ext4 /dev/vda rw
28 23 8:1 /e /tmp/\303\251 rw - ext4 /dev/vda rw
"""


def test_the_outermost_mounts_below_a_folder_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolate, "_read", lambda _: LINES)
    assert isolate._mounts_below("/tmp") == ["/tmp/a b", "/tmp/é"]
    assert isolate._mounts_below("/srv") == ["/srv/tmp/x"] and isolate._mounts_below("/home") == []
