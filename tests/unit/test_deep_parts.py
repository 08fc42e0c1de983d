"""Parts of deep training: optimiser, gradient sums, rounds, collapse alarm, recipes, settings."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.config import RunConfig, read_file
from pipeline.deep import refresh
from pipeline.deep.collapse import Limits, judged, measures_of, monitored
from pipeline.deep.network import NetworkState, StepSize, adam_step, flat_gradient, flat_parameters, load_flat
from pipeline.deep.plan import DeepPlan, DeepRound, resolve_deep
from pipeline.deep.refresh import look_at, rows_to_look_at
from pipeline.deep.sample_shape import SampleShape
from pipeline.deep.step import packed_terms, term_sums
from pipeline.errors import Collapsed, UserError
from pipeline.prepared.shards import Dataset
from pipeline.recipes import names, recipe
from pipeline.rivals.config import resolve_rival
from pipeline.training.advice import too_short
from pipeline.training.plan import make_plan
from pipeline.training.reduction import LocalReduction, exact_sum, sum_gradients
from somcore import MapConfig
from somcore.latent import LatentMoments
from somcore.loss_config import LossConfig
from somcore.state import blank_state
from somcore.threshold import pair_histogram
from tests.training import small

BASE = {"data.path": "somewhere", "train.model": "deep"}


def test_a_gradient_that_a_broken_step_left_is_not_that_of_the_next_round():
    """As Ctrl-C does after a backward pass, in a process that goes on with the same workers."""
    module = nn.Linear(5, 3)
    values = flat_parameters(module)
    module(torch.ones(2, 5)).sum().backward()
    load_flat(module, values)
    assert not flat_gradient(module).any()


def test_modules_are_float32_whatever_the_default_of_the_process_is(digits):
    plan = make_plan(RunConfig.build(small("deep", digits)), Dataset.open(digits)).deep
    expected = flat_parameters(plan.network())
    torch.set_default_dtype(torch.float64)
    try:
        network = plan.network()
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
        assert torch.equal(flat_parameters(network), expected) and torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_step_is_that_of_adam_with_decoupled_weight_decay(generator):
    module = nn.Linear(5, 3)
    reference = nn.Linear(5, 3)
    reference.load_state_dict(module.state_dict())
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.1)
    network = NetworkState.of(module)
    for _ in range(5):
        x = torch.rand(8, 5, generator=generator)
        load_flat(module, network.values)
        module(x).square().sum().backward()
        slope = flat_gradient(module).double()
        network = adam_step(network, slope, 0.01, weight_decay=0.1, clip_norm=0.0, average_decay=0.9)
        optimizer.zero_grad()
        reference(x).square().sum().backward()
        optimizer.step()
    assert torch.allclose(network.values, flat_parameters(reference), atol=1e-5)
    assert network.steps == 5 and not torch.equal(network.average, network.values)


def test_the_average_follows_the_first_steps_closely_and_later_ones_as_its_decay_says():
    network = NetworkState(*(torch.zeros(2) for _ in range(4)))
    average = network.average
    for kept in (1 / 11, 2 / 12, 0.2, 0.2):  # of the average before; the third step would be 3 / 13
        network = adam_step(network, torch.ones(2).double(), 0.1, weight_decay=0.0, clip_norm=0.0, average_decay=0.2)
        average = kept * average + (1 - kept) * network.values
        assert torch.allclose(network.average, average, rtol=1e-6)
    network = adam_step(network, torch.ones(2).double(), 0.1, weight_decay=0.0, clip_norm=0.0, average_decay=0.0)
    assert torch.equal(network.average, network.values)


def test_a_long_gradient_is_shortened():
    network = NetworkState(*(torch.zeros(2) for _ in range(4)))
    options = {"weight_decay": 0.0, "average_decay": 0.0}
    long = adam_step(network, torch.tensor([300.0, 400.0], dtype=torch.float64), 0.1, clip_norm=5.0, **options)
    assert torch.allclose(long.first, 0.1 * torch.tensor([3.0, 4.0]))


def test_the_rate_warms_up_and_falls_to_its_final_share():
    size = StepSize(rate=0.1, final_share=0.1, warmup=4, total=100)
    assert size.at(0) == pytest.approx(0.025) and size.at(3) == size.at(4) == pytest.approx(0.1)
    assert size.at(100) == pytest.approx(0.01)
    assert all(size.at(r) >= size.at(r + 1) for r in range(4, 100))


def test_a_network_state_comes_back_and_its_digest_sees_every_field():
    network = NetworkState.of(nn.Linear(2, 2))
    assert NetworkState.from_tensors(network.to_tensors()).digest() == network.digest()
    for change in ({"steps": 1}, {"threshold": 0.5}, {"alarms": 2}, {"second": network.second + 1}):
        assert dataclasses.replace(network, **change).digest() != network.digest()
    with pytest.raises(ValueError, match="must include 'average'"):
        NetworkState.from_tensors({k: v for k, v in network.to_tensors().items() if k != "average"})


class Several(LocalReduction):
    """What a group of workers gives, for parts that are computed one after the other: their sum and maximum."""

    def __init__(self, parts):
        self.parts, self.largest = parts, max(float(g.abs().max()) for part in parts for g in part)

    def max(self, value):
        return self.largest


@pytest.mark.parametrize("cuts", [[6], [2, 4], [1, 2, 3]])
def test_the_sum_of_gradients_is_the_same_for_any_cut_into_workers(generator, cuts):
    exponents = torch.randint(-12, 4, (6, 50), generator=generator)
    gradients = list(torch.randn(6, 50, generator=generator) * torch.exp2(exponents.float()))
    whole, bits = exact_sum(gradients, 50, 6, Several([gradients]), [torch.ones(1, dtype=torch.int64)])
    parts, start = [], 0
    for count in cuts:
        parts.append(gradients[start : start + count])
        start += count
    reduction = Several(parts)
    summed = [exact_sum(part, 50, 6, reduction, [torch.ones(1, dtype=torch.int64)]) for part in parts]
    assert all(own == bits for _, own in summed)
    assert torch.equal(sum(pieces[0] for pieces, _ in summed), whole[0])
    reference = torch.stack(gradients).double().sum(0)
    assert torch.allclose(whole[0].double() * 2.0**-bits, reference, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("num_tiles", [1, 5, 8])
@pytest.mark.parametrize("value", [4.0, -7.75, 2.0**-70])
def test_gradients_that_are_all_as_large_as_can_be_do_not_overflow(value, num_tiles, exact):
    gradients, parts = [torch.full((2,), value)] * num_tiles, [torch.tensor([3, 4]), torch.tensor([5])]
    total, summed = sum_gradients(gradients, 2, num_tiles, LocalReduction(), parts, exact)
    assert total.tolist() == [num_tiles * value] * 2 and [part.tolist() for part in summed] == [[3, 4], [5]]


def test_no_gradient_at_all_is_a_sum_of_zero():
    (total, _), _ = exact_sum([], 3, 4, LocalReduction(), [torch.ones(1, dtype=torch.int64)])
    assert total.tolist() == [0, 0, 0]


def test_rounds_take_each_sample_of_an_epoch_once_and_labelled_ones_beside_them():
    labels = torch.full((100,), -1)
    labels[[3, 50, 97]] = torch.tensor([0, 1, 2])
    config = MapConfig(batch_size=32).resolve(num_samples=100, num_features=2)
    rounds = [DeepRound.of(r, config, labels, torch.arange(100), extra=2) for r in range(8)]
    for epoch in (0, 1):
        part = rounds[4 * epoch : 4 * epoch + 4]
        assert sorted(row for cut in part for row in cut.rows[:-2].tolist()) == list(range(100))
        positions = [p for cut in part for p in cut.positions.tolist()]
        assert sorted(positions) == list(range(100 + 4 * 2)) and {cut.epoch for cut in part} == {epoch}
    extra = [row for cut in rounds for row in cut.rows[-2:].tolist()]
    assert sorted(extra[:3]) == [3, 50, 97] == sorted(extra[3:6])  # one permutation after the other
    places = [t for rank in range(3) for t in DeepRound.of(0, config, labels, torch.arange(100), 2).tiles(rank, 3)]
    assert [t.start for t in places] == sorted(t.start for t in places) and places[-1].stop == 34


def test_labelled_samples_come_in_another_order_in_each_of_their_passes():
    labels = torch.where(torch.arange(100) % 10 == 0, 1, -1)
    config = MapConfig(batch_size=32, seed=3).resolve(num_samples=100, num_features=2)
    passes = [DeepRound.of(r, config, labels, torch.arange(100), extra=10).rows[-10:].tolist() for r in range(8)]
    assert all(sorted(rows) == list(range(0, 100, 10)) for rows in passes)
    assert len({tuple(rows) for rows in passes}) == 8


def resolved(flat=None, num_labelled=9, num_classes=2, **options):
    run = RunConfig.build({**BASE, **(flat or {})})
    config = dataclasses.replace(run.map_config(), batch_size=100, **options)
    return resolve_deep(
        run.encoder, run.deep, run.loss_config(True),
        config.resolve(num_samples=1000, num_features=4, num_classes=num_classes), SampleShape("table", (4,)),
        num_samples=1000, num_labelled=num_labelled, num_classes=num_classes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("num_labelled", "asked", "extra"),
    [(0, None, 0), (0, 7, 0), (1, None, 25), (249, None, 25), (250, None, 0), (1000, None, 0), (9, 7, 7), (1000, 7, 7)],
)
def test_labelled_samples_fill_a_quarter_of_a_round_beside_it_where_labels_are_rarer(num_labelled, asked, extra):
    assert resolved({"deep.labelled_per_round": asked}, num_labelled).extra == extra
    assert resolved({"deep.labelled_per_round": asked}, num_labelled, num_classes=0).extra == 0  # reads no label


def test_a_deep_map_that_could_not_learn_is_refused():
    none = {f"loss.{name}": 0.0 for name in LossConfig().to_dict() if name.endswith("_weight")}
    push = none | {"loss.push_weight": 1.0}
    for flat, labels in ((none, (9, 2)), (push, (9, 0)), (push, (0, 2))):
        with pytest.raises(
            UserError, match=r"loss\.\* must be weights above 0 of a term for these labels.* Got 'none'"
        ):
            resolved(flat, *labels)
    assert resolved(push).num_classes == 2
    assert resolved(none | {"loss.variance_weight": 0.1}, 0, 0).losses.variance_weight == 0.1
    with pytest.raises(UserError, match="map.missing must be error for a deep map.* Got 'mask'"):
        resolved(missing="mask")


@pytest.mark.parametrize(
    ("classifier", "reconstruction", "num_classes", "made"),
    [
        (0.0, 0.0, 3, (False, False)),
        (1.0, 0.0, 3, (True, False)),
        (1.0, 0.0, 0, (False, False)),
        (0.0, 1.0, 3, (False, True)),
    ],
)
def test_a_network_has_the_modules_that_terms_of_its_loss_look_at(classifier, reconstruction, num_classes, made):
    base = RunConfig.build(BASE)
    plan = DeepPlan(
        encoder=base.encoder.model_copy(update={"name": "mlp"}), settings=base.deep, sample=SampleShape("table", (4,)),
        rounds=9, extra=0, num_labelled=9, num_classes=num_classes,
        losses=LossConfig(classifier_weight=classifier, reconstruction_weight=reconstruction),
    )  # fmt: skip
    network = plan.network()
    assert (network.classifier is not None, network.decoder is not None) == made


@pytest.mark.parametrize(("num_labelled", "limit", "more"), [(20, 50, 20), (200, 50, 25), (250, 50, 0), (20, 1000, 0)])
def test_a_refresh_looks_at_some_rows_and_where_labels_are_rare_at_more_of_them(num_labelled, limit, more):
    rows, labels = torch.arange(100, 1100), torch.full((1200,), -1)
    labels[rows[torch.arange(num_labelled) * 4]] = 1
    looked = rows_to_look_at(rows, labels, 0, 0, limit)
    assert len(looked.unique()) == len(looked) and torch.isin(looked, rows).all()
    assert limit <= len(looked) <= limit + more and (len(looked) > limit) == (more > 0)
    assert int((labels[looked] >= 0).sum()) >= more
    assert not torch.equal(looked, looked.sort().values), "in random order"
    assert not torch.equal(looked, rows_to_look_at(rows, labels, 0, 1, limit)[: len(looked)])


@pytest.mark.parametrize(("workers", "most", "size"), [(1, 2**20, 8), (3, 2**20, 8), (3, 16, 8), (1, 2**20, 1)])
def test_a_look_sees_every_row_once_whoever_was_dealt_it(workers, most, size, generator, monkeypatch):
    monkeypatch.setattr(refresh, "MOST_MOMENTS", most)
    config = MapConfig(variant="sssom", capacity=3, tile_size=size, activation_threshold=0.5)
    config = config.resolve(num_samples=60, num_features=2, num_classes=2)
    places = torch.rand(3, 2, generator=generator).double()
    state = dataclasses.replace(blank_state(3, 2, 2), prototypes=places, alive=torch.ones(3, dtype=torch.bool))
    data, rows = torch.rand(70, 2, generator=generator), torch.randperm(70, generator=generator)[:60]
    labels = torch.where(torch.arange(70) % 3 == 0, torch.arange(70) % 2, -1)
    dataset = SimpleNamespace(read=lambda split, taken: (data[taken], None), row_in_words=str)
    looks = []
    for rank in range(workers):
        reduction = LocalReduction()
        reduction.rank, reduction.world_size = rank, workers
        looks.append(
            look_at(rows, state, config, nn.Identity(), dataset, labels, reduction, lambda: None, 40, keep=True)
        )
    size = max(size, 2)  # tiles of one sample have no pair
    assert {look.num_tiles for look in looks} == {-(-60 // size)}
    moments = looks[0].moments
    for look in looks[1:]:
        moments = moments.merge(look.moments)
    assert torch.equal(moments.table, LatentMoments.of(data[rows[:most]]).table)
    pairs = sum(pair_histogram(data[part]) for part in rows.split(size))
    assert torch.equal(sum(look.histogram for look in looks), pairs) and pairs.sum() > 0
    seen = [
        (*row, label)
        for look in looks
        for z, y in look.marked
        for row, label in zip(z.tolist(), y.tolist(), strict=True)
    ]
    known = rows[labels[rows] >= 0]
    assert sorted(seen) == sorted(
        (*row, label) for row, label in zip(data[known].tolist(), labels[known].tolist(), strict=True)
    )


def test_terms_of_a_loss_are_told_as_they_were_summed():
    term = SimpleNamespace(sum=torch.tensor(1.25), count=torch.tensor(3))
    packed = packed_terms(("push", "pull"), {"pull": term, "unknown": term}, "cpu")
    assert term_sums(("push", "pull"), packed) == {"push": (0.0, 0), "pull": (1.25, 3)}


class Quiet:
    """Statistics with given shares."""

    def __init__(self, **values):
        self.values = values

    def summary(self):
        return dict.fromkeys(("matched_share", "rerouted_share", "misplaced_share"), 0.5) | self.values


HEALTHY = {"largest_share": 0.1, "effective_nodes": 12.0}


@pytest.mark.parametrize(
    ("shares", "rank", "reach", "alarm"),
    [
        ({"largest_share": 0.9, "effective_nodes": 3.0}, 5, 1.0, r"largest node 0.900 of the samples \(limit 0.5\);"),
        (HEALTHY, 1, 1.0, r"embedding rank 1.00 \(at least 2\);"),
        (HEALTHY, 5, 0.003, r"deviation 0.0009 \(at least 0.001\);"),
    ],
    ids=["one node wins", "one dimension", "one point"],
)
def test_three_alarming_rounds_in_a_row_end_a_training(shares, rank, reach, alarm, generator):
    plan = RunConfig.build(BASE)
    losses = plan.loss_config(True).resolve(10)
    deep = type("Plan", (), {"losses": losses, "settings": plan.deep})
    basis = 0.5 + reach * (torch.rand(400, rank, generator=generator) - 0.5)
    moments = LatentMoments.of(basis[:, torch.arange(6) % rank])
    network = NetworkState(*(torch.zeros(1) for _ in range(4)))
    seen = measures_of(Quiet(**shares), moments)
    assert monitored(network, seen, Limits(), 5, deep).alarms == 0  # still warming up
    for expected in (1, 2):
        network = monitored(network, seen, Limits(), 20, deep)
        assert network.alarms == expected
    with pytest.raises(Collapsed, match=f"collapsed in round 22, 3 rounds in a row: {alarm}") as caught:
        monitored(network, seen, Limits(), 22, deep)
    assert caught.value.round == 22 and caught.value.embedding_rank == seen["embedding_rank"]
    healthy = measures_of(Quiet(**HEALTHY), LatentMoments.of(torch.rand(400, 6, generator=generator)))
    assert monitored(network, healthy, Limits(), 22, deep).alarms == 0
    assert judged(network, healthy, Limits(), 22, deep).alarms == 0
    with pytest.raises(Collapsed, match=f"collapsed by the end of the training: {alarm}"):
        judged(network, seen, Limits(), 22, deep)  # also where all rounds were warm-up
    deep.settings = plan.deep.model_copy(update={"on_collapse": "go_on"})
    assert judged(network, seen, Limits(), 22, deep).alarms == 3


@pytest.mark.parametrize(
    ("share", "round_index", "warmup", "alarms"),
    [(1.0, 0, 0, 1), (1.0, 9, 10, 0), (1.0, 10, 10, 1), (0.0, 10, 10, 0), (0.0, 0, 0, 0), (1.0, 0, None, 1)],
)
def test_rounds_of_warm_up_and_those_without_a_map_are_no_alarm(share, round_index, warmup, alarms):
    plan = RunConfig.build(BASE)
    losses = dataclasses.replace(plan.loss_config(True), relevance_warmup_rounds=warmup)
    deep = SimpleNamespace(losses=losses, settings=plan.deep)
    seen = {"largest_share": share, "effective_nodes": 1.0, "embedding_rank": 1.0, "mean_std": 0.0}
    network = NetworkState(*(torch.zeros(1) for _ in range(4)))
    assert monitored(network, seen, Limits(), round_index, deep).alarms == alarms


@pytest.mark.parametrize(
    ("labels", "values", "dim", "share", "rank"),
    [
        ([-1, -1, -1], 64, 8, 0.5, 2),
        ([0, 0, 0], 64, 8, 0.5, 2),
        (list(range(10)), 64, 8, 0.5, 2),
        ([0, 1, -1, -1], 64, 8, 0.75, 1),
        ([0, 0, 0, 1, 2], 64, 8, 0.9, 1),
        ([0, 1, 2, 3], 64, 8, 0.5, 1.5),
        ([0] * 9 + [1], 64, 8, 0.95, 1),
        (list(range(10)), 2, 8, 0.5, 1),
        ([-1, -1, -1], 6, 8, 0.5, 1.5),
        (list(range(10)), 64, 2, 0.5, 1),
        ([-1, -1, -1], 64, 3, 0.5, 1.5),
    ],
    ids=[
        "no labels", "one class", "ten", "two halves", "three, one large", "four", "nine in ten", "two values",
        "six values, no labels", "two features", "three features, no labels",
    ],
)  # fmt: skip
def test_limits_of_a_collapse_agree_with_labels_samples_and_features(labels, values, dim, share, rank):
    limits = Limits.of(RunConfig.build(BASE).loss_config(True), torch.tensor(labels), values, dim)
    assert limits.share == pytest.approx(share) and limits.rank == rank


def test_a_training_that_is_too_short_for_its_settings_says_so():
    base = RunConfig.build(BASE)
    plan = DeepPlan(
        encoder=base.encoder, settings=base.deep, sample=SampleShape("table", (4,)), rounds=230, extra=0,
        num_labelled=9, num_classes=2, losses=LossConfig(relevance_warmup_rounds=235, consistency_start=300),
    )  # fmt: skip
    assert too_short(plan) == (
        "The training ends after 230 rounds, before relevances (loss.relevance_warmup_rounds=235) and consistency "
        "(loss.consistency_start=300): lower them, or train longer."
    )
    assert too_short(dataclasses.replace(plan, rounds=301)) is None
    blind = dataclasses.replace(plan, num_classes=0, settings=base.deep.model_copy(update={"variant": "kohonen"}))
    assert too_short(blind) is None, "it has neither relevances nor pseudo-labels"


def test_a_network_that_hardly_learns_says_so_but_k_means_does_not():
    base = RunConfig.build({**BASE, "train.model": "supervised"})
    plan = DeepPlan(
        encoder=base.encoder, settings=base.deep, sample=SampleShape("table", (4,)), rounds=20, extra=0, num_labelled=9,
        num_classes=2, losses=LossConfig(), rival=resolve_rival("supervised", base.rival, 2, 100),
    )  # fmt: skip
    assert too_short(plan) == (
        "The training has 20 rounds only, and the learning rate rises for the first 20 (deep.rate_warmup_rounds): "
        "give more --epochs, or rounds of fewer samples (map.batch_size)."
    )
    assert too_short(dataclasses.replace(plan, rounds=21)) is None
    assert too_short(dataclasses.replace(plan, rival=resolve_rival("kmeans", base.rival, 2, 100))) is None


@pytest.mark.parametrize("name", names())
def test_a_recipe_is_a_configuration_that_builds(name):
    run = RunConfig.build({"data.path": "somewhere", **recipe(name)})
    assert run.train.model == "deep" and read_file(name) == recipe(name)
    assert run.map_config().is_growing and math.isfinite(run.loss_config(True).temperature)
    if name in ("mnist", "svhn", "digits"):
        assert run.encoder.augment == "digits"


@pytest.mark.parametrize(
    ("flat", "sentence"),
    [
        ({"encoder.dim": 1}, "encoder.dim must be a number of latent features >= 2. Got 1."),
        ({"encoder.width": 6}, "encoder.width must be channels of the first layer, a multiple of 4. Got 6."),
        (
            {"encoder.name": "vit"},
            "encoder.name must be auto, cnn, standardised, residual, mlp, audio, word, pretrained, or module:function "
            "of your own. Got 'vit'.",
        ),
        ({"loss.pull_weight": -1.0}, "loss.pull_weight must be a number in [0, inf). Got -1.0."),
        ({"deep.learning_rate": 0.0}, "deep.learning_rate must be a number > 0. Got 0.0."),
        (
            {"train.model": "sssom", "encoder.dim": 8},
            "encoder.* must be used with train.model deep, or a rival that reads it (kmeans, autoencoder-kmeans, dec, "
            "deepcluster, vqvae, supervised, fixmatch). Got sssom; remove it, or the --config it stands in.",
        ),
        ({"loss.pul_weight": 1.0}, "Unknown key 'loss.pul_weight'. Did you mean 'loss.pull_weight'?"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line_that_names_the_key(flat, sentence):
    with pytest.raises(ValueError) as caught:
        RunConfig.build({**BASE, **flat})
    assert str(caught.value) == sentence


def test_settings_of_deep_runs_are_not_among_those_of_others():
    classical = RunConfig.build({"data.path": "x", "train.model": "sssom"}).flat()
    assert not [key for key in classical if key.split(".")[0] in ("encoder", "deep", "loss")]
    assert RunConfig.build(BASE).flat()["encoder.dim"] == 64
