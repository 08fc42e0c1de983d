"""Estimators: parameters, fitted attributes, streams, weights, missing values."""

import contextlib
import inspect
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn import config_context
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import minmax_scale

from somcore import ALTSSSOM, DSSOM, LARFDSSOM, SSSOM, KohonenSOM, MapConfig
from somcore.topology import adjacency

ESTIMATORS = (KohonenSOM, DSSOM, LARFDSSOM, SSSOM, ALTSSSOM)
GROWING = (LARFDSSOM, SSSOM, ALTSSSOM)
SEMI_SUPERVISED = (SSSOM, ALTSSSOM)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return minmax_scale(X), y


def _few(y):
    return np.where(np.arange(len(y)) % 5, -1, y)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_are_those_of_the_variant_with_its_defaults(kind):
    defaults = {row["name"]: row["default"] for row in MapConfig.describe()}
    used = set(MapConfig.fields_of(kind._variant)) - {"variant", "tile_size", "num_rounds"}
    parameters = inspect.signature(kind.__init__).parameters
    assert set(parameters) - {"self", "device"} == used
    assert all(parameters[name].default == defaults[name] for name in used)
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in used)
    documented = inspect.getdoc(kind)
    assert all(f"{name}: " in documented for name in (*used, "device"))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_fitted_attributes(kind, iris):
    X, y = iris
    som = kind(epochs=5).fit(X, _few(y))
    nodes = som.n_nodes_
    assert nodes == som.state_.num_nodes and som.prototypes_.shape == som.relevances_.shape == (nodes, 4)
    assert som.node_classes_.shape == (nodes,) and som.n_features_in_ == 4
    assert som.config_.num_rounds is not None and som.state_.finished
    assert som.labels_.shape == (150,) and som.labels_.min() >= 0 and som.labels_.max() < nodes
    np.testing.assert_array_equal(som.prototypes_, som.state_.prototypes[som.node_slots_].numpy())
    activation = som.transform(X)
    assert activation.shape == (150, nodes) and activation.min() > 0 and activation.max() <= 1
    np.testing.assert_array_equal(activation.argmax(axis=1), som.labels_)
    assert som.relevant_features_.any(axis=1).all()
    assert som.u_matrix().size == nodes
    assert som.quantization_error(X) > 0 and 0 <= som.topographic_error(X) <= 1


@pytest.mark.parametrize("kind", SEMI_SUPERVISED)
def test_classes_are_arbitrary_numbers(kind, iris):
    X, y = iris
    names = np.array([30, 7, 100])
    som, plain = kind(epochs=5).fit(X, np.where(_few(y) < 0, -1, names[y])), kind(epochs=5)
    assert som.classes_.tolist() == [7, 30, 100]
    assert set(som.predict(X)) == {7, 30, 100} and set(som.node_classes_) <= {-1, 7, 30, 100}
    np.testing.assert_array_equal(som.transduction_, som.predict(X))
    probabilities = som.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    agreement = (som.classes_[probabilities.argmax(axis=1)] == som.predict(X)).mean()
    assert agreement > 0.95  # they differ only where the BMU has no class
    order = np.searchsorted([7, 30, 100], names)
    assert plain.fit(X, np.where(_few(y) < 0, -1, order[y])).state_.digest() == som.state_.digest()
    assert som.score(X, names[y]) > 0.85


@pytest.mark.parametrize("kind", SEMI_SUPERVISED)
def test_whole_numbers_in_an_array_of_objects_are_classes(kind, iris):
    X, y = iris
    objects = _few(y).astype(object)
    som = kind(epochs=2).fit(X, objects)
    assert som.state_.digest() == kind(epochs=2).fit(X, _few(y)).state_.digest()
    assert som.score(X, objects) == som.score(X, _few(y))
    assert kind(epochs=2).partial_fit(X, objects, classes=np.array([0, 1, 2], dtype=object)).classes_.tolist() == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize("kind", SEMI_SUPERVISED)
