"""The map as a module: frozen in forward, replaced by install, kept by state_dict, at home on any device."""

import copy
import dataclasses
import functools
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from somcore import LARFDSSOM, SSSOM, KohonenSOM, LossConfig, MapConfig, SOMLayer, advance, initial_state
from somcore.growth import keep_nodes
from somcore.latent import LatentMoments
from somcore.losses import RoundTotals, Views
from somcore.refresh import open_map, refreshed, with_every_class
from somcore.relevance import corrected_deviations
from somcore.state import TENSORS
from somcore.statistics import BatchStatistics
from somcore.update import accumulate, round_scale


def trained_layer(generator, rounds=4, **options):
    layer = SOMLayer(MapConfig(activation_threshold=0.95, **options), dim=6, num_classes=3)
    for _ in range(rounds):
        z, labels = torch.rand(64, 6, generator=generator), torch.randint(-1, 3, (64,), generator=generator)
        layer.install(advance(layer.state, layer(z, labels).statistics, layer.config))
    return layer


def test_features_beyond_exact_sums_are_refused_where_these_are_asked_for(generator):
    layer = SOMLayer(MapConfig(capacity=20, batch_size=64), dim=8)
    z = 1e7 * torch.rand(64, 8, generator=generator)
    layer.calibrate(z)
    layer.install(advance(layer.state, layer(z, exact=False).statistics, layer.config))
    assert layer.state.num_nodes > 1 and layer(z, exact=False).count == 64
    with pytest.raises(ValueError, match="Features must be small enough for exact sums"):
        layer(z)
    copied = SOMLayer(MapConfig(capacity=20, batch_size=64), dim=8)
    copied.load_state_dict(layer.state_dict())
    assert copied.state.digest() == layer.state.digest()
    layer.install(initial_state(layer.config, 8))
    assert layer(torch.rand(4, 8)).count == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 2.5}, "num_samples must be a whole number >= 1. Got 2.5"),
        ({"num_samples": 0}, "num_samples must be a whole number >= 1. Got 0"),
        ({"dim": -1}, "dim must be a whole number >= 1. Got -1"),
        ({"dim": "8"}, "dim must be a whole number >= 1. Got '8'"),
    ],
)
def test_sizes_are_whole_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        SOMLayer(MapConfig(), **{"dim": 4, **options})


def test_sizes_may_be_numbers_of_numpy():
    layer = SOMLayer(MapConfig(), np.int64(4), np.int32(3), num_samples=np.int64(10_000), bound=np.float32(2))
    same = SOMLayer(MapConfig(), 4, 3, num_samples=10_000, bound=2.0)
    assert (layer.config, layer.num_classes, layer.bound) == (same.config, same.num_classes, same.bound)


@pytest.mark.parametrize("bound", [1.0, 8.0])
def test_features_up_to_the_bound_are_summed_on_its_scale(bound, generator):
    layer = SOMLayer(MapConfig(batch_size=64), dim=4, num_classes=3, num_samples=64, bound=bound)
    z, labels = bound * torch.rand(64, 4, generator=generator), torch.arange(64) % 3
    scale = round_scale(layer.state, bound, 64)
    assert layer(z, labels).statistics == accumulate(layer.state, z, labels, layer.config, scale=scale)
    with pytest.raises(ValueError, match=f"must be within the bound .*{bound:g}"):
        layer(2 * z, labels)


def test_forward_never_changes_the_map_and_prototypes_get_no_gradient(generator):
    layer = trained_layer(generator)
    encoder = nn.Linear(4, 6)
    digest = layer.state.digest()
    out = layer(torch.sigmoid(encoder(torch.rand(32, 4, generator=generator))), torch.arange(32) % 4 - 1)
    out.loss_sum.backward()
    assert encoder.weight.grad.abs().sum() > 0
    assert layer.state.digest() == digest
    assert not list(layer.parameters())
    assert all(not buffer.requires_grad and buffer.grad is None for buffer in layer.buffers())
    assert not any(value.requires_grad for value in out.statistics.sums.values())


def test_the_interface_of_the_documentation(generator):
    layer = SOMLayer(MapConfig(), dim=64, num_classes=10)
    out = layer(torch.rand(8, 64, generator=generator), torch.arange(8) - 1)
    assert out.count == 8 and out.loss_sum.shape == () and out.match.bmu.tolist() == [-1] * 8
    layer.install(advance(layer.state, out.statistics, layer.config))
    assert layer.state.num_nodes > 0 and layer.state.round == 1


def test_statistics_are_those_of_accumulate_and_tiles_merge_to_the_round(generator):
    layer = trained_layer(generator)
    z, labels = torch.rand(50, 6, generator=generator), torch.randint(-1, 3, (50,), generator=generator)
    positions = torch.arange(50)
    whole = layer(z, labels).statistics
    assert whole == accumulate(layer.state, z, labels, layer.config, scale=whole.scale)
    parts = [layer(z[r], labels[r], positions=positions[r]) for r in (slice(20, 50), slice(0, 20))]
    assert whole == parts[0].statistics.merge(parts[1].statistics)
    total = sum(part.loss(RoundTotals(samples=50, labelled=1)).item() for part in parts)
    no_tiles = {"variance_weight": 0.0}
    layer.losses = dataclasses.replace(layer.losses, **no_tiles)
    again = [layer(z[r], labels[r]).loss_sum.item() for r in (slice(20, 50), slice(0, 20))]
    assert sum(again) == pytest.approx(layer(z, labels).loss_sum.item(), rel=1e-5)
    assert total > 0


