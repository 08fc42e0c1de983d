"""Bad and extreme input to the estimators: the right result, or one clear sentence."""

import contextlib
import dataclasses
import json
import pickle
import re
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.exceptions import NotFittedError

from somcore import ALTSSSOM, DSSOM, LARFDSSOM, SSSOM, KohonenSOM
from somcore.relevance import logistic_relevances

ESTIMATORS = (KohonenSOM, DSSOM, LARFDSSOM, SSSOM, ALTSSSOM)
GROWING = (LARFDSSOM, SSSOM, ALTSSSOM)
SEMI_SUPERVISED = (SSSOM, ALTSSSOM)


@pytest.fixture
def data():
    generator = np.random.default_rng(5)
    y = np.arange(40) % 2
    return np.clip(generator.normal(0.3 + 0.4 * y[:, None], 0.08, (40, 3)), 0, 1), y


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "transform"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(kind, method, value, data):
    X, y = data
    som = kind(epochs=2).fit(X, y)
    digest, bad = som.state_.digest(), X.copy()
    bad[7, 1] = value
    told = "contains NaN, as in row 7, column 1. Make .* missing='mask'" if np.isnan(value) else "contains infinity"
    with pytest.raises(ValueError, match=told) as caught:
        getattr(som, method)(bad, *([y] if "fit" in method else []))
    assert "\n" not in str(caught.value)
    assert som.state_.digest() == digest
    masked = kind(epochs=2, missing="mask")
    if np.isinf(value):
        with pytest.raises(ValueError, match="infinity"):
            masked.fit(bad, y)
    else:
        assert masked.fit(bad, y).n_nodes_ > 0


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_row_without_any_value(kind, data):
    X, y = data
    X[4] = np.nan
    with pytest.raises(ValueError, match="Each row must have at least one feature that is not NaN. Row 4 has none."):
        kind(missing="mask").fit(X, y)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_feature_that_is_never_observed(kind, data):
    X, y = data
    X[:, 2] = np.nan
    som = kind(missing="mask", epochs=3).fit(X, y)
    assert np.isfinite(som.prototypes_).all() and np.isfinite(som.transform(X)).all()


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_constant_columns(kind, data):
    X, y = data
    X[:, 1] = 0.5
    som = kind(epochs=5).fit(X, y)
    np.testing.assert_allclose(som.prototypes_[:, 1], 0.5, atol=1e-9)
    same = kind(epochs=5).fit(np.full((40, 3), 0.25), y)
    np.testing.assert_allclose(same.prototypes_, 0.25, atol=1e-9)
    if kind is LARFDSSOM:
        assert same.n_nodes_ == 1


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("name", ["batch_size", "missing"])
def test_a_parameter_that_cannot_be_none(kind, name, data):
    with pytest.raises(ValueError, match=rf"^{name} must be .+\. Got None\.$"):
        kind(**{name: None}).fit(*data)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_one_sample(kind):
    options = {} if kind in GROWING else {"rows": 1, "columns": 1}
    som = kind(**options).fit([[0.2, 0.8]], [3])
    assert som.n_nodes_ == 1
    np.testing.assert_allclose(som.prototypes_, [[0.2, 0.8]])
    assert som.predict([[0.2, 0.8]]).tolist() == ([3] if kind in SEMI_SUPERVISED else [0])
    assert kind in GROWING or som.topographic_error([[0.2, 0.8]]) == 0


@pytest.mark.parametrize("kind", (KohonenSOM, DSSOM))
def test_more_nodes_than_samples(kind):
    som = kind(rows=4, columns=4, epochs=3).fit([[0.0, 0.0], [1.0, 1.0]])
    assert som.n_nodes_ == 16 and np.isfinite(som.prototypes_).all()
    assert len(set(som.labels_)) == 2