def test_labels_matter(kind, iris):
    X, y = iris
    with_all, with_few, without = (kind(epochs=5).fit(X, t) for t in (y, _few(y), None))
    assert len({som.state_.digest() for som in (with_all, with_few, without)}) == 3
    assert without.classes_.size == 0 and (without.predict(X) == -1).all()
    assert without.predict_proba(X).shape == (150, 0) and (without.node_classes_ == -1).all()
    unlabelled = kind(epochs=5).fit(X, np.full(150, -1))
    assert unlabelled.state_.digest() == without.state_.digest()


def test_without_labels_sssom_is_larfdssom(iris):
    X, _ = iris
    som, plain = SSSOM(capacity=70, epochs=5).fit(X), LARFDSSOM(epochs=5).fit(X)
    assert som.state_.digest() == plain.state_.digest()
    np.testing.assert_array_equal(som.predict_nodes(X), plain.predict(X))


@pytest.mark.parametrize("kind", [LARFDSSOM, SSSOM])
def test_blank_rows_do_not_take_the_map(kind, iris):
    X, _ = iris
    blank = np.zeros((60, X.shape[1]))
    model = kind(epochs=10, seed=3).fit(np.vstack([X, blank]))
    assert model.n_nodes_ > 1
    assert model.config_.error_threshold > 1e-4, "that of samples that differ"


def test_predictions_of_a_kohonen_map_are_nearest_prototypes(iris):
    X, _ = iris
    som = KohonenSOM(rows=4, columns=5, epochs=5).fit(X)
    np.testing.assert_array_equal(som.predict(X), pairwise_distances_argmin(X, som.prototypes_))
    np.testing.assert_array_equal(som.labels_, som.fit_predict(X))
    assert som.score(X) == -som.quantization_error(X)


def test_the_error_is_the_mean_over_all_rows_however_many(rng):
    X = np.vstack([rng.random((2048, 2)), 3 + rng.random((100, 2))])
    som = KohonenSOM(rows=3, columns=3, epochs=1).fit(X[:100])
    by_hand = np.linalg.norm(X - som.prototypes_[som.predict(X)], axis=1).mean()
    assert som.quantization_error(X) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_pickle_joblib_and_skops_keep_all_of_an_estimator(kind, iris, tmp_path):
    X, y = iris
    som = kind(epochs=2, seed=np.int64(3)).fit(X, y)
    joblib.dump(som, tmp_path / "som.joblib")
    written = skops.io.dumps(som)
    types = skops.io.get_untrusted_types(data=written)
    assert types == ["somcore.config.MapConfig", f"{kind.__module__}.{kind.__name__}"]
    older = kind()
    older.__setstate__(vars(som))  # the map as a value of its own
    read = [
        pickle.loads(pickle.dumps(som)),
        joblib.load(tmp_path / "som.joblib", mmap_mode="r"),
        skops.io.loads(written, trusted=types),
        older,
    ]
    for other in read:
        assert other.state_.digest() == som.state_.digest() and other.config_ == som.config_
        assert vars(other).keys() == vars(som).keys() and repr(other) == repr(som)
        np.testing.assert_array_equal(other.predict(X), som.predict(X))
        assert other.partial_fit(X, y).state_.digest() != som.state_.digest()
    assert vars(skops.io.loads(skops.io.dumps(kind()), trusted=types)) == vars(kind())


@pytest.mark.parametrize("kind", [KohonenSOM, DSSOM, LARFDSSOM])
def test_the_score_weighs_its_samples(kind, iris):
    X = iris[0]
    som = kind(epochs=2).fit(X)
    counts = np.arange(len(X)) % 3
    assert som.score(X, sample_weight=counts) == pytest.approx(som.score(np.repeat(X, counts, axis=0)), abs=1e-9)
    assert som.score(X, sample_weight=counts * 0.1) == pytest.approx(som.score(X, None, counts))
    assert som.score(X, sample_weight=2.5) == pytest.approx(som.score(X), abs=1e-9)  # one for all, as `fit` takes it
    far = np.vstack([X, np.full(X.shape[1], 1e300)])
    assert som.score(far, sample_weight=[1] * len(X) + [0]) == pytest.approx(som.score(X), abs=1e-9)
    for weights, sentence in (
        (counts - 1, "(?i)negative values"),
        (0, "non-zero"),
        (counts[1:], "sample_weight.shape"),
    ):
        with pytest.raises(ValueError, match=sentence):
            som.score(X, sample_weight=weights)


