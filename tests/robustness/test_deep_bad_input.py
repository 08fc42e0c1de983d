"""Deep runs that cannot go well: one clear line, with the last checkpoint intact."""

import math
import re

import numpy as np
import pytest
import torch

from pipeline.deep.model import DeepModel
from pipeline.errors import Collapsed, DataError, Diverged, OutputError, UserError
from pipeline.training.checkpoint import read
from pipeline.training.trainer import train
from tests.training import run_job, small, table


def deep(data, **changes):
    settings = {
        "map__epochs": 2,
        "map__batch_size": 400,
        "encoder__width": 4,
        "encoder__dim": 8,
        "loss__relevance_warmup_rounds": 0,
        "train__evaluate_epochs": 0,
    }
    return small("deep", data, **(settings | changes))


WILD = {"deep__learning_rate": 1e30, "deep__rate_warmup_rounds": 0, "train__checkpoint_rounds": 1}


def broken_encoder(sample, dim, width):
    """Gives NaN for the image whose first pixel is fully white."""
    return Broken(math.prod(sample.shape), dim)


class Broken(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, samples):
        bad = torch.where(samples[:, :1] == 1, torch.nan, 0.0)
        return self.layer(samples + bad)


def test_an_output_that_is_not_finite_names_round_tile_and_shard(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (300, 6, 6), dtype=np.uint8)
    data = images(tmp_path, pixels, np.arange(300) % 3)
    named = f"{__name__}:broken_encoder"
    plain = {"encoder__name": named, "encoder__augment": "none", "deep__on_collapse": "go_on"}
    train(deep(data, **plain), tmp_path / "well")
    pixels[100:200, 0, 0] = 255
    (tmp_path / "bad").mkdir()
    data = images(tmp_path / "bad", pixels, np.arange(300) % 3)
    wrong = r"output must be finite. Got infinity or NaN in round 0, the tile at (sample|row) \d+ of (the round|a "
    with pytest.raises(Diverged, match=wrong + r"refresh), row \d+ of the training split \(row \d+ of shard 'train"):
        train(deep(data, **plain), tmp_path / "run")


def test_an_encoder_that_blows_up_names_the_round_and_keeps_the_checkpoints_before(digits, tmp_path):
    options = [f"--set={key}={value}" for key, value in deep(digits, **WILD).items() if key.split(".")[0] != "data"]
    options = [option for option in options if not option.startswith(("--set=train.model", "--set=tracking"))]
    done = run_job("--data", digits, "--model", "deep", "--workers", 0, "--out", tmp_path / "run", *options,
                   "--tracking-uri", "none")  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(r"must be finite. Got infinity or NaN in round \d+", done.stderr)
    assert "start anew with a smaller deep.learning_rate" in done.stderr
    for kept in (tmp_path / "run" / "checkpoints").glob("round*"):
        assert torch.isfinite(read(kept)[0].network.values).all()


def test_a_gradient_whose_square_is_infinite_is_told_before_it_stops_a_parameter(digits, tmp_path):
    steep = {"deep__clip_norm": 0, "loss__cross_entropy_weight": 1e24, "deep__learning_rate": 1e-6}
    with pytest.raises(Diverged, match="The encoder's gradient, squared, must be finite"):
        train(deep(digits, **steep), tmp_path / "run")