@pytest.mark.parametrize("kind", SEMI_SUPERVISED)
def test_one_class_and_no_labels(kind, data):
    X, _ = data
    one = kind(epochs=3).fit(X, np.full(40, 9))
    assert (one.predict(X) == 9).all() and one.predict_proba(X).tolist() == [[1.0]] * 40
    none = kind(epochs=3).fit(X, np.full(40, -1))
    assert (none.predict(X) == -1).all() and none.classes_.size == 0
    with pytest.raises(ValueError, match="y must hold at least one label to score against"):
        none.score(X, np.full(40, -1))
    with pytest.raises(ValueError, match="Got nan at row 0; write -1 there"):
        none.score(X, np.full(40, np.nan))


@pytest.mark.parametrize("kind", SEMI_SUPERVISED)
def test_a_class_without_a_single_labelled_row(kind, data):
    X, y = data
    som = kind(epochs=3).fit(X, np.where(y == 1, -1, 0))
    assert som.classes_.tolist() == [0] and set(som.predict(X)) == {0}


@pytest.mark.parametrize("kind", SEMI_SUPERVISED)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.5] * 40, "Unknown label type: continuous"),
        ([0, np.nan] * 20, "y must hold class numbers, -1 = unlabelled. Got nan at row 1; write -1 there."),
        ([np.inf] * 40, "Input y contains infinity"),
        (np.array(["a", "-1"] * 20, dtype=object), "y must hold whole numbers, -1 = unlabelled. Got object; encode it"),
        (np.array([1, "2"] * 20, dtype=object), "y must hold whole numbers, -1 = unlabelled. Got object; encode it"),
        ([None, 1] * 20, "y must hold class numbers, -1 = unlabelled. Got None at row 0; write -1 there."),
        ([1, pd.NA] * 20, "y must hold class numbers, -1 = unlabelled. Got <NA> at row 1; write -1 there."),
        (pd.Series([1, None] * 20, dtype="Int64"), "-1 = unlabelled. Got <NA> at row 1; write -1 there."),
        (np.array([1, np.nan] * 20, np.float32), "-1 = unlabelled. Got nan at row 1; write -1 there."),
        (np.array([1, 0.5] * 20, dtype=object), "Unknown label type: continuous"),
        (["a", "-1"] * 20, "y must hold whole numbers, -1 = unlabelled. Got <U2; encode it first."),
        ([0, -2] * 20, "y must hold class numbers >= 0, or -1 for unlabelled. Got -2 at row 1."),
        ([0, 1], "inconsistent numbers of samples"),
        ([[0, 1]] * 40, "should be a 1d array"),
    ],
)
def test_labels_that_are_no_classes(kind, y, message, data):
    with pytest.raises(ValueError, match=re.escape(message)):
        kind().fit(data[0], y)
    with pytest.raises(ValueError, match=re.escape(message)):
        kind().partial_fit(data[0], y)


@pytest.mark.parametrize("kind", GROWING)
def test_capacity_of_one(kind, data):
    X, y = data
    som = kind(capacity=1, epochs=5).fit(X, y)
    assert som.n_nodes_ == 1 and som.state_.capacity == 1
    assert len(set(som.predict(X))) == 1 and som.u_matrix().tolist() == [0]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_one_feature(kind, data):
    X, y = data
    som = kind(epochs=5).fit(X[:, :1], y)
    assert (som.relevances_ == 1).all() or kind is DSSOM  # linear relevances: the largest deviation has none


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_features_too_large_for_exact_sums(kind, data):
    X, y = data
    expected = pytest.warns(UserWarning) if kind in GROWING else contextlib.nullcontext()
    with expected, pytest.raises(ValueError, match="Scale the features"):
        kind().fit(X * 1e12, y)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_bad_parameters_are_named(kind, data):
    X, y = data
    with pytest.raises(ValueError, match=r"seed must be a whole number >= 0\. Got -1\."):
        kind(seed=-1).fit(X, y)
    with pytest.raises(ValueError, match=r"missing must be one of error \| mask\. Got 'drop'\."):
        kind(missing="drop").fit(X, y)
    with pytest.raises(TypeError, match="unexpected keyword"):
        kind(no_such_option=1)
    if kind in GROWING:
        with pytest.raises(ValueError, match=r"capacity must be a whole number in \[1, 16384\]\. Got 0\."):
            kind(capacity=0).fit(X, y)
    else:
        with pytest.raises(ValueError, match="rows must be even for a toroidal hexagonal lattice"):
            kind(rows=3, columns=4, toroidal=True).fit(X)
    with pytest.raises(ValueError, match=r"device must be a device of torch, such as 'cpu'\. Got 'abacus'\."):
        kind(device="abacus").fit(X, y)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device must be one that is here\. Got 'cuda'"):
            kind(device="cuda").fit(X, y)