def test_processes_that_gather_their_statistics_keep_the_map_of_one_process(generator):
    """Each has a layer of its own and a part of every batch, as docs/deep.md has it."""
    one, *ranks = (SOMLayer(MapConfig(capacity=20, batch_size=48), dim=6, num_classes=3) for _ in range(4))
    for _ in range(5):
        z, labels = torch.rand(48, 6, generator=generator), torch.randint(-1, 3, (48,), generator=generator)
        for layer in (one, *ranks):
            layer.calibrate(z)
        parts = [
            pickle.dumps(layer(z[rows], labels[rows], positions=rows).statistics)  # as all_gather_object sends it
            for layer, rows in zip(ranks, torch.arange(48).split(16), strict=True)
        ]
        one.install(advance(one.state, one(z, labels).statistics, one.config))
        for layer in ranks:
            merged = functools.reduce(BatchStatistics.merge, map(pickle.loads, parts))
            layer.install(advance(layer.state, merged, layer.config))
    assert one.state.num_nodes > 1
    assert {layer.state.digest() for layer in ranks} == {one.state.digest()}


def test_large_batches_add_up_exactly_in_any_order(generator):
    """More rows than whole numbers in float64 have room for at once: values near the bound, of many digits."""
    config = MapConfig(variant="larfdssom", activation_threshold=0.6).resolve(num_samples=16384, num_features=3)
    features = 1 - torch.rand(16384, 3, generator=generator) * 1e-3
    state = initial_state(config, 3)
    state = advance(state, accumulate(state, features[:4], None, config, scale=40), config)
    order, places = torch.randperm(16384, generator=generator), torch.arange(16384)
    whole = accumulate(state, features, None, config, scale=40)
    assert whole == accumulate(state, features[order], None, config, positions=places[order], scale=40)
    tiles = [accumulate(state, features[p], None, config, positions=p, scale=40) for p in places.split(1000)]
    assert whole == functools.reduce(BatchStatistics.merge, tiles)


def test_a_map_gets_no_gradient_from_features_that_have_one(generator):
    config = MapConfig(variant="larfdssom", activation_threshold=0.6).resolve(num_samples=8, num_features=3)
    features = torch.rand(8, 3, generator=generator, requires_grad=True)
    state = initial_state(config, 3)
    for scale in (40, None):
        after = advance(state, accumulate(state, features, None, config, scale=scale), config)
        assert not after.prototypes.requires_grad and after.digest()


def test_state_dict_brings_the_whole_map_back(generator, tmp_path):
    layer = trained_layer(generator)
    layer.calibrate(torch.rand(64, 6, generator=generator))
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = SOMLayer(MapConfig(activation_threshold=0.95), dim=6, num_classes=3)
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert other.state.digest() == layer.state.digest()
    assert other.config.activation_threshold == layer.config.activation_threshold
    assert copy.deepcopy(layer).state.digest() == layer.state.digest()


def test_a_saved_map_of_another_kind_is_refused_and_replaces_nothing(generator):
    saved = trained_layer(generator).state_dict()
    assert int(saved["classes"].max()) == 2
    early = saved | {"_extra_state": saved["_extra_state"][:5]}  # as it was before it held classes and variant
    own = "sssom with num_classes=2"
    boxes = LossConfig(temperature=0.05, margin=0.05)
    for state, config, classes, sentence in (
        (saved, MapConfig(), 2, f"must be {own}. Got sssom with num_classes=3; build the layer as the saved one was."),
        (saved, MapConfig(), 4, "must be sssom with num_classes=4. Got sssom with num_classes=3;"),
        (early, MapConfig(), 2, f"must be {own}. Got class 2;"),
        (saved, MapConfig(variant="altsssom", capacity=200), 3, "must be altsssom with num_classes=3. Got sssom"),
    ):
        layer = SOMLayer(config, dim=6, num_classes=classes, losses=boxes)
        before = layer.state.digest()
        with pytest.raises(ValueError, match=f"The saved map {sentence}"):
            nn.Sequential(layer).load_state_dict({f"0.{name}": value for name, value in state.items()})
        assert layer.state.digest() == before
    layer = SOMLayer(MapConfig(), dim=6, num_classes=3)
    layer.load_state_dict(early)
    assert torch.equal(layer.state.prototypes, saved["prototypes"]) and layer.state.round == 4
    assert layer.config.activation_threshold == 0.95


@pytest.mark.parametrize(
    ("features", "capacity", "shapes"), [(4, 200, r"\(200, 6\). .*\(200, 4\)"), (6, 9, r"\(200, 6\). .*\(9, 6\)")]
)
def test_a_saved_map_of_another_shape_is_refused_and_replaces_nothing(features, capacity, shapes, generator):
    """torch replaced all tensors that fit before it said that others do not."""
    layer, options = trained_layer(generator), {"activation_threshold": 0.8, "capacity": capacity}
    other = SOMLayer(MapConfig(**options), dim=features, num_classes=3)
    before, threshold = layer.state.digest(), layer.config.activation_threshold
    sentence = f"The saved map must be one with prototypes of shape {shapes}; build the layer as the saved one was."
    with pytest.raises(ValueError, match=sentence):
        layer.load_state_dict(other.state_dict())
    assert layer.state.digest() == before and layer.config.activation_threshold == threshold