def test_a_search_hands_its_weights_to_the_score(iris):
    X, counts = iris[0], np.arange(len(iris[0])) % 3 + 1
    som = KohonenSOM(rows=3, columns=3, epochs=2)
    halves = [(np.arange(0, 150, 2), np.arange(1, 150, 2))]
    with config_context(enable_metadata_routing=True):
        asking = som.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(asking, {"seed": [0]}, cv=halves).fit(X, sample_weight=counts)
    by_hand = KohonenSOM(rows=3, columns=3, epochs=2).fit(X[::2], sample_weight=counts[::2])
    assert search.best_score_ == by_hand.score(X[1::2], sample_weight=counts[1::2]) != by_hand.score(X[1::2])


def test_a_kohonen_map_unfolds():
    X = load_digits().data / 16
    som = KohonenSOM(rows=8, columns=8, epochs=15).fit(X)
    random = KohonenSOM(rows=8, columns=8, epochs=1, radius=1e-3, final_radius=1e-3).fit(X)
    assert som.topographic_error(X) < 0.3 < random.topographic_error(X)


def test_a_dssom_is_ordered(iris):
    X, _ = iris
    authors = DSSOM(rows=8, columns=8, radius=0.3, rate=0.01, initialisation="sample").fit(X)
    assert DSSOM(rows=8, columns=8).fit(X).topographic_error(X) < 0.2 < 0.8 < authors.topographic_error(X)


@pytest.mark.parametrize("initialisation", ["sample", "linear"])
@pytest.mark.parametrize("algorithm", ["batch", "superstep", "online"])
def test_every_algorithm_learns(initialisation, algorithm, iris):
    X, _ = iris
    som = KohonenSOM(rows=3, columns=4, epochs=10, algorithm=algorithm, initialisation=initialisation, batch_size=50)
    assert som.fit(X).quantization_error(X) < 0.25
    assert som.state_.round == {"batch": 10, "superstep": 30, "online": 1500}[algorithm]


def test_u_matrix_of_a_lattice(iris):
    X, _ = iris
    som = KohonenSOM(rows=4, columns=5, lattice="rectangular", epochs=5).fit(X)
    full = som.u_matrix(full=True)
    assert som.u_matrix().shape == (4, 5) and full.shape == (7, 9)
    np.testing.assert_array_equal(full[::2, ::2], som.u_matrix())
    assert full[0, 1] == pytest.approx(np.linalg.norm(som.prototypes_[0] - som.prototypes_[1]))
    across = [np.linalg.norm(som.prototypes_[a] - som.prototypes_[b]) for a, b in ((0, 6), (1, 5))]
    assert full[1, 1] == pytest.approx(np.mean(across)), "in the middle of four nodes"
    torus = KohonenSOM(rows=4, columns=5, toroidal=True, epochs=2).fit(X)
    assert torus.u_matrix(full=True).shape == (8, 10)
    assert torch.equal(torus.state_.neighbours, adjacency(4, 5, "hexagonal", True))


@pytest.mark.parametrize("kind", (DSSOM, *GROWING))
def test_members_of_subspace_clusters(kind, iris):
    X, y = iris
    som = kind(epochs=5).fit(X, y)
    members = som.predict_members(X)
    assert members.shape == (150, som.n_nodes_) and members.dtype == bool
    dense = members.toarray()
    nodes = som.predict_nodes(X) if kind in SEMI_SUPERVISED else som.predict(X)
    assert dense[np.arange(150), nodes].all()
    assert dense.sum(axis=1).max() > 1


def test_members_of_a_classical_map_are_its_bmus(iris):
    som = KohonenSOM(rows=3, columns=4, epochs=2).fit(iris[0])
    members = som.predict_members(iris[0]).toarray()
    assert members.sum() == 150 and (members.argmax(1) == som.predict(iris[0])).all()