@pytest.mark.parametrize("kind", [KohonenSOM, SSSOM])
@pytest.mark.parametrize(
    ("weight", "reach", "sentence"),
    [
        (1e8, 1, r"sample_weight must be at most 1048576, .* Got 100000000 at row 7\. Divide all weights by a"),
        (1e19, 1, r"sample_weight must be at most 1048576, .* Got 10000000000000000000 at row 7"),  # beyond int64
        (2**20, 8, r"sample_weight must be .* \(weights up to 1048576 and \|x\| up to 8 .* a common factor\. Scale"),
        (2**20, 2**21, r"Features must be small enough .* \(\|x\| up to 2\.0.* are needed\)\. Scale the features"),
    ],
)
@pytest.mark.filterwarnings("ignore:Features should lie in")
def test_sample_weights_that_cannot_be_counted_exactly(kind, data, weight, reach, sentence):
    X, y, weights = data[0].copy(), data[1], np.ones(40)
    X[7, 0], weights[7] = reach, weight
    for act in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=sentence):
            getattr(kind(), act)(X, y, sample_weight=weights)


@pytest.mark.parametrize("kind", [*ESTIMATORS, lambda: KohonenSOM(initialisation="linear")])
@pytest.mark.parametrize("reach", [1e150, 1e160, 1.7e308])  # squares overflow from 1e154 on, sums of two at 1e308
@pytest.mark.filterwarnings("ignore:Features should lie in")
def test_features_too_large_for_any_sum_are_refused_in_the_same_words(kind, data, reach):
    X, y = data
    for act in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=r"^Features must be small enough .* are needed\)\. Scale the features"):
            getattr(kind(), act)(X * reach, y)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_largest_sample_weight_is_counted(kind, data):
    weights = np.ones(40)
    weights[7] = 2**20
    assert kind(epochs=1).fit(*data, sample_weight=weights).n_nodes_ >= 1


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_sample_weights_that_are_no_counts(kind, data):
    X, y = data
    for wrong, got in ((-1.0, "-1.0"), (0.5, "0.5")):
        weights = np.ones(40)
        weights[6] = wrong
        with pytest.raises(ValueError, match=f"sample_weight must hold whole numbers >= 0 .* Got {got} at row 6"):
            kind().fit(X, y, sample_weight=weights)
    with pytest.raises(ValueError, match="must contain at least one non-zero"):
        kind().fit(X, y, sample_weight=np.zeros(40))
    with pytest.raises(ValueError, match="sample_weight"):
        kind().fit(X, y, sample_weight=np.ones(39))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_unfitted_estimators_say_so(kind, data, tmp_path):
    lattice_only = () if kind in GROWING else ("topographic_error",)
    for call in ("predict", "transform", "predict_members", "quantization_error", *lattice_only):
        with pytest.raises(NotFittedError):
            getattr(kind(), call)(data[0])
    with pytest.raises(NotFittedError):
        kind().u_matrix()
    with pytest.raises(NotFittedError):
        kind().save(tmp_path / "map")


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_another_number_of_features(kind, data):
    X, y = data
    som = kind(epochs=2).fit(X, y)
    for call in (som.predict, som.transform, som.partial_fit):
        with pytest.raises(ValueError, match="X has 2 features, but .* is expecting 3"):
            call(X[:, :2])