def test_loading_leaves_maps_that_were_given_away(generator):
    layer = trained_layer(generator)
    kept, early = layer.state, SOMLayer(MapConfig(), dim=6, num_classes=3)
    digest, saved = kept.digest(), copy.deepcopy(early.state_dict())
    shared = SOMLayer(MapConfig(), dim=6, num_classes=3, state=kept, losses=LossConfig(relevance_warmup_rounds=0))
    for loaded in (layer, shared):
        loaded.load_state_dict(saved)
        assert loaded.state.num_nodes == 0
    assert kept.digest() == digest
    with torch.inference_mode():
        layer.install(kept)
    layer.load_state_dict(saved)  # torch refuses to write into what inference mode made
    assert layer.state.digest() == early.state.digest()


def test_a_map_that_was_given_away_is_not_changed_by_what_is_copied_into_the_layer(generator):
    """As the usual moving average does: it writes into the buffers of its copy."""
    network = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), trained_layer(generator))
    averaged = AveragedModel(network)
    given, kept = averaged.module[2].state, trained_layer(generator).state
    averaged.module[2].install(given)
    before = given.digest()
    network[2].install(kept)
    averaged.update_parameters(network)
    assert averaged.module[2].state.digest() == kept.digest() != before == given.digest()
    with torch.inference_mode():
        seen = network[2].state
    assert not any(getattr(seen, name).is_inference() for name in TENSORS)


def test_the_map_keeps_its_precision_when_the_network_does_not(generator):
    layer = trained_layer(generator)
    digest = layer.state.digest()
    network = nn.Sequential(nn.Linear(4, 6), layer).half()
    assert network[0].weight.dtype == torch.float16
    assert layer.state.digest() == digest
    out = layer(torch.rand(16, 6, generator=generator).bfloat16().requires_grad_(), torch.arange(16) % 3)
    assert out.loss_sum.dtype == torch.float32 and torch.isfinite(out.loss_sum)


def test_what_a_subclass_adds_follows_and_the_map_keeps_its_precision(generator):
    """Its parameters and modules stayed on their device, in their precision."""

    class Layer(SOMLayer):
        def __init__(self):
            super().__init__(MapConfig(activation_threshold=0.95), dim=6, num_classes=3)
            self.head, self.gain = nn.Linear(6, 3), nn.Parameter(torch.ones(1))
            self.register_buffer("seen", torch.zeros(1))

    layer = Layer()
    z, labels = torch.rand(64, 6, generator=generator), torch.randint(-1, 3, (64,), generator=generator)
    layer.install(advance(layer.state, layer(z, labels).statistics, layer.config))
    digest, saved = layer.state.digest(), layer.get_extra_state()
    layer.half()
    assert {tensor.dtype for tensor in (layer.head.weight, layer.gain, layer.seen)} == {torch.float16}
    assert layer.state.digest() == digest and torch.equal(layer.get_extra_state(), saved)
    layer.to("meta", torch.bfloat16)
    assert {tensor.device.type for tensor in (*layer.parameters(), *layer.buffers())} == {"meta"}
    assert layer.prototypes.dtype == torch.float64 and layer.head.weight.dtype == torch.bfloat16


def test_forward_and_backward_never_wait_for_the_device(generator):
    """A meta tensor has no values: anything that asked for one would fail."""
    layer = trained_layer(generator).to("meta")
    z = torch.rand(32, 6, device="meta", requires_grad=True)
    views = Views(strong=torch.rand_like(z), inputs=torch.rand_like(z), decoded=z * 1)
    out = layer(z, torch.zeros(32, dtype=torch.int64, device="meta"), views=views)
    assert set(out.terms) >= {"pull", "labelled_pull", "push", "cross_entropy", "variance", "reconstruction"}
    out.loss(RoundTotals(samples=32, labelled=8)).backward()
    assert z.grad.device.type == "meta" and out.loss_sum.device.type == "meta"


def test_relevances_are_one_during_warm_up_while_deviations_are_collected(generator):
    losses = LossConfig(relevance_warmup_rounds=3)
    layer = SOMLayer(MapConfig(activation_threshold=0.9), dim=6, num_classes=3, losses=losses)
    for number in range(4):
        warm = number < 3
        assert bool((layer.state.relevances == 1).all()) is (warm or number == 0)
        z, labels = torch.rand(64, 6, generator=generator), torch.randint(-1, 3, (64,), generator=generator)
        layer.install(advance(layer.state, layer(z, labels).statistics, layer.config))
    assert layer.state.deviations.sum() > 0
    assert layer.state.relevances.min() == pytest.approx(0.1)  # the floor of a deep map


def test_a_lattice_can_be_the_layer(generator):
    from somcore import initial_state

    config = MapConfig(variant="kohonen", rows=3, columns=3, algorithm="superstep")
    config = config.resolve(num_samples=64, num_features=6)
    samples = torch.rand(9, 6, generator=generator)
    layer = SOMLayer(config, 6, num_samples=64, state=initial_state(config, 6, samples=samples))
    z = torch.rand(64, 6, generator=generator, requires_grad=True)
    out = layer(z)
    out.loss_sum.backward()
    assert set(out.terms) == {"pull", "variance"} and int(out.terms["pull"].count) == 64
    layer.install(advance(layer.state, out.statistics, layer.config))
    assert layer.state.round == 1 and z.grad.abs().sum() > 0