def test_a_deviation_may_be_that_of_the_last_round_alone(iris):
    X, y = iris
    model = ALTSSSOM(deviation_decay=0.0, epochs=3, seed=0).fit(X, y)
    assert np.isfinite(model.relevances_).all() and model.score(X, y) > 0.9


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("batch_size", [1, 7, 512])
@pytest.mark.filterwarnings("ignore:Features should not be tiny")
def test_a_sample_lies_in_the_box_of_the_node_that_it_made_on_any_scale(scale, batch_size):
    X = scale * np.repeat([[0.3, 0.71, 0.123, 0.9]], 50, 0)
    som = ALTSSSOM(capacity=30, epochs=2, min_win_share=0.0, batch_size=batch_size, seed=0).fit(X)
    assert som.n_nodes_ == 1


@pytest.mark.parametrize("kind", (DSSOM, *GROWING))
def test_noise_filter(kind, iris):
    X, y = iris
    som = kind(epochs=5, noise_filter=True).fit(X, y)
    far = np.array([[30.0, -30.0, 30.0, -30.0]])
    assert som.predict(far).tolist() == [-1]
    assert som.predict_members(far).sum() == 0
    assert (som.predict(X) >= 0).mean() > 0.2
    nodes = som.predict_nodes(X) if kind in SEMI_SUPERVISED else som.predict(X)
    assert (som.predict_members(X).toarray().any(1) == (nodes >= 0)).all()
    assert kind(epochs=5).fit(X, y).predict(far)[0] >= 0


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_one_row_at_a_time_is_one_round_each(kind, iris):
    X, y = iris
    som = kind()
    for i in range(20):
        som.partial_fit(X[i : i + 1], y[i : i + 1], **({"classes": [0, 1, 2]} if kind in SEMI_SUPERVISED else {}))
    assert som.state_.round == 20 and som.labels_.shape == (1,)
    whole = kind(batch_size=1).partial_fit(X[:20], y[:20]) if kind in GROWING else None
    if whole is not None and kind is ALTSSSOM:  # no threshold to calibrate: the same configuration
        assert whole.state_.round == 20
        again = kind(batch_size=1)
        again.partial_fit(X[:12], y[:12], classes=[0, 1, 2]).partial_fit(X[12:20], y[12:20])
        same = kind(batch_size=1).partial_fit(X[:20], y[:20], classes=[0, 1, 2])
        assert again.state_.digest() == same.state_.digest()


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_partial_fit_learns_and_goes_on_after_fit(kind):
    X, y = load_digits(return_X_y=True)
    X, order = X / 16, np.random.default_rng(0).permutation(1797)
    X, y = X[order], y[order]
    options = {"rows": 6, "columns": 6, "algorithm": "superstep"} if kind in (KohonenSOM, DSSOM) else {"capacity": 60}
    options |= {"rate": 0.2} if kind is DSSOM else {}
    som = kind(**options).partial_fit(X[:100], y[:100])
    first = som.quantization_error(X) if kind not in SEMI_SUPERVISED else -som.score(X, y)
    for start in range(100, 1700, 200):
        som.partial_fit(X[start : start + 200], y[start : start + 200])
    last = som.quantization_error(X) if kind not in SEMI_SUPERVISED else -som.score(X, y)
    assert last < first
    fitted = kind(**options, epochs=2).fit(X[:200], y[:200])
    before = fitted.state_.digest()
    assert fitted.partial_fit(X[200:300], y[200:300]).state_.digest() != before


@pytest.mark.parametrize("kind", GROWING)
def test_a_finished_map_grows_again_where_samples_come_from_elsewhere(kind, iris):
    X, _ = iris
    som = kind(epochs=3, pruning_epochs=2).fit(X)
    nodes, far = som.n_nodes_, np.array([[9.0, 9.0, 9.0, 9.0], [-9.0, 9.0, -9.0, 9.0]])
    assert not som.state_.growing
    assert som.partial_fit(far).n_nodes_ > nodes


def test_streams_of_a_batch_map_do_not_forget(iris):
    X, _ = iris
    som = KohonenSOM(rows=3, columns=3, epochs=10).fit(X)
    before = som.prototypes_.copy()
    som.partial_fit(X[:1])
    assert np.abs(som.prototypes_ - before).max() < 0.1