def _refused(som, data):
    """What `fit` and `partial_fit` refuse, each for a reason that is found at another time."""
    X, y = data
    yield lambda: som.fit(X[:, :2] * np.nan, y)  # by scikit-learn, which has dropped the names by then
    yield lambda: som.fit(X[:, :2], (y > 0) * 5, sample_weight=-np.ones(40))
    yield lambda: som.fit(X[:, :2] * 1e12, (y > 0) * 5)  # in a round
    yield lambda: som.partial_fit(X * 1e12, y)
    if isinstance(som, SEMI_SUPERVISED):
        yield lambda: som.fit(X[:, :2], np.array(["a", "b"])[y])
        yield lambda: som.partial_fit(X, y, classes=[0, 1, 1])


@pytest.mark.filterwarnings("ignore:Features should lie", "ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_what_is_refused_leaves_the_former_fit_whole(kind, data):
    frame = pd.DataFrame(data[0], columns=list("abc"))
    som = kind(epochs=2).fit(frame, data[1])
    before, nodes = dict(vars(som)), som.predict(frame)
    for call in _refused(som, data):
        with pytest.raises(ValueError):
            call()
        assert {name: id(value) for name, value in vars(som).items()} == {n: id(v) for n, v in before.items()}
    np.testing.assert_array_equal(som.predict(frame), nodes)
    fresh = kind()
    for call in _refused(fresh, data):
        with pytest.raises(ValueError):
            call()
        assert [name for name in vars(fresh) if name.endswith("_")] == []


def test_an_interrupted_fit_leaves_the_former_one_whole(data, monkeypatch):
    som = SSSOM(epochs=2).fit(*data)
    monkeypatch.setattr("somcore.estimators.base.train", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        som.fit(data[0][:, :2], data[1] * 5)
    assert som.n_features_in_ == 3 and som.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("kind", SEMI_SUPERVISED)
@pytest.mark.parametrize(
    "weights", [np.arange(40) % 3, np.linspace(1, 2, 40), np.arange(40.0), np.ones((40, 1), int), 3]
)
def test_weights_in_the_place_of_classes(kind, weights, data):
    with pytest.raises(ValueError, match="classes must name each class once, as integers: .* by name, sample_weight="):
        kind().partial_fit(*data, weights)


# ---------------------------------------------------------------- saved files


@pytest.fixture
def saved(data, tmp_path):
    path = tmp_path / "map.safetensors"
    SSSOM(epochs=2).fit(*data).save(path)
    return path


def _rewrite(path, document=None, tensors=None):
    """The saved file with changes, digest kept: what a careless or hostile editor would leave."""
    from somcore.estimators.persistence import _digest

    with safe_open(str(path), framework="pt") as file:
        metadata = dict(file.metadata())
    values = json.loads(metadata["document"]) | (document or {})
    text = json.dumps(values, sort_keys=True)
    content = load_file(path) | (tensors or {})
    save_file(content, path, metadata={"document": text, "digest": _digest(text, content)})


def test_every_flipped_byte_is_noticed(saved):
    content = saved.read_bytes()
    for place in np.linspace(0, len(content) - 1, 60).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 4
        saved.write_bytes(damaged)
        with pytest.raises(ValueError, match="must be a map saved by somgrad|is damaged"):
            SSSOM.load(saved)
    for length in (0, 7, 100, len(content) - 1):
        saved.write_bytes(content[:length])
        with pytest.raises(ValueError, match="must be a map saved by somgrad|is damaged"):
            SSSOM.load(saved)
    saved.write_bytes(content)
    assert SSSOM.load(saved).n_nodes_ > 0


def test_loading_a_pickle_executes_nothing(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "map"
    for content in (pickle.dumps(Trap()), b"not a map", b"\x00" * 64):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be a map saved by somgrad"):
            SSSOM.load(path)
    torch.save({"a": Trap()}, path)
    (tmp_path / "sprung").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="must be a map saved by somgrad"):
        SSSOM.load(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"estimator": "ALTSSSOM"}, "must hold a SSSOM. Got 'ALTSSSOM'"),
        ({"format_version": 99}, "must have format version 1. Got 99"),
        ({"format": "other"}, "must be a map saved by somgrad"),
        ({"parameters": {"no_such": 1}}, "must hold a complete SSSOM"),
        ({"parameters": None}, "must hold a complete SSSOM"),
        ({"config": {"variant": "larfdssom", "capacity": 3}}, "must fit its own configuration"),
        ({"config": {"no_such": 1}}, "'no_such' is not a hyper-parameter"),
        ({"config": 5}, "must hold a complete SSSOM"),
        ({"state_digest": "0"}, "must fit its own configuration"),
    ],
)
def test_documents_that_do_not_fit(saved, document, message):
    _rewrite(saved, document)
    with pytest.raises(ValueError, match=re.escape(message)):
        SSSOM.load(saved)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("state.prototypes", torch.zeros(3)),
        ("state.prototypes", torch.full((200, 3), torch.nan, dtype=torch.float64)),
        ("state.alive", torch.ones(200)),
        ("state.classes", torch.full((200,), 7)),
        ("classes", torch.tensor([1, 2, 3])),
        ("classes", torch.tensor([1, 1])),
        ("labels", torch.tensor([1e300])),
        ("labels", torch.full((40,), 10**6)),
        ("transduction", torch.full((40,), 77)),
    ],
)
def test_tensors_that_do_not_fit(saved, name, tensor):
    _rewrite(saved, tensors={name: tensor})
    with pytest.raises(ValueError, match="must"):
        SSSOM.load(saved)


