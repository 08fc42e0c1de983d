"""An estimator computes the map that the rounds of the pipeline give, whoever was dealt the tiles."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.training.rounds import RoundPlan, round_statistics
from somcore import ALTSSSOM, DSSOM, LARFDSSOM, SSSOM, KohonenSOM, advance, round_scale
from somcore.estimators.training import Samples, resolved, start


@pytest.mark.parametrize("kind", [KohonenSOM, DSSOM, LARFDSSOM, SSSOM, ALTSSSOM])
def test_the_estimator_is_the_pipeline(kind):
    X, y = load_digits(return_X_y=True)
    X, y = X[:1100] / 16 * 0.45, np.where(np.arange(1100) % 3, -1, y[:1100])
    options = {"epochs": 3, "batch_size": 700} | ({} if kind in (KohonenSOM, DSSOM) else {"pruning_epochs": 2})
    som = kind(**options).fit(X, y)

    num_classes = 10 if kind in (SSSOM, ALTSSSOM) else 0
    samples = Samples(torch.from_numpy(X), torch.from_numpy(y) if num_classes else None)
    config = resolved(kind(**options)._map_config(), samples, num_classes)
    state = start(config, samples, num_classes)

    def read(rows):
        return samples.features[rows], None if samples.labels is None else samples.labels[rows]

    while not state.finished:
        plan = RoundPlan.of(state.round, config, 1100)
        scale = round_scale(state, 1.0, plan.num_samples)
        parts = [
            round_statistics(state, read, config, plan, 1100, scale=scale, rank=rank, world_size=3) for rank in range(3)
        ]
        state = advance(state, parts[2].merge(parts[0]).merge(parts[1]), config)
    assert dataclasses.asdict(config) == dataclasses.asdict(som.config_)
    assert state.digest() == som.state_.digest()
