"""Rivals: the same bits for any number of workers, also where features are gathered and codebooks move."""

import pytest

from pipeline.rivals.config import reads
from pipeline.training.trainer import train

QUICK = {"map.epochs": 2, "map.batch_size": 300, "map.tile_size": 64, "encoder.width": 4, "encoder.dim": 6}
QUICK |= {"deep.rate_warmup_rounds": 1, "rival.restarts": 1, "train.evaluate_epochs": 0, "train.labelled_fraction": 0.2}


@pytest.mark.parametrize("model", ["dec", "deepcluster", "vqvae", "fixmatch"])
def test_any_number_of_workers_gives_the_rival_of_none(group, digits, tmp_path, model):
    settings = {key: value for key, value in QUICK.items() if reads(model, key)}
    settings |= {"data.path": str(digits), "train.model": model, "cluster.workers": 0, "tracking.uri": "none"}
    local = train(settings, tmp_path / "local")
    for workers in (2, 3):
        group.resize(workers)
        result = train(settings, tmp_path / str(workers), group=group)
        assert result["map_digest"] == local["map_digest"] and result["nmi"] == local["nmi"]
