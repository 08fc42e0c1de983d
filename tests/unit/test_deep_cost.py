"""The benchmark of the map's cost: every contestant plays its rounds, none of them a run's last."""

import pytest

from pipeline.benchmarks import deep_cost
from pipeline.deep.rounds import DeepRounds
from pipeline.errors import UserError
from tests.training import small


def test_contestants_play_ordinary_rounds(digits, monkeypatch):
    def unwanted(*args):
        pytest.fail("the passes of a run's end were measured")

    monkeypatch.setattr(DeepRounds, "_finish", unwanted)
    settings = small("deep", digits, map__epochs=1, map__batch_size=256, encoder__width=4, encoder__dim=8)
    result = deep_cost.measure(settings, 2)
    assert set(result) == {"plain", "exact", "fast", "exact_to_plain", "exact_to_fast"}
    assert all(value > 0 for value in result.values())
    with pytest.raises(UserError, match="train.checkpoints must be left out"):
        deep_cost.measure(settings | {"train.checkpoints": "there"}, 2)