def test_a_collapse_is_told_with_its_numbers_and_exit_code_2(digits, tmp_path):
    alarm = r"collapsed in round 3, 3 rounds in a row: largest node 1.000 of the samples .limit 0.5.; 1.00 effective"
    with pytest.raises(Collapsed, match=alarm):
        train(deep(digits, map__capacity=1), tmp_path / "here")
    options = [f"--set={k}={v}" for k, v in deep(digits, map__capacity=1).items() if k.split(".")[0] in ("map", "loss")]
    done = run_job("--data", digits, "--model", "deep", "--workers", 0, "--out", tmp_path / "job", *options,
                   "--tracking-uri", "none")  # fmt: skip
    assert done.returncode == 2 and "The representation collapsed in round" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_last_judgement_reads_no_more_moments_than_64_bits_hold(digits, tmp_path, monkeypatch):
    """4,194,304 rows; here 256 stand for them."""
    import pipeline.deep.refresh
    import pipeline.deep.rounds

    looks, look_at = [], pipeline.deep.rounds.look_at

    def spied(*args, **kwargs):
        looks.append(look_at(*args, **kwargs))
        return looks[-1]

    monkeypatch.setattr(pipeline.deep.refresh, "MOST_MOMENTS", 256)
    monkeypatch.setattr(pipeline.deep.rounds, "look_at", spied)
    assert train(deep(digits), tmp_path / "run")["collapsed"] is False
    assert int(looks[-1].moments.table[0, 0]) == 256
    assert looks[-1].statistics.summary()["matched_share"] > 0 and looks[-1].num_tiles * 256 > 1438


def test_a_collapsed_run_goes_on_if_it_is_told_to(digits, tmp_path):
    result = train(deep(digits, map__capacity=1, deep__on_collapse="go_on"), tmp_path / "run")
    assert result["nodes"] == 1 and result["collapsed"] is True
    assert train(deep(digits), tmp_path / "well")["collapsed"] is False


def test_a_collapse_is_found_in_a_training_that_was_all_warm_up(digits, tmp_path):
    short = deep(digits, map__capacity=1, loss__relevance_warmup_rounds=1000)
    lines = []
    with pytest.raises(Collapsed, match="collapsed by the end of the training: largest node 1.000"):
        train(short, tmp_path / "run", say=lines.append)
    assert any("before relevances (loss.relevance_warmup_rounds=1000)" in line for line in lines)


def test_two_classes_are_no_collapse(tmp_path):
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.normal(c, 0.1, (150, 5)) for c in (0, 1)])
    data = table(tmp_path / "t", samples, np.repeat([0, 1], 150))
    result = train(deep(data, map__batch_size=64, map__epochs=6), tmp_path / "run")
    assert result["collapsed"] is False and result["accuracy"] > 0.8


def lattice(data, **changes):
    growing = ("map.capacity", "map.pruning_epochs")
    return {key: value for key, value in deep(data, **changes).items() if key not in growing}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"deep__variant": "altsssom"}, "temperature"),
        ({"deep__variant": "altsssom", "loss__temperature": 0.05}, "margin"),
        ({"deep__variant": "kohonen", "loss__balance_weight": 1.0}, "temperature"),
        ({"deep__variant": "dssom", "loss__agreement_weight": 1.0}, "temperature"),
    ],
)
def test_a_map_without_a_threshold_must_be_told_what_it_cannot_lend(changes, name, digits, tmp_path):
    with pytest.raises(ValueError, match=f"loss.{name} must be given for .*: its nodes share no threshold. Got None"):
        train((deep if changes["deep__variant"] == "altsssom" else lattice)(digits, **changes), tmp_path / "run")


@pytest.mark.parametrize("dim", [8, 64])
def test_a_lattice_begins_on_the_plane_of_the_features(dim, digits, tmp_path):
    settings = lattice(digits, deep__variant="kohonen", encoder__dim=dim, map__initialisation="linear", map__epochs=1)
    assert train(settings, tmp_path / "run")["nodes"] == 64


def images(folder, pixels, labels):
    from pipeline.prepare import prepare
    from pipeline.sources import SourceOptions, open_source

    np.savez(folder / "images.npz", images=pixels, labels=labels)
    prepare(open_source("images", folder / "images.npz", SourceOptions(test_fraction=0.2)), folder / "data")
    return folder / "data"


def test_all_black_images_are_a_collapse_not_a_crash(tmp_path):
    data = images(tmp_path, np.zeros((400, 12, 12), np.uint8), np.arange(400) % 4)
    with pytest.raises(Collapsed, match=r"embedding rank 0.00"):
        train(deep(data, encoder__augment="none", map__batch_size=64, map__epochs=4), tmp_path / "run")