@pytest.mark.parametrize("kind", GROWING)
def test_a_stream_of_weighted_samples_is_the_stream_without_where_each_weighs_one(kind, iris):
    """With weights a first call of one row was taken for all of the data: nodes were pruned every ten samples."""
    X, y = iris
    plain, weighted = kind(), kind()
    classes = {"classes": [0, 1, 2]} if kind in SEMI_SUPERVISED else {}
    for row in range(40):
        here = slice(row, row + 1)
        plain.partial_fit(X[here], y[here], **classes)
        weighted.partial_fit(X[here], y[here], sample_weight=[1], **classes)
    assert weighted.config_ == plain.config_ and weighted.state_.digest() == plain.state_.digest()
    assert plain.config_.pruning_period == 10 * plain.batch_size, "ten epochs of at least one batch"
    many = kind().partial_fit(X[:1], y[:1], sample_weight=[700], **classes)
    assert many.config_.pruning_period == 7000


def test_a_numpy_batch_size_is_a_batch_size(iris):
    """`fit` took it, `partial_fit` of a lattice did not."""
    maps = [KohonenSOM(rows=2, columns=2, batch_size=size).partial_fit(iris[0]) for size in (np.int64(16), 16)]
    assert maps[0].state_.digest() == maps[1].state_.digest()


def test_partial_fit_of_a_batch_map_is_a_round_for_each_batch(iris):
    som = KohonenSOM(rows=3, columns=3, epochs=2, batch_size=40).fit(iris[0])
    rounds = som.state_.round
    assert som.partial_fit(iris[0]).state_.round == rounds + 4, "of 150 rows"


def test_a_stream_grows_for_as_long_as_it_flows(rng):
    som = LARFDSSOM(epochs=1, batch_size=4, activation_threshold=0.9)
    for _ in range(30):
        som.partial_fit(rng.random((8, 2)))
    assert som.state_.round == 60 and som.state_.growing and not som.state_.finished


def test_partial_fit_refuses_a_new_class(iris):
    X, y = iris
    som = SSSOM().partial_fit(X[:60], y[:60])
    assert som.classes_.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"classes of the first call \(\[0, 1\]\), or -1\. Got 2; name all that may"):
        som.partial_fit(X, y)
    som.partial_fit(X, np.where(y == 2, -1, y))
    assert SSSOM().partial_fit(X[:60], y[:60], classes=[0, 1, 2]).partial_fit(X, y).classes_.tolist() == [0, 1, 2]


def test_classes_stay_those_of_the_first_call(iris):
    X, y = iris
    som = SSSOM(epochs=1).fit(X[:100], y[:100])
    digest = som.partial_fit(X[:60], y[:60], classes=np.array([1.0, 0.0, -1.0])).state_.digest()
    for other in ([0, 1, 2], [0], [], [3, 4]):
        with pytest.raises(ValueError, match=r"classes must be those of the first call \(\[0, 1\]\)\. Got \["):
            som.partial_fit(X[:60], y[:60], classes=other)
    assert som.state_.digest() == digest


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_weights_count_samples(kind, iris):
    X, y = iris
    weights = np.where(np.arange(150) < 50, 3, 1)
    som, plain, other = kind(epochs=3), kind(epochs=3), kind(epochs=3)
    assert som.fit(X, y, sample_weight=weights).state_.digest() != plain.fit(X, y).state_.digest()
    other.fit_predict(X, y, sample_weight=weights)
    assert other.state_.digest() == som.state_.digest()
    assert som.fit(X, y, sample_weight=np.ones(150)).config_ == plain.config_
    kept = np.arange(150) >= 30
    dropped = kind(epochs=3).fit(X, y, sample_weight=kept.astype(float))
    assert dropped.labels_.shape == (150,)
    assert dropped.state_.digest() == kind(epochs=3).fit(X[kept], y[kept]).state_.digest()