def test_saving_keeps_the_old_file_when_it_fails(saved, data, tmp_path, monkeypatch):
    import os

    before = saved.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        SSSOM(epochs=1).fit(*data).save(saved)
    assert saved.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [saved.name]


def test_places_that_cannot_hold_a_file(data, tmp_path):
    som = KohonenSOM(rows=2, columns=2, epochs=1).fit(data[0])
    for place in (tmp_path, tmp_path / "missing" / "map"):
        with pytest.raises(ValueError, match="path must be a file in an existing folder"):
            som.save(place)
    with pytest.raises(FileNotFoundError, match="There is no saved map"):
        KohonenSOM.load(tmp_path / "absent")


def test_deviations_that_fade_on_equal_rows_leave_relevances_numbers():
    """They shrank until they were subnormal, and stayed: a quotient of them was NaN, which a map never loses again."""
    generator = np.random.default_rng(2)
    near, others = 0.5 + 0.02 * generator.standard_normal((6, 4)), generator.random((50, 4))
    X = np.vstack([np.full((3000, 4), 0.5), near, others])
    som = LARFDSSOM(seed=2).fit(X)
    assert np.isfinite(som.relevances_).all() and np.isfinite(som.transform(X)).all()
    assert 0 < som.quantization_error(X) < 1


@pytest.mark.parametrize("slope", [0.07, 1e-308])
def test_relevances_are_numbers_however_small_deviations_and_slope_are(slope):
    for high in (0.1, 1e-30, 1e-305, 1.5e-323):
        relevances = logistic_relevances(torch.tensor([[0.0, high / 2, high]], dtype=torch.float64), slope, 1e-6)
        assert relevances.isfinite().all() and relevances.amax() == pytest.approx(1.0, abs=1e-3)


def test_probabilities_are_numbers_where_boxes_have_all_but_faded(data):
    som = ALTSSSOM(epochs=2).fit(*data)
    som.state_ = dataclasses.replace(som.state_, deviations=torch.full_like(som.state_.deviations, 1e-155))
    assert som.predict_proba(np.random.default_rng(0).random((5, 3))).sum(1) == pytest.approx(np.ones(5))


def test_a_dssom_whose_deviations_forget_at_once_is_refused(data):
    """Many samples of such a rate have no mean: deviations were NaN, which relevances of 1 hid."""
    with pytest.raises(ValueError, match="^relevance_rate must be below 1 for dssom. Got 1.$"):
        DSSOM(rows=2, columns=2, relevance_rate=1.0).fit(*data)
    som = DSSOM(rows=2, columns=2, relevance_rate=0.999, epochs=2).fit(*data)
    assert som.state_.deviations.isfinite().all() and not (som.relevances_ == 1).all()
    assert LARFDSSOM(relevance_rate=1.0, epochs=2).fit(*data).n_nodes_ > 0
