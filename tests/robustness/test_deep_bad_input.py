"""Deep runs that cannot go well: one clear line, with the last checkpoint intact."""

import numpy as np
import pytest

from pipeline.checkpoint import read
from pipeline.errors import Collapsed, DataError, OutputError, RoundFailed, UserError
from pipeline.trainer import train
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


def test_an_encoder_that_blows_up_names_round_and_tile_and_keeps_the_checkpoint(digits, tmp_path):
    out = tmp_path / "run"
    wild = deep(digits, train__checkpoint_rounds=1, deep__learning_rate=1e38, deep__rate_warmup_rounds=0)
    with pytest.raises(RoundFailed, match=r"must be finite. It is not, in round \d+, in the tile at sample \d+"):
        train(wild, out)
    kept = sorted((out / "checkpoints").glob("round*"))
    assert kept and read(kept[-1])[0].state.round > 0


def test_a_collapse_is_told_with_its_numbers_and_exit_code_2(digits, tmp_path):
    with pytest.raises(Collapsed, match=r"collapsed in round 3: largest node 1.000 of the samples, 1.00 effective"):
        train(deep(digits, map__capacity=1), tmp_path / "here")
    options = [f"--set={k}={v}" for k, v in deep(digits, map__capacity=1).items() if k.split(".")[0] in ("map", "loss")]
    done = run_job("--data", digits, "--model", "deep", "--workers", 0, "--out", tmp_path / "job", *options,
                   "--tracking-uri", "none")  # fmt: skip
    assert done.returncode == 2 and "The representation collapsed in round" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_collapsed_run_goes_on_if_it_is_told_to(digits, tmp_path):
    result = train(deep(digits, map__capacity=1, deep__on_collapse="go_on"), tmp_path / "run")
    assert result["nodes"] == 1


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
    from pipeline.deep_model import DeepModel
    from pipeline.shards import Dataset

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