@pytest.mark.parametrize("variant", ["kohonen", "dssom"])
def test_a_lattice_has_rounds_of_the_batch_size_and_shrinks_until_the_last_of_them(variant, generator):
    """Kohonen's map took itself for a batch map: a round was an epoch, and the radius at its end in the first one."""
    config = MapConfig(variant=variant, rows=2, columns=3, batch_size=16, epochs=3, initialisation="sample")
    samples = torch.rand(60, 4, generator=generator)
    start = initial_state(config.resolve(num_samples=60, num_features=4), 4, samples=samples[:6])
    layer = SOMLayer(config, 4, num_samples=60, state=start)
    assert (layer.config.batch_size, layer.config.algorithm) == (16, "superstep")
    while not layer.state.finished:
        layer.install(advance(layer.state, layer(samples[:16]).statistics, layer.config))
    assert layer.state.round == 3 * 4


def test_without_labels_the_layer_is_an_unsupervised_map(generator):
    layer = SOMLayer(MapConfig(variant="larfdssom", activation_threshold=0.95), dim=6)
    z = torch.rand(64, 6, generator=generator)
    layer.install(advance(layer.state, layer(z).statistics, layer.config))
    terms = layer(z, torch.arange(64) % 3).terms
    assert set(terms) == {"pull", "variance"} and int(terms["pull"].count) > 0


def test_a_refresh_rebuilds_the_map_where_the_features_are_now(generator):
    layer = trained_layer(generator)
    moved = torch.rand(200, 6, generator=generator) * 0.5 + 0.4
    labels = torch.randint(-1, 3, (200,), generator=generator)
    opened, config = open_map(layer.state, layer.config)
    statistics = accumulate(opened, moved, labels, config, scale=40)
    after = refreshed(layer.state, statistics, layer.config)
    bmu = layer(moved).match.bmu
    assert after.num_nodes == len(bmu.unique()) < layer.state.num_nodes  # nodes that win nothing are gone
    for node in bmu.unique().tolist():
        won = bmu == node
        assert torch.allclose(after.prototypes[node], moved[won].double().mean(0), atol=1e-9)
        votes = torch.bincount(labels[won & (labels >= 0)], minlength=3)
        assert int(after.classes[node]) == (int(votes.argmax()) if votes.sum() else -1)
    assert after.round == layer.state.round and after.clock == layer.state.clock


def test_wrong_uses_are_named(generator):
    with pytest.raises(ValueError, match="temperature must be given for altsssom"):
        SOMLayer(MapConfig(variant="altsssom"), dim=4, num_classes=2)
    layer = SOMLayer(MapConfig(), dim=4, num_classes=2)
    with pytest.raises(ValueError, match="must have prototypes of shape"):
        layer.install(trained_layer(generator).state)
    with pytest.raises(ValueError, match="missing must be 'error' in a SOMLayer. Got 'mask'; fill gaps before the enc"):
        SOMLayer(MapConfig(missing="mask"), dim=4, num_classes=2)
    batch = MapConfig(variant="kohonen", rows=2, columns=2, batch_size=16).resolve(num_samples=60, num_features=4)
    for config, algorithm in ((batch, "batch"), (MapConfig(variant="dssom", algorithm="online"), "online")):
        with pytest.raises(ValueError, match=f"algorithm must be superstep in a SOMLayer, .* Got '{algorithm}'; give"):
            SOMLayer(config, dim=4, num_samples=60)
    for variant in ("kohonen", "dssom"):
        with pytest.raises(ValueError, match=f"num_samples must be given for {variant}, whose radius they shrink. Got"):
            SOMLayer(MapConfig(variant=variant, rows=2, columns=2), dim=4)
        with pytest.raises(ValueError, match=f"state must be given for {variant}: a lattice begins from features. Got"):
            SOMLayer(MapConfig(variant=variant, rows=2, columns=2), dim=4, num_samples=9)
    with pytest.raises(ValueError, match="labels must be -1 where num_classes is 0. Got 2 in row 1 of the tile."):
        SOMLayer(MapConfig(), dim=4)(torch.rand(3, 4, generator=generator), torch.tensor([-1, 2, 0]))
    with pytest.raises(ValueError, match="num_classes must be a whole number >= 0. Got -1."):
        SOMLayer(MapConfig(), dim=4, num_classes=-1)
    for bound in (0, -3.0, float("inf")):
        with pytest.raises(ValueError, match=f"bound must be > 0. Got {bound}."):
            SOMLayer(MapConfig(), dim=4, bound=bound)


def test_numbers_of_numpy_and_torch_are_taken():
    layer = SOMLayer(MapConfig(), dim=4, num_classes=np.int64(3), bound=torch.tensor(2.0))
    assert (layer.num_classes, layer.bound) == (3, 2.0) and type(layer.num_classes) is int