def test_weight_m_is_m_repetitions_in_a_batch_map(iris):
    X, _ = iris
    weights = np.arange(150) % 3 + 1
    options = {"rows": 3, "columns": 3, "epochs": 5, "initialisation": "linear"}
    start = KohonenSOM(**options).partial_fit(X)
    som, repeated = (KohonenSOM(**options, batch_size=1000) for _ in range(2))
    for estimator in (som, repeated):
        estimator._install(start.state_, start.config_)
        estimator.n_features_in_ = 4
    som.partial_fit(X, sample_weight=weights)
    repeated.partial_fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(som.prototypes_, repeated.prototypes_, atol=1e-9)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_missing_values_take_no_part(kind, iris, rng):
    X, y = iris
    holes = np.where(rng.random(X.shape) < 0.15, np.nan, X)
    holes[np.isnan(holes).all(axis=1), 0] = 0.5
    som = kind(missing="mask", epochs=8).fit(holes, y)
    assert np.isfinite(som.prototypes_).all()
    nodes = som.predict(holes)
    score = (nodes == y).mean() if kind in SEMI_SUPERVISED else adjusted_rand_score(y, nodes)
    assert score > (0.75 if kind in SEMI_SUPERVISED else 0.05)
    assert np.isfinite(som.transform(holes)).all() and np.isfinite(som.quantization_error(holes))
    complete = kind(missing="mask", epochs=3).fit(X, y)
    np.testing.assert_allclose(complete.prototypes_, kind(epochs=3).fit(X, y).prototypes_, atol=1e-9)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_float32_and_layout_change_nothing(kind, iris):
    X, y = iris
    X = X.astype(np.float32)
    digests = {
        kind(epochs=3).fit(data, y).state_.digest()
        for data in (X, X.astype(np.float64), np.asfortranarray(X), X.tolist(), X[::-1][::-1])
    }
    assert len(digests) == 1


def test_the_threshold_is_recorded(iris):
    X, y = iris
    auto = SSSOM(epochs=3).fit(X, y)
    assert 0 < auto.config_.activation_threshold < 1 and auto.activation_threshold == "auto"
    assert SSSOM(epochs=3, activation_threshold=0.9).fit(X, y).config_.activation_threshold == 0.9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no cuda device on this machine")
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_cuda_gives_the_same_map_within_tolerance(kind, iris):
    X, y = iris
    np.testing.assert_allclose(
        kind(epochs=3, device="cuda").fit(X, y).prototypes_, kind(epochs=3).fit(X, y).prototypes_, atol=1e-6
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (KohonenSOM, {"rows": 20, "columns": 20, "algorithm": "superstep"}),
        (KohonenSOM, {"rows": 20, "columns": 20, "initialisation": "linear"}),
        (KohonenSOM, {"rows": 20, "columns": 20, "algorithm": "superstep", "initialisation": "linear"}),
        (DSSOM, {"rows": 10, "columns": 10}),
        (LARFDSSOM, {"capacity": 60}),
    ],
)
def test_the_map_is_the_same_for_any_number_of_threads(kind, options, rng):
    X, threads, digests = rng.random((2000, 100)), torch.get_num_threads(), set()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            digests.add(kind(epochs=1, **options).fit(X).state_.digest())
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert len(digests) == 1


def test_the_score_takes_a_column_and_refuses_what_are_no_classes_of_the_samples(iris):
    X, y = iris
    som = SSSOM(seed=0, epochs=5).fit(X, y)
    with pytest.warns(Warning, match="column-vector"):
        assert som.score(X, y.reshape(-1, 1)) == som.score(X, y) > 0.9
    for wrong, sentence in (
        (y[:100], "inconsistent numbers"),
        (np.array(list("abc"))[y], "y must"),
        (None, "Got None"),
    ):
        with pytest.raises(ValueError, match=sentence):
            som.score(X, wrong)
    few = np.where(np.arange(len(y)) % 2, y, -1)
    for weights, sentence in (
        (np.where(few == 1, -1.0, 1.0), "(?i)negative values.*sample_weight"),
        (np.where(few == 1, np.nan, 1.0), "sample_weight contains NaN"),
        (np.ones(3), "inconsistent|sample_weight.shape"),
        (np.where(few == -1, 1.0, 0.0), "sample_weight must be above 0 for a row with a label. Got 0 in each of them"),
    ):
        with pytest.raises(ValueError, match=sentence):
            som.score(X, few, weights)
    assert som.score(X, few, np.where(som.predict(X) == y, 0.5, 0.0)) == 1


