"""What both spawners have in common is theirs, and not what their packages would do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ropewalk_core.errors import BadInput
from ropewalk_core.placement import Placement
from ropewalk_hub.account_spawner import AccountSpawner
from ropewalk_hub.kube_spawner import KubeNotebook
from ropewalk_hub.spawner import RopewalkSpawner


@pytest.mark.parametrize("spawner", [RopewalkSpawner, KubeNotebook])
def test_options_of_a_person_set_nothing_of_a_spawner(spawner: type[AccountSpawner]) -> None:
    generator = spawner._all_trait_default_generators["apply_user_options"]
    assert generator is AccountSpawner._default_apply
    assert generator(None)(None, {"cmd": ["sh"]}) is None


def test_an_account_and_its_placement() -> None:
    one = AccountSpawner()
    one.user, one.user_options = SimpleNamespace(name="ada"), {"placement": {"memory": "1Gi"}, "image": "mine"}
    assert one.account == "ada" and one.placement == Placement(memory="1Gi")
    one.user_options = {"placement": {"memory": "much"}}
    with pytest.raises(BadInput):
        _ = one.placement