def test_statistics_of_another_map_or_kind_are_named(generator):
    """An accumulation over several batches that installs too early counted some of them twice."""
    layer = trained_layer(generator)
    z, labels = torch.rand(16, 6, generator=generator), torch.arange(16) % 4 - 1
    early, rough = layer(z, labels).statistics, layer(z, labels, exact=False).statistics
    with pytest.raises(ValueError, match="must have one scale. Got 40 and None"):
        early.merge(rough)
    with pytest.raises(ValueError, match="config must be a resolved one, .* Got one with capacity=None."):
        advance(layer.state, early, MapConfig(activation_threshold=0.95))
    layer.install(advance(layer.state, early, layer.config))
    with pytest.raises(ValueError, match="must be of one round. Got those of rounds 4 and 5; install"):
        early.merge(layer(z, labels).statistics)
    with pytest.raises(ValueError, match="must be of the map's round, 5. Got those of round 4; each"):
        advance(layer.state, early, layer.config)


def test_a_map_that_falls_to_one_node_is_told(generator):
    layer = trained_layer(generator)
    first, several = layer.state.alive.nonzero()[0], layer.state.num_nodes
    one = keep_nodes(layer.state, torch.zeros_like(layer.state.alive).index_fill(0, first, True))
    with pytest.warns(UserWarning, match=f"The map fell from {several} nodes to 1 in round 4: .* Call layer.calibrate"):
        layer.install(one)
    with warnings.catch_warnings(action="error"):
        layer.install(one)
    boxes = SOMLayer(MapConfig(variant="altsssom"), dim=2, losses=LossConfig(temperature=0.1, margin=1.0))
    out = boxes(torch.tensor([[0.1, 0.1], [0.9, 0.9]]))
    boxes.install(advance(boxes.state, out.statistics, boxes.config))
    with pytest.warns(UserWarning, match="fell from 2 .* the features are. Let the encoder take shorter steps"):
        boxes.install(keep_nodes(boxes.state, torch.arange(boxes.state.capacity) == 0))


def test_a_copy_of_a_layer_reads_its_scalars_from_an_accelerator_once(generator, monkeypatch):
    layer = trained_layer(generator)
    warm = copy.deepcopy(layer)
    monkeypatch.setattr("somcore.layer.asking_is_free", lambda tensor: False)
    with torch.no_grad():
        warm.get_buffer("_scalar_buffer").copy_(trained_layer(generator).get_buffer("_scalar_buffer"))
    reads, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(tensor) or tolist(tensor))
    for _ in range(3):
        assert warm.state.num_nodes == layer.state.num_nodes
    assert sum(tensor is warm.get_buffer("_scalar_buffer") for tensor in reads) <= 1


@pytest.mark.parametrize("free", [True, False], ids=["on a CPU", "on an accelerator"])
def test_a_layer_whose_tensors_alone_are_copied_is_that_layer(generator, monkeypatch, free):
    """The usual moving average kept the threshold and the phase of its first copy."""
    monkeypatch.setattr("somcore.layer.asking_is_free", lambda tensor: free)
    network = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), SOMLayer(MapConfig(), dim=6, num_classes=3))
    averaged = AveragedModel(network)
    layer, copied = network[2], averaged.module[2]
    z, labels = torch.rand(64, 6, generator=generator), torch.randint(-1, 3, (64,), generator=generator)
    layer.calibrate(z)
    for _ in range(3):
        layer.install(advance(layer.state, layer(z, labels).statistics, layer.config))
        averaged.update_parameters(network)
    copied.to("cpu")
    assert copied.error_threshold == layer.error_threshold
    assert torch.equal(copied.predict_proba(z), layer.predict_proba(z))
    assert copied.state.digest() == layer.state.digest()
    assert torch.equal(copied.get_extra_state(), layer.get_extra_state())
    assert copied(z, labels).statistics == layer(z, labels).statistics


def test_a_layer_whose_tensors_alone_are_copied_has_the_scale_of_its_new_numbers(generator):
    layer, copied = (SOMLayer(MapConfig(activation_threshold=0.95), dim=4) for _ in range(2))
    z = 5000 * torch.rand(64, 4, generator=generator)
    layer.install(advance(layer.state, layer(z, exact=False).statistics, layer.config))
    for name, buffer in layer.named_buffers():
        copied.get_buffer(name).copy_(buffer)
    assert layer.state.num_nodes > 1 and copied(z).statistics == layer(z).statistics