def test_a_missing_value_has_no_say_in_the_members_of_dssom(iris, rng):
    X = iris[0].copy()
    X[:, :3][rng.random((len(X), 3)) < 0.3] = np.nan
    som = DSSOM(rows=4, columns=4, missing="mask", epochs=3).fit(X)
    members = som.predict_members(X).toarray()
    assert members[np.arange(len(X)), som.predict(X)].all()
    alone = [som.predict_members(row[None]).toarray()[0] for row in X[:20]]
    assert np.array_equal(np.stack(alone), members[:20])


def test_a_linear_start_sees_weights_as_equal_samples(rng):
    X = rng.random((200, 3))
    weights = np.where(X[:, 0] > 0.8, 30, 1)
    som = KohonenSOM(rows=4, columns=4, epochs=1, initialisation="linear")
    weighted = som.fit(X, sample_weight=weights).prototypes_
    assert np.allclose(weighted, som.fit(np.repeat(X, weights, axis=0)).prototypes_, atol=1e-9)


def test_features_that_the_sums_cannot_tell_apart_are_warned_of(rng):
    X = rng.random((50, 3))
    with pytest.warns(UserWarning, match="should not be tiny.* Got at most 9"):
        KohonenSOM(rows=2, columns=2, epochs=1).fit(X / X.max() * 9e-9)
    with pytest.warns(UserWarning, match="should not be tiny: thresholds begin .* Got at most 0.0009"):
        LARFDSSOM(epochs=1).fit(X / X.max() * 9e-4)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_constant_features_are_warned_of_where_there_are_relevances(kind, iris):
    X, y = iris
    som, told = kind(epochs=1), None if kind is KohonenSOM else "Got 4 of 8; leave them out.*VarianceThreshold"
    with pytest.warns(UserWarning, match=told) if told else contextlib.nullcontext() as caught:
        som.fit(np.hstack([X, np.ones_like(X)]), y)
    assert not told or [warning.filename for warning in caught] == [__file__]


def test_rows_that_are_all_the_same_are_warned_of():
    with pytest.warns(UserWarning, match="constant.* Got 4 of 4; nothing tells one row from another"):
        SSSOM(epochs=1, pruning_epochs=1).fit(np.ones((100, 4)))


def test_few_constant_features_or_a_single_row_are_not_warned_of(iris):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SSSOM(epochs=1).fit(load_digits().data / 16)  # 3 of 64
        SSSOM(epochs=1).fit(iris[0][:1])


def test_classes_that_no_node_is_left_for_are_warned_of():
    """Few labels, sharp relevances: one or two nodes win all rows, the others are pruned."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 6, 10_000)
    X = np.clip(rng.random((6, 20))[y] + rng.normal(0, 0.15, (10_000, 20)), 0, 1)
    X[:, 14:] = rng.random((10_000, 6))
    few = np.where(rng.random(10_000) < 0.02, y, -1)
    with pytest.warns(UserWarning, match=r"Got \d+ nodes? for 6 classes, none for .*larger relevance_slope") as told:
        lost = ALTSSSOM(seed=0, epochs=10).fit(X, few)
    assert told[0].filename == __file__ and len(set(lost.node_classes_)) < 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = SSSOM(seed=0, epochs=10).fit(X, few)
    assert set(kept.node_classes_) >= set(range(6)) and kept.score(X, y) > lost.score(X, y) + 0.3


def test_constant_features_are_found_beside_missing_values(iris):
    X = np.hstack([iris[0], np.full((150, 1), 0.5)])
    X[::3, -1] = np.nan
    with pytest.warns(UserWarning, match="Got 1 of 5"):
        SSSOM(epochs=1, missing="mask").fit(X)


def test_an_estimator_on_a_device_of_torch_is_saved(iris, tmp_path):
    som = KohonenSOM(rows=2, columns=2, epochs=1, device=torch.device("cpu")).fit(iris[0])
    som.save(tmp_path / "map.som")
    assert KohonenSOM.load(tmp_path / "map.som").state_.digest() == som.state_.digest()


def test_a_saved_estimator_knows_the_names_of_its_features(iris, tmp_path):
    X = pd.DataFrame(iris[0], columns=["a", "b", "c", "d"])
    LARFDSSOM(epochs=1).fit(X).save(tmp_path / "map.som")
    loaded = LARFDSSOM.load(tmp_path / "map.som")
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(X[["b", "a", "c", "d"]])
