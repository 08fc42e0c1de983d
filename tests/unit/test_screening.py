"""Screening by compiled loops is somcore: the same nodes, classes and numbers, to rounding."""

import pytest
import torch

from pipeline.benchmarks.uci.fitting import resolved, train_map
from pipeline.sweeps import screening
from pipeline.sweeps.published_spaces import SPACES, map_config, pick, shortened
from somcore import SSSOM, MapConfig, predict_classes

pytestmark = pytest.mark.skipif(screening.library() is None, reason="no C compiler")


def blobs(generator, num_rows=90, num_features=3, num_classes=3):
    classes = torch.arange(num_rows) % num_classes
    centres = torch.rand(num_classes, num_features, generator=generator, dtype=torch.float64)
    spread = 0.15 * torch.randn(num_rows, num_features, generator=generator, dtype=torch.float64)
    return (centres[classes] + spread).clamp(0, 1), classes


@pytest.mark.parametrize("labelled", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_the_loops_are_somcore(generator, variant, index, labelled):
    features, classes = blobs(generator)
    labels = torch.where(torch.rand(len(classes), generator=generator) < labelled, classes, -1)
    config = map_config(variant, pick(shortened(SPACES[variant], 12), variant, index), *features.shape, index)
    config = resolved(config, features, 3)
    given = None if variant == "larfdssom" else labels
    slow, fast = train_map(config, features, given, 3), screening.screen_map(config, features, given, 3)
    assert slow.round == fast.round
    for name in ("alive", "classes", "updates"):
        assert torch.equal(getattr(slow, name), getattr(fast, name)), name
    for name in ("prototypes", "relevances", "deviations"):
        assert torch.allclose(getattr(slow, name), getattr(fast, name), rtol=0, atol=1e-12), name


@pytest.mark.parametrize("sampling", ["permutation", "replacement"])
@pytest.mark.parametrize("variant", ["sssom", "altsssom"])
def test_small_rounds_full_maps_and_conflicts(generator, variant, sampling):
    """Several rounds per epoch, a capacity that binds, unlabelled nodes that meet several classes."""
    features, classes = blobs(generator, num_rows=120)
    labels = torch.where(torch.rand(120, generator=generator) < 0.3, classes, -1)
    for capacity in (5, 40):
        config = MapConfig(variant=variant, sampling=sampling, batch_size=16, capacity=capacity, epochs=8, seed=3)
        config = resolved(config, features, 3)
        slow, fast = train_map(config, features, labels, 3), screening.screen_map(config, features, labels, 3)
        assert torch.equal(slow.classes, fast.classes) and slow.num_nodes <= capacity
        assert torch.allclose(slow.prototypes, fast.prototypes, rtol=0, atol=1e-12)
        assert torch.equal(predict_classes(slow, features, config), predict_classes(fast, features, config))


def test_what_the_loops_do_not_cover_is_left_to_somcore():
    drawn = MapConfig(variant="sssom", sampling="replacement")
    assert screening.can_screen(drawn)
    assert not screening.can_screen(MapConfig(variant="sssom", sampling="replacement", missing="mask"))
    assert not screening.can_screen(MapConfig(variant="kohonen", sampling="replacement"))


def test_the_training_of_the_benchmark_is_the_estimator(generator):
    features, classes = blobs(generator)
    labels = torch.where(torch.rand(len(classes), generator=generator) < 0.3, classes, -1)
    labels[:3] = classes[:3]
    estimator = SSSOM(epochs=5, seed=7, sampling="replacement").fit(features.numpy(), labels.numpy())
    config = resolved(MapConfig(variant="sssom", epochs=5, seed=7, sampling="replacement"), features, 3)
    assert train_map(config, features, labels, 3).digest() == estimator.state_.digest()


@pytest.mark.parametrize(
    "compiler, works", [("env cc", True), ("nowhere-cc", False), ("cc 'open", False), ("true", False)]
)
def test_a_compiler_with_arguments_or_none_that_works(monkeypatch, compiler, works):
    monkeypatch.setenv("CC", compiler)
    assert (screening.library.__wrapped__() is not None) == works