def test_a_map_that_is_not_finite_is_refused_and_nothing_replaced(generator):
    layer = trained_layer(generator)
    digest = layer.state.digest()
    for wrong in (torch.inf, torch.nan):
        prototypes = layer.state.prototypes.clone()
        prototypes[0, 0] = wrong
        with pytest.raises(ValueError, match="The map must have finite prototypes"):
            layer.install(dataclasses.replace(layer.state, prototypes=prototypes))
    assert layer.state.digest() == digest


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("way", ["export", "trace"])
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_an_exported_network_predicts_as_the_layer_does(method, way, generator):
    """A trace of samples whose nodes all have classes said -1 wherever a node has none."""
    layer = trained_layer(generator)
    bare = torch.where(torch.arange(layer.state.capacity) % 2 == 0, layer.state.classes, -1)
    layer.install(dataclasses.replace(layer.state, classes=bare))  # some winners have no class of their own

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return getattr(self.layer, method)(torch.sigmoid(x))

    x = torch.randn(14_000, 6, generator=generator)  # more than are looked at together
    classes = layer.state.classes[layer(torch.sigmoid(x)).match.bmu]
    example, expected = x[classes >= 0][:8], Network()(x)
    if way == "trace":
        exported = torch.jit.trace(Network(), (example,))
    else:
        exported = torch.export.export(Network(), (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    assert len(example) == 8 and bool((classes < 0).any())
    assert torch.equal(exported(x), expected)


def test_a_map_that_the_layer_cannot_go_on_with_is_refused(generator):
    """A map of five classes made a layer of two say classes 0 to 4; a lattice in a layer that grows never grew."""
    X = torch.rand(60, 4, generator=generator).numpy()
    of_five = SSSOM(capacity=10, epochs=2).fit(X, [0, 1, 2, 3, 4] * 12).state_
    lattice = KohonenSOM(rows=2, columns=5, epochs=2).fit(X).state_
    grown = LARFDSSOM(capacity=10, epochs=2).fit(X).state_
    fixed, wide = MapConfig(variant="kohonen", rows=2, columns=5), MapConfig(variant="kohonen", rows=5, columns=2)
    growing, alone = MapConfig(capacity=10), MapConfig(variant="larfdssom", capacity=10)
    for state, config, sentence in (
        (of_five, growing, "The map must have num_classes=2. Got 5."),
        (of_five, alone, "The map must have num_classes=0. Got 5."),
        (lattice, growing, "The map must be one that grows, for sssom. Got a lattice."),
        (lattice, alone, "The map must be one that grows, for larfdssom. Got a lattice."),
        (grown, fixed, "The map must be the hexagonal lattice of 2 x 5 nodes, for kohonen. Got one of other links."),
        (lattice, wide, "The map must be the hexagonal lattice of 5 x 2 nodes, for kohonen"),
    ):
        with pytest.raises(ValueError, match=sentence):
            SOMLayer(config, dim=4, num_classes=2, num_samples=60, state=state)
    with pytest.raises(ValueError, match=r"must have prototypes of shape \(10, 3\). Got \(10, 4\)."):
        SOMLayer(growing, dim=3, num_classes=2, state=of_five)
    layer = SOMLayer(growing, dim=4, num_classes=2)
    before = layer.state.digest()
    for state in (of_five, lattice):
        with pytest.raises(ValueError, match="The map must"):
            layer.install(state)
        assert layer.state.digest() == before
    layer.install(grown)  # a map from before there were labels
    assert layer.state.num_nodes == grown.num_nodes and layer.state.num_classes == 2


@pytest.mark.parametrize(
    ("options", "passes"), [({"epochs": 5}, 10), ({"epochs": 12}, 20), ({"epochs": 5, "pruning_epochs": 1}, 5)]
)
def test_growth_ends_with_the_pruning_that_the_documentation_names(options, passes, generator):
    layer = SOMLayer(MapConfig(batch_size=10, **options), dim=2, num_samples=20)
    while layer.state.growing:
        out = layer(torch.rand(10, 2, generator=generator))
        layer.install(advance(layer.state, out.statistics, layer.config))
    assert layer.state.round == 2 * passes


def test_pull_alone_collapses_and_an_anchor_prevents_it(generator):
    """The lesson of algorithms 8.4 in miniature: same encoder, same data, with and without a variance floor."""
    data = torch.rand(256, 10, generator=generator)

    def rank_after(losses):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4), nn.Sigmoid())
        layer = SOMLayer(MapConfig(variant="larfdssom", activation_threshold=0.9), dim=4, losses=losses)
        optimizer = torch.optim.Adam(encoder.parameters(), lr=0.01)
        for _ in range(60):
            z = encoder(data)
            out = layer(z)
            optimizer.zero_grad()
            (out.loss_sum / out.count).backward()
            optimizer.step()
            layer.install(advance(layer.state, out.statistics, layer.config))
        return LatentMoments.of(encoder(data)).summary()["mean_std"]

    alone = rank_after(LossConfig.unsupervised(variance_weight=0.0))
    anchored = rank_after(LossConfig.unsupervised(variance_weight=200.0))
    assert alone < 0.02 and anchored > 0.08


def test_a_class_without_a_node_takes_one_that_another_class_can_spare():
    votes = torch.tensor([[9, 0, 0], [8, 4, 0], [7, 5, 0], [0, 0, 6]])
    assert with_every_class(votes.argmax(1), votes).tolist() == [0, 0, 1, 2]  # most of its samples are there
    rare = torch.tensor([[9, 1, 1], [8, 0, 0]])
    assert with_every_class(rare.argmax(1), rare).tolist() == [1, 0]  # one to spare: the lower of two as rare
    two = torch.tensor([[9, 1, 4], [8, 0, 0]])
    assert with_every_class(two.argmax(1), two).tolist() == [2, 0]  # one to spare: the class with more samples
    assert with_every_class(torch.tensor([0]), torch.tensor([[5, 4]])).tolist() == [0]  # none to spare
    assert with_every_class(torch.tensor([-1, 0]), torch.tensor([[0, 0], [5, 0]])).tolist() == [-1, 0]


