"""All six kinds of models as their users take them: raw samples through MLflow, and as one ONNX file."""

import io

import numpy as np
import pandas as pd
import pytest

from pipeline.predictor import Predictor
from pipeline.prepared.shards import Dataset
from pipeline.training.trainer import train
from tests.training import MODELS, save_model, small, table

DEEP = {
    "map__epochs": 2, "map__batch_size": 200, "map__tile_size": 64, "encoder__width": 4, "encoder__dim": 8,
    "deep__final_passes": 1, "train__evaluate_epochs": 0, "deep__on_collapse": "go_on",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(digits, tmp_path_factory):
    """A trained model of each kind, on images."""
    folder = tmp_path_factory.mktemp("runs")
    for model in MODELS:
        train(small(model, digits), folder / model)
    train(small("deep", digits, **DEEP), folder / "deep")
    return folder


def recordings(folder):
    """Tones of two pitches, as the source of recordings has them."""
    from pipeline.prepare import prepare
    from pipeline.sources import SourceOptions, open_source

    folder.mkdir()
    rng, rate = np.random.default_rng(2), 4000
    pitch = np.arange(40) % 2
    waves = np.sin(2 * np.pi * (300 + 600 * pitch[:, None]) * np.arange(rate // 2) / rate)
    waves = (8000 * waves + rng.normal(0, 500, waves.shape)).astype(np.int16)
    offsets = np.arange(41) * (rate // 2)
    np.savez(folder / "tones.npz", samples=waves.ravel(), offsets=offsets, labels=pitch, rate=rate)
    options = SourceOptions(test_fraction=0.2, duration_s=0.5)
    prepare(open_source("audio", folder / "tones.npz", options), folder / "data")
    return folder / "data"


def masked_table(folder):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 120)
    features = rng.normal(labels[:, None] * np.array([5.0, 1.0, 0.0]), 0.5)
    features[rng.random(features.shape) < 0.1] = np.nan
    features[:, 0] = np.nan_to_num(features[:, 0])
    return table(folder, features, labels, missing="mask", test_fraction=0.2)


def answered(model, samples):
    """What MLflow's own loader says, of a model without a repository around it."""
    import mlflow

    return mlflow.pyfunc.load_model(str(model)).predict(samples)


def predictions_json(answers):
    from mlflow.pyfunc.scoring_server import predictions_to_json

    written = io.StringIO()
    predictions_to_json(answers, written)
    return written.getvalue()


def same(answers, expected):
    assert list(answers.columns) == list(expected.columns)
    assert answers["node"].tolist() == expected["node"].tolist()
    assert answers["class"].fillna("").tolist() == expected["class"].fillna("").tolist()
    for name in ("confidence", "activation", "novelty"):
        np.testing.assert_allclose(answers[name].astype(float), expected[name], rtol=1e-6)
    assert "NaN" not in predictions_json(answers), "not every client reads it"


@pytest.mark.slow
@pytest.mark.parametrize("model", [*MODELS, "deep"])
def test_raw_images_through_mlflow(runs, digits, tmp_path, model):
    images = Dataset.open(digits).read_raw("test", np.arange(6)).numpy()
    saved = save_model(runs / model, tmp_path / "model")
    same(answered(saved, images), Predictor.load(runs / model)(images))
    assert not [path for path in saved.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


@pytest.mark.slow
def test_raw_recordings_and_tables_through_mlflow(tmp_path):
    data = recordings(tmp_path / "tones")
    train(small("deep", data, **DEEP, train__labelled_fraction=1.0), tmp_path / "audio")
    waves = Dataset.open(data).read_raw("test", np.arange(4)).numpy()
    assert waves.dtype == np.int16
    saved = save_model(tmp_path / "audio", tmp_path / "audio-model")
    same(answered(saved, waves), Predictor.load(tmp_path / "audio")(waves))
    onnx_is_torch(tmp_path / "audio", waves, tmp_path / "audio.onnx", exact=False)
    train(small("deep", data, **DEEP, train__labelled_fraction=1.0, encoder__name="word"), tmp_path / "word")
    onnx_is_torch(tmp_path / "word", waves, tmp_path / "word.onnx", exact=False)
    rows = masked_table(tmp_path / "t")
    train(small("sssom", rows, train__labelled_fraction=1.0), tmp_path / "rows")
    frame = pd.DataFrame(Dataset.open(rows).read_raw("test", np.arange(8)).numpy(), columns=["x0", "x1", "x2"])
    frame = frame.astype(np.float64)
    saved = save_model(tmp_path / "rows", tmp_path / "rows-model")
    same(answered(saved, frame[["x2", "x0", "x1"]]), Predictor.load(tmp_path / "rows")(frame))


def onnx_is_torch(run, samples, out, exact=True):
    onnxruntime = pytest.importorskip("onnxruntime")
    from pipeline.serving.onnx_export import export_model

    written = export_model(run, out)
    assert written["checked"] == 64
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    named = dict(zip(written["outputs"], session.run(written["outputs"], {"samples": samples}), strict=True))
    expected = Predictor.load(run)(samples)
    names = np.array([*Predictor.load(run).class_names, None], dtype=object)
    equal_nodes = named["node"] == expected["node"].to_numpy()
    assert equal_nodes.all() if exact else equal_nodes.mean() >= 0.95
    kept = expected["class"].fillna("").to_numpy()[equal_nodes]
    assert [name or "" for name in names[named["class"]][equal_nodes]] == kept.tolist()
    for name in ("activation", "novelty"):
        gap = np.abs(named[name] - expected[name].to_numpy())[equal_nodes]
        assert gap.max() < (1e-9 if exact else 1e-3), name


@pytest.mark.parametrize("model", [*MODELS, "deep"])
def test_onnx_answers_as_torch_does(runs, digits, tmp_path, model):
    images = Dataset.open(digits).read_raw("test", slice(None)).numpy()
    onnx_is_torch(runs / model, images, tmp_path / "model.onnx", exact=model != "deep")


@pytest.mark.parametrize(
    "model, changes",
    [
        ("sssom", {"map__fallback": "threshold", "map__noise_filter": True}),
        ("altsssom", {"map__noise_filter": True}),
        ("altsssom", {"map__fallback": "threshold", "map__noise_filter": True}),
    ],
)
def test_onnx_leaves_out_what_the_map_leaves_out(tmp_path, model, changes):
    data = masked_table(tmp_path / "t")
    train(small(model, data, train__labelled_fraction=0.2, map__batch_size=32, **changes), tmp_path / "run")
    rows = Dataset.open(data).read_raw("train", slice(None)).numpy()
    assert np.isnan(rows).any()
    assert (Predictor.load(tmp_path / "run")(rows)["node"] == -1).any()
    onnx_is_torch(tmp_path / "run", rows, tmp_path / "model.onnx")
