"""scikit-learn's own suite for estimators, and the tools of scikit-learn that estimators must work in."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier, is_clusterer
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler, minmax_scale
from sklearn.utils.estimator_checks import parametrize_with_checks

from somcore import ALTSSSOM, DSSOM, LARFDSSOM, SSSOM, KohonenSOM

ESTIMATORS = (KohonenSOM, DSSOM, LARFDSSOM, SSSOM, ALTSSSOM)
CLASSIFIERS = (SSSOM, ALTSSSOM)

ORDER = (
    "A weight m counts as m equal samples within a round, but which rows start a map, and the order that settles "
    "which of several candidates becomes a node, are drawn by row number: more rows, another draw."
)
NODES = "labels_ are node indices: a map has more nodes than blobs, and a node may win no training sample."
CODES = (
    "y holds class numbers and -1 = unlabelled; the check uses strings, then -1 as a class. scikit-learn exempts "
    "its own semi-supervised classifiers from it by name."
)


def expected_failures(estimator) -> dict[str, str]:
    """Checks of scikit-learn that cannot hold for this estimator, each with the reason."""
    failures = {"check_sample_weight_equivalence_on_dense_data": ORDER}
    return failures | ({"check_clustering": NODES} if is_clusterer(estimator) else {"check_classifiers_classes": CODES})


def _quick(estimator):
    """The default estimator with fewer passes: the checks fit it some hundred times."""
    passes = {"epochs": 5} if isinstance(estimator, KohonenSOM | DSSOM) else {"epochs": 5, "pruning_epochs": 3}
    return estimator.set_params(**passes)


@parametrize_with_checks([_quick(estimator()) for estimator in ESTIMATORS], expected_failed_checks=expected_failures)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_kinds_of_estimators(kind):
    assert is_classifier(kind()) is (kind in CLASSIFIERS)
    assert is_clusterer(kind()) is (kind not in CLASSIFIERS)


def test_grid_search_finds_the_better_parameters():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(MinMaxScaler(), SSSOM(epochs=10))
    grid = {"sssom__capacity": [1, 40], "sssom__epochs": np.array([5, 10])}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_params_["sssom__capacity"] == 40
    assert search.best_score_ > 0.85
    np.testing.assert_array_equal(search.best_estimator_["sssom"].classes_, [0, 1, 2])


def test_grid_search_without_labels_scores_by_quantization_error():
    X = load_digits().data[:300] / 16
    search = GridSearchCV(KohonenSOM(epochs=5), {"rows": [2, 6], "columns": [6]}, cv=3).fit(X)
    assert search.best_params_["rows"] == 6


def test_scores_ignore_unlabelled_rows():
    X, y = load_iris(return_X_y=True)
    X, few = minmax_scale(X), np.where(np.arange(150) % 3, -1, y)
    scores = cross_val_score(ALTSSSOM(epochs=10), X, few, cv=3, error_score="raise")
    assert scores.min() > 0.8


def test_pipelines_transform_by_activation():
    X, y = load_digits(return_X_y=True)
    from sklearn.linear_model import LogisticRegression

    som = KohonenSOM(rows=6, columns=6, epochs=5)
    pipeline = make_pipeline(MinMaxScaler(), som, StandardScaler(), LogisticRegression(max_iter=2000))
    assert pipeline.fit(X[:500], y[:500]).score(X[500:900], y[500:900]) > 0.8


def test_data_frames_in_and_out():
    frame = load_iris(as_frame=True).data / 8
    som = LARFDSSOM(capacity=5, epochs=5).fit(frame).set_output(transform="pandas")
    assert list(som.feature_names_in_) == list(frame.columns)
    out = som.transform(frame)
    assert isinstance(out, pd.DataFrame) and out.columns[0] == "larfdssom0" and out.shape == (150, som.n_nodes_)
    with pytest.raises(ValueError, match="feature names"):
        som.predict(frame.rename(columns={frame.columns[0]: "other"}))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_clone_and_pickle(kind):
    X, y = load_iris(return_X_y=True)
    X = minmax_scale(X)
    som = kind(epochs=4, seed=3).fit(X, y)
    copy = clone(som)
    assert not hasattr(copy, "state_") and copy.get_params() == som.get_params()
    assert copy.fit(X, y).state_.digest() == som.state_.digest()
    back = pickle.loads(pickle.dumps(som))
    assert back.state_.digest() == som.state_.digest()
    np.testing.assert_array_equal(back.predict(X), som.predict(X))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_save_and_load(kind, tmp_path):
    frame = pd.DataFrame(minmax_scale(load_iris().data), columns=list("abcd"))
    y = np.where(np.arange(150) % 4, -1, load_iris().target * 7)
    som = kind(epochs=4, seed=np.int64(3)).fit(frame, y)
    som.save(tmp_path / "map")
    assert [path.name for path in tmp_path.iterdir()] == ["map"]
    back = kind.load(tmp_path / "map")
    assert back.get_params() == som.get_params() and back.config_ == som.config_
    assert back.state_.digest() == som.state_.digest()
    fitted = [name for name in vars(som) if name.endswith("_") and name not in ("state_", "config_")]
    for name in [*fitted, "relevant_features_"]:
        np.testing.assert_array_equal(getattr(back, name), getattr(som, name))
    np.testing.assert_array_equal(back.predict(frame), som.predict(frame))
    np.testing.assert_array_equal(back.transform(frame), som.transform(frame))
    back.partial_fit(frame, y)
    assert back.state_.digest() == som.partial_fit(frame, y).state_.digest()


def test_features_out_of_range_warn_once():
    X = load_iris().data
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        som = SSSOM(epochs=2).fit(X, load_iris().target)
        som.predict(X)
        KohonenSOM(rows=2, columns=2, epochs=2).fit(X)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1 and "should lie in [0, 1]" in messages[0] and "Got 0.1 to 7.9" in messages[0]
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", (LARFDSSOM, SSSOM, ALTSSSOM))
def test_streams_out_of_range_warn_in_their_first_call(kind):
    X, y = load_iris(return_X_y=True)
    som = kind()
    with pytest.warns(UserWarning, match=r"should lie in \[0, 1\].* Got 0.1 to 7.9") as caught:
        som.partial_fit(X, y)
        som.partial_fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