def test_a_node_keeps_no_class_that_no_labelled_sample_gives_it_now():
    layer = SOMLayer(MapConfig(capacity=5, activation_threshold=0.9), dim=1, num_classes=3)
    state = dataclasses.replace(
        layer.state,
        prototypes=torch.tensor([[0.1], [0.5], [0.9], [0.0], [0.0]], dtype=torch.float64),
        alive=torch.arange(5) < 3,
        classes=torch.tensor([0, 1, -1, -1, -1]),
    )
    features, labels = torch.tensor([[0.1], [0.12], [0.5], [0.5], [0.5], [0.9]]), torch.tensor([-1, -1, 1, 0, 0, 2])
    opened, open_config = open_map(state, layer.config)
    after = refreshed(state, accumulate(opened, features, labels, open_config, scale=40), layer.config)
    assert after.classes[:3].tolist() == [-1, 0, 2] and after.alive.tolist() == state.alive.tolist()


def test_a_full_map_loses_no_class_in_a_refresh():
    """Of two clusters one is mixed: by majority alone the rarer class in it would have no node, and never get one."""
    config = MapConfig(capacity=3, activation_threshold=0.9)
    layer = SOMLayer(config, dim=1, num_classes=3)
    features = torch.tensor([[0.1], [0.12], [0.14], [0.5], [0.51], [0.9]])
    labels = torch.tensor([0, 0, 1, 0, 0, 2])
    state = dataclasses.replace(
        layer.state,
        prototypes=torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64),
        alive=torch.ones(3, dtype=torch.bool),
        classes=torch.tensor([0, 0, 2]),
    )
    opened, open_config = open_map(state, layer.config)
    statistics = accumulate(opened, features, labels, open_config, scale=40)
    assert refreshed(state, statistics, layer.config).classes.tolist() == [1, 0, 2]
    roomy = {}
    for name in ("prototypes", "deviations", "relevances", "alive", "classes", "wins", "updates", "born"):
        tensor = getattr(state, name)
        roomy[name] = torch.cat([tensor, tensor.new_zeros(2, *tensor.shape[1:])])
    roomy["neighbours"] = torch.zeros(5, 5, dtype=torch.bool)
    for growing, expected in ((True, [0, 0, 2]), (False, [1, 0, 2])):  # where nothing grows any more, room is no help
        wide = dataclasses.replace(state, **roomy, growing=growing)
        opened, open_config = open_map(wide, layer.config)
        statistics = accumulate(opened, features, labels, open_config, scale=40)
        assert refreshed(wide, statistics, layer.config).classes[:3].tolist() == expected


def test_a_refresh_of_local_boxes_accepts_what_they_would_refuse(generator):
    """Boxes of the encoder before must neither lose a node nor shrink: each is what its samples spread over now."""
    losses = LossConfig(temperature=0.05, margin=0.05)
    layer = SOMLayer(MapConfig(variant="altsssom", deviation_decay=0.9), dim=2, num_classes=2, losses=losses)
    state = dataclasses.replace(
        layer.state,
        prototypes=layer.state.prototypes.index_copy(
            0, torch.arange(2), torch.tensor([[0.2, 0.2], [0.8, 0.8]]).double()
        ),
        alive=layer.state.alive.index_fill(0, torch.arange(2), True),
        updates=layer.state.updates.index_fill(0, torch.tensor([0]), 3),
    )  # boxes of nothing
    features = torch.tensor([[0.2, 0.2], [0.8, 0.8]]).repeat(40, 1) + 0.1 * (
        torch.rand(80, 2, generator=generator) - 0.5
    )
    opened, config = open_map(state, layer.config)
    statistics = accumulate(opened, features, None, config, scale=40)
    after = refreshed(state, statistics, layer.config)
    assert after.num_nodes == 2
    for node in (0, 1):
        won = features[node::2].double()
        assert torch.allclose(after.prototypes[node], won.mean(0), atol=1e-9)
        wide = corrected_deviations(after.deviations, after.updates, 0.9)[node]
        assert torch.allclose(wide, (won - state.prototypes[node]).abs().mean(0), atol=1e-9)


