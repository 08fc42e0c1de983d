"""Which rows a run is scored on at its end."""

import numpy as np
import pytest

from pipeline import scoring
from pipeline.trainer import train
from tests.training import small, table


@pytest.mark.parametrize(("test_fraction", "looked_at"), [(0.0, 50), (0.5, 100)], ids=["training rows", "test rows"])
def test_the_end_looks_at_some_training_rows_or_at_all_test_rows(rng, tmp_path, monkeypatch, test_fraction, looked_at):
    seen: list[int] = []
    evaluate = scoring.evaluate

    def counted(state, config, read, count, classes, rows, *others):
        seen.append(count if rows is None else len(set(rows.tolist())))
        return evaluate(state, config, read, count, classes, rows, *others)

    monkeypatch.setattr(scoring, "_MOST", 50)
    monkeypatch.setattr(scoring, "evaluate", counted)
    labels = np.arange(200) % 4
    data = table(tmp_path / "t", rng.normal(labels[:, None], 0.1, (200, 3)), labels, test_fraction=test_fraction)
    train(small("kohonen", data, train__evaluate_epochs=0, map__rows=2, map__columns=2), tmp_path / "run")
    assert seen == [looked_at]