def test_small_colour_images_of_odd_size_are_fine(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 11, 7, 3), dtype=np.uint8)
    data = images(tmp_path, pixels, np.arange(120) % 3)
    for encoder in ("cnn", "residual"):
        result = train(deep(data, encoder__name=encoder), tmp_path / encoder)
        assert result["rounds"] == 2 and result["nodes"] >= 1


def test_tables_without_any_label_train_unsupervised(tmp_path):
    rng = np.random.default_rng(0)
    data = table(tmp_path / "t", np.concatenate([rng.normal(c, 0.2, (80, 5)) for c in (0, 1, 2)]))
    settings = deep(data, map__batch_size=120, map__epochs=3, deep__on_collapse="go_on")
    result = train(settings, tmp_path / "run")
    assert result["accuracy"] is None and result["nodes"] > 1


def test_labelled_rows_only_needs_labelled_rows(digits, tmp_path):
    with pytest.raises(DataError, match="labelled rows only must have some"):
        train(deep(digits, deep__labelled_only=True, train__labelled_fraction=0.0), tmp_path / "run")


def test_a_run_does_not_go_on_with_another_encoder(digits, tmp_path):
    train(deep(digits), tmp_path / "run")
    with pytest.raises(OutputError, match="encoder.dim must be 8 to go on"):
        train(deep(digits, encoder__dim=9), tmp_path / "run", resume=True)


def test_an_encoder_for_other_data_is_refused(digits, tmp_path):
    with pytest.raises(UserError, match="encoder.name 'audio' must be used on recordings. Got image data"):
        train(deep(digits, encoder__name="audio"), tmp_path / "run")


def test_a_saved_model_predicts_what_was_scored(digits, tmp_path):
    from pipeline.prepared.shards import Dataset

    result = train(deep(digits, map__epochs=6, loss__reconstruction_weight=1.0), tmp_path / "run")
    model = DeepModel.load(tmp_path / "run")
    samples, labels = Dataset.open(digits).read("test", slice(None))
    accuracy = (model.predict(samples) == labels).double().mean().item()
    assert accuracy == pytest.approx(result["accuracy"], abs=1e-12)
    assert model.decode(model.state.prototypes[:2]).shape == (2, samples.shape[1])
    train(small("sssom", digits), tmp_path / "classical")
    with pytest.raises(OutputError, match="must hold a deep model. Got sssom"):
        DeepModel.load(tmp_path / "classical")


def test_crossings_of_views_need_views(digits, tmp_path):
    with pytest.raises(UserError, match="deep.crossings must be false where encoder.augment is none"):
        train(deep(digits, deep__crossings=True, encoder__augment="none"), tmp_path / "run")
    assert not (tmp_path / "run" / "map.safetensors").exists()


@pytest.mark.parametrize(("kind", "augment"), [("table", "clothes"), ("table", "audio"), ("image", "audio")])
def test_views_that_data_cannot_have_are_refused_before_anything_is_written(kind, augment, digits, tmp_path):
    data = digits if kind == "image" else table(tmp_path / "t", np.random.default_rng(0).random((90, 5)))
    with pytest.raises(UserError, match=f"encoder.augment must be auto, none.* for {kind} data. Got '{augment}'"):
        train(deep(data, encoder__augment=augment), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_data_with_missing_values_are_refused_before_anything_is_written(tmp_path):
    rows = np.random.default_rng(0).random((90, 5))
    rows[3, 1] = np.nan
    data = table(tmp_path / "t", rows, missing="mask")
    with pytest.raises(DataError, match="data of model deep must have every value. Got a set prepared with --missing"):
        train(deep(data), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_altsssom_keeps_its_nodes_and_boxes_through_refreshes(digits, tmp_path):
    settings = deep(digits, deep__variant="altsssom", loss__temperature=0.05, loss__margin=0.05, map__epochs=6,
                    deep__refresh_rounds=1)  # fmt: skip
    result = train(settings, tmp_path / "run")
    assert result["nodes"] >= 10 and result["accuracy"] > 0.3
    assert DeepModel.load(tmp_path / "run").state.num_nodes == result["nodes"]