def test_a_threshold_is_calibrated_only_where_there_is_one():
    losses = LossConfig(temperature=0.05, margin=0.05)
    layer = SOMLayer(MapConfig(variant="altsssom"), dim=2, num_classes=2, losses=losses)
    with pytest.raises(ValueError, match="variant must have a threshold to calibrate. Got 'altsssom'"):
        layer.calibrate(torch.rand(20, 2))


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        (torch.full((8, 4), torch.nan), "features must be finite. Got nan in row 0"),
        (torch.rand(0, 4), "features must have at least 2 rows, for a pair. Got 0;"),
        (torch.rand(1, 4), "features must have at least 2 rows, for a pair. Got 1; leave out a last batch that is so"),
        (torch.rand(200, 2), r"features must be floating point of shape \(200, 4\). Got torch.float32 of \(200, 2\)."),
        (torch.rand(8), r"features must be floating point of shape \(8, 4\)"),
        (torch.ones(8, 4, dtype=torch.int64), "features must be floating point"),
    ],
)
def test_a_calibration_that_is_refused_leaves_the_threshold(features, sentence):
    layer = SOMLayer(MapConfig(), dim=4, num_classes=2)
    before = layer.calibrate(torch.rand(50, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match=sentence):
        layer.calibrate(features)
    assert layer.config.activation_threshold == before


def test_probabilities_are_those_of_the_cross_entropy(generator):
    layer = trained_layer(generator)
    z, labels = torch.rand(30, 6, generator=generator), torch.arange(30) % 3
    shares = layer.predict_proba(z)
    assert torch.allclose(shares.sum(1), torch.ones(30, dtype=torch.float64))
    assert shares.argmax(1).tolist() == layer.predict(z).tolist()
    term = layer(z, labels).terms["cross_entropy"]
    assert -shares.gather(1, labels.unsqueeze(1)).log().sum().item() == pytest.approx(term.sum.item(), rel=1e-5)


def decoded(number, inputs):
    return Views(inputs=torch.ones(inputs, 4, dtype=torch.uint8), decoded=torch.rand(number, 4))


@pytest.mark.parametrize(
    ("features", "options", "sentence"),
    [
        (torch.rand(8, 5), {}, r"features must be floating point of shape \(8, 6\). Got torch.float32 of \(8, 5\)"),
        (torch.rand(6), {}, r"features must be .*\(6, 6\). Got .*\(6,\)"),
        (torch.rand(()), {}, r"features must be"),
        (torch.ones(8, 6, dtype=torch.int64), {}, "features must be floating point"),
        (torch.rand(8, 6), {"labels": torch.zeros(7, dtype=torch.int64)}, r"labels must be int64 of shape \(8,\)"),
        (torch.rand(8, 6), {"labels": torch.zeros(8, 1, dtype=torch.int64)}, "labels must be"),
        (torch.rand(8, 6), {"labels": torch.zeros(8)}, "labels must be int64 .* Got torch.float32"),
        (torch.rand(8, 6), {"views": Views(strong=torch.rand(4, 6))}, r"views.strong must be .*\(8, 6\)"),
        (torch.rand(8, 6), {"views": Views(scores=torch.rand(8, 4))}, r"views.scores must be .*\(8, 3\)"),
        (torch.rand(8, 6), {"views": Views(strong_scores=torch.rand(8))}, r"views.strong_scores must be .*\(8, 3\)"),
        (torch.rand(8, 6), {"positions": torch.arange(7)}, r"positions must be int64 of shape \(8,\). Got .*\(7,\)"),
        (torch.rand(8, 6), {"views": decoded(1, 8)}, r"views.decoded must be .*\(8, 4\). Got .*\(1, 4\)"),
        (torch.rand(8, 6), {"views": decoded(8, 1)}, r"views.inputs must be numbers of shape \(8, 4\). Got .*\(1, 4\)"),
        (torch.rand(8, 6), {"views": decoded(5, 5)}, r"views.inputs must be numbers of shape \(8, 4\)"),
    ],
)
def test_a_tile_of_another_shape_is_named_before_the_map_is_asked(features, options, sentence):
    layer = SOMLayer(MapConfig(), dim=6, num_classes=3)
    with pytest.raises(ValueError, match=sentence):
        layer(features, **options)
    if not options:
        with pytest.raises(ValueError, match=sentence):
            layer.predict(features)


@pytest.mark.parametrize("name", ["features", "strong", "scores", "strong_scores", "inputs", "decoded"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named_and_never_learned(name, value):
    """The loss of such a strong view was finite, its gradient was not."""
    layer = SOMLayer(MapConfig(), dim=3, num_classes=3)
    good = torch.rand(4, 3)
    bad = good.index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(value))
    views = {"features": good, "inputs": good, "decoded": good, name: bad}
    features = views.pop("features")
    full = name if name == "features" else f"views.{name}"
    sentence = f"^{full} must be finite. Got {value} in row 2 of the tile; clean the samples or mend the network.$"
    with pytest.raises(ValueError, match=sentence):
        layer(features, views=Views(**views))


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_under_autocast_nodes_and_gradients_are_those_of_full_precision(generator, narrow):
    """Classes close together: half precision cannot tell their nodes apart."""
    layer = SOMLayer(MapConfig(activation_threshold=0.99, capacity=60), dim=16, num_classes=5)
    centres = 0.5 + 0.05 * torch.rand(5, 16, generator=generator)

    def drawn(number):
        labels = torch.randint(0, 5, (number,), generator=generator)
        return centres[labels] + 0.02 * torch.randn(number, 16, generator=generator), labels

    for _ in range(10):
        z, labels = drawn(256)
        layer.install(advance(layer.state, layer(z, labels).statistics, layer.config))
    z, labels = drawn(512)
    found = []
    for on in (False, True):
        leaf = z.clone().requires_grad_()
        with torch.autocast("cpu", dtype=narrow, enabled=on):
            out, classes = layer(leaf, labels), layer.predict(z)
        out.loss_sum.backward()
        found.append((out.match.bmu, out.match.matched, classes, leaf.grad))
    assert layer.state.num_nodes >= 5
    assert all(torch.equal(wide, other) for wide, other in zip(*found, strict=True))


@pytest.mark.parametrize("label", [-100, -2, 3, 7])
def test_labels_that_are_no_classes_are_refused(label, generator):
    """-100 is what torch's cross-entropy ignores: here it would be learned as a class."""
    layer = trained_layer(generator)
    features, labels = torch.rand(4, 6, generator=generator), torch.tensor([0, 2, label, -1])
    with pytest.raises(ValueError, match=f"labels must be a class, 0 … 2, or -1. Got {label} in row 2 of the tile."):
        layer(features, labels)
    with pytest.raises(ValueError, match=f"Got {label} in row 2"):
        accumulate(layer.state, features, labels, layer.config)
    with pytest.raises(ValueError, match=f"Got {label} in row 0"):
        accumulate(layer.state, features[2:3], labels[2:3], layer.config)
