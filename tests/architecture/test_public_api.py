"""The names that users type: they stay, so that scripts keep working. Add names, lose none."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import somcore

REPOSITORY = Path(__file__).resolve().parents[2]
ESTIMATORS = ("KohonenSOM", "DSSOM", "LARFDSSOM", "SSSOM", "ALTSSSOM")
CORE = ("MapConfig", "MapState", "BatchStatistics", "match", "accumulate", "advance", "SOMLayer", "LossConfig")
FITTED = ("labels_", "prototypes_", "relevances_", "node_classes_", "n_nodes_", "state_")


@pytest.mark.parametrize("name", ESTIMATORS + CORE)
def test_the_name_is_there_and_listed(name):
    assert callable(getattr(somcore, name))
    assert name in somcore.__all__


def test_importing_the_core_does_not_import_the_estimators_dependencies():
    """A worker needs the map, not scikit-learn, whose import takes seconds: the estimators come on demand."""
    loaded = "print('sklearn' in sys.modules)"
    code = f"import sys, somcore; {loaded}; somcore.SSSOM; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_has_the_methods_of_the_interface(name):
    estimator = getattr(somcore, name)
    assert estimator(seed=0).get_params()["seed"] == 0
    for method in ("fit", "partial_fit", "predict", "transform", "save", "load"):
        assert callable(getattr(estimator, method)), method


def test_the_documented_constructions_work():
    options = {"rows": 4, "columns": 5, "epochs": 2, "radius": 2.0, "final_radius": 1.0, "seed": 0}
    som = somcore.KohonenSOM(lattice="rectangular", toroidal=False, **options).fit(_samples())
    assert som.prototypes_.shape == (20, 3)


def test_a_fitted_estimator_has_the_attributes_of_the_interface():
    samples = _samples()
    classes = [0, 1, -1, 0] * 10
    som = somcore.SSSOM(capacity=20, seed=0).fit(samples, classes)
    assert [name for name in FITTED if not hasattr(som, name)] == []
    assert som.predict(samples).shape == (40,)
    assert som.predict_proba(samples).shape == (40, 2)
    assert som.transform(samples).shape[0] == 40
    assert som.partial_fit(samples, classes) is som


def test_functions_of_the_core_name_their_arguments_as_documented():
    assert list(inspect.signature(somcore.match).parameters)[:3] == ["state", "features", "labels"]
    assert list(inspect.signature(somcore.accumulate).parameters)[:4] == [
        "state",
        "features",
        "labels",
        "config",
    ]
    assert list(inspect.signature(somcore.advance).parameters) == ["state", "statistics", "config"]


def _samples():
    """Forty rows of the digits that come with scikit-learn: three pixels, scaled to [0, 1]."""
    from sklearn.datasets import load_digits

    return load_digits().data[:40, 2:5] / 16.0
