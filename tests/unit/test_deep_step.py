"""One tile and one round of deep training, without a run around them."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.config import RunConfig
from pipeline.deep.rounds import DeepRounds
from pipeline.deep.step import TileStep
from pipeline.prepared.shards import Dataset
from pipeline.training.first import first_snapshot
from pipeline.training.plan import make_plan, training_labels
from pipeline.training.reduction import LocalReduction
from pipeline.training.trainer import train
from somcore import LossConfig, MapConfig
from somcore.latent import errors_to
from somcore.losses import consistency
from tests.training import small


@pytest.mark.parametrize("kind", ["minimum", "soft"])
def test_strong_views_are_made_of_the_rows_that_consistency_looks_at(kind, generator):
    """Also where the nodes of a class join softly: another row is sure then."""
    losses = LossConfig(temperature=0.05, class_error=kind, confidence=0.8, strong_cross_entropy_weight=0.0).resolve(0)
    state = SimpleNamespace(
        prototypes=torch.rand(9, 4, generator=generator).double(),
        relevances=torch.ones(9, 4).double(),
        alive=torch.ones(9, dtype=torch.bool),
        classes=torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2]),
        num_classes=3,
        round=5,
    )
    features, labels = torch.rand(200, 4, generator=generator), torch.full((200,), -1)
    step = SimpleNamespace(_plan=SimpleNamespace(losses=losses), _state=state, _config=MapConfig())
    wanted = TileStep._strong_rows(step, labels, features)
    soft = 0.05 if kind == "soft" else None
    errors = errors_to(state, features, soft=soft)
    likely = torch.softmax(-errors.classes / 0.05, dim=1).amax(1)
    assert 0 < int(wanted.sum()) < 200 and torch.equal(wanted, likely >= 0.8)
    assert int(consistency(errors, errors, labels, 0.05, 0.8).count) == int(wanted.sum())


@pytest.mark.parametrize(
    ("weights", "round_index", "wanted"),
    [
        ({}, 9, None),
        ({"strong_cross_entropy_weight": 1.0}, 0, [True, False, False]),
        ({"agreement_weight": 1.0}, 4, None),
        ({"agreement_weight": 1.0}, 5, [False, False, False]),
        ({"consistency_weight": 1.0}, 4, None),
        ({"consistency_weight": 1.0}, 5, [False, True, False]),
        ({"consistency_weight": 1.0, "strong_cross_entropy_weight": 1.0}, 4, [True, False, False]),
        ({"consistency_weight": 1.0, "strong_cross_entropy_weight": 1.0}, 5, [True, True, False]),
    ],
)
def test_labelled_rows_have_strong_views_at_once_and_others_when_consistency_begins(weights, round_index, wanted):
    """Of three rows one is labelled, one lies on a node, and one between those of two classes."""
    off = dict.fromkeys(("strong_cross_entropy_weight", "consistency_weight", "agreement_weight"), 0.0)
    losses = LossConfig(temperature=0.05, confidence=0.9, consistency_start=5, **{**off, **weights})
    state = SimpleNamespace(
        prototypes=torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double(),
        relevances=torch.ones(2, 2).double(),
        alive=torch.ones(2, dtype=torch.bool),
        classes=torch.tensor([0, 1]),
        num_classes=2,
        round=round_index,
    )
    step = SimpleNamespace(_plan=SimpleNamespace(losses=losses), _state=state, _config=MapConfig())
    features = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
    found = TileStep._strong_rows(step, torch.tensor([0, -1, -1]), features)
    assert (found if found is None else found.tolist()) == wanted


def test_an_accelerator_computes_strong_views_of_all_rows_without_being_asked():
    """It was asked for the rows although they were all: a meta tensor has none to tell."""
    losses = LossConfig(temperature=0.05, strong_cross_entropy_weight=1.0, agreement_weight=0.0)
    step = SimpleNamespace(_plan=SimpleNamespace(losses=losses), _strong=None)
    step._strong_rows = lambda labels, features: labels >= 0
    step._view, step._encode = lambda view, samples, *rest: samples, lambda samples: samples[:, :3]
    samples, features = torch.rand(5, 8, device="meta"), torch.rand(5, 3, device="meta")
    numbers = torch.arange(5, device="meta")
    assert TileStep._strong_features(step, samples, numbers, features, 0, numbers).shape == (5, 3)


def test_a_round_without_anything_to_learn_is_no_step_of_the_optimiser(digits):
    """The map is empty in the first round: it gets nodes, the encoder and its momenta stay what they were."""
    off = {"loss__variance_weight": 0.0, "loss__reconstruction_weight": 0.0, "encoder__width": 4, "encoder__dim": 8}
    dataset = Dataset.open(digits)
    plan = make_plan(RunConfig.build(small("deep", digits, **off)), dataset)
    rounds, before = DeepRounds(plan), first_snapshot(plan, dataset)
    after = rounds.play(before, LocalReduction(), lambda: None)
    assert after.state.num_nodes > 0 and after.network.steps == 0
    assert torch.equal(after.network.values, before.network.values)
    assert rounds.play(after, LocalReduction(), lambda: None).network.steps == 1


@pytest.mark.parametrize(
    "few", [{"deep__labelled_only": True, "train__labelled_fraction": 0.1}, {"train__validation_fraction": 0.3}]
)
@pytest.mark.parametrize("start", ["sample", "linear"])
def test_a_lattice_begins_on_rows_that_are_trained_on(few, start, digits, monkeypatch):
    lattice = {"deep__variant": "kohonen", "map__rows": 3, "map__columns": 3, "map__initialisation": start}
    dataset, seen = Dataset.open(digits), []
    settings = small("deep", digits, **lattice, **few)
    del settings["map.pruning_epochs"]  # of growing maps
    plan = make_plan(RunConfig.build(settings), dataset)
    trained = plan.deep.trained_rows(*training_labels(plan, dataset.labels("train")))
    original = Dataset.read

    def read(self, split, rows):
        seen.append(torch.as_tensor(rows))
        return original(self, split, rows)

    monkeypatch.setattr(Dataset, "read", read)
    first_snapshot(plan, dataset)
    assert len(seen) == 2 and torch.isin(torch.cat(seen), trained).all() and len(trained) < dataset.num_samples("train")


def test_maps_whose_nodes_share_no_threshold_are_tuned_with_the_temperature_that_they_are_given(digits, tmp_path):
    changes = {"deep__variant": "altsssom", "deep__tune_steps": 3, "deep__refresh_rounds": 2}
    changes |= {"deep__refresh_tune_steps": 2, "encoder__width": 4, "encoder__dim": 8, "deep__on_collapse": "go_on"}
    given = {"loss__temperature": 0.05, "loss__margin": 0.1}
    result = train(small("deep", digits, **changes, **given, map__epochs=1), tmp_path / "run")
    assert result["nodes"] > 10 and result["accuracy"] > 0.2
