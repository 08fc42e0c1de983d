"""One tile and one round of deep training, without a run around them."""

import copy
import dataclasses
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.config import RunConfig
from pipeline.deep.augment import Draws, table_view
from pipeline.deep.network import Network, flat_parameters, load_flat, trainable
from pipeline.deep.plan import DeepPlan, DeepRound, deep_map_config
from pipeline.deep.refresh import rows_to_look_at
from pipeline.deep.rounds import DeepRounds
from pipeline.deep.sample_shape import SampleShape
from pipeline.deep.step import TileStep, term_sums
from pipeline.prepared.shards import Dataset
from pipeline.training.first import first_snapshot
from pipeline.training.plan import make_plan, training_labels
from pipeline.training.reduction import LocalReduction, scale_of
from pipeline.training.trainer import train
from somcore import LossConfig, MapConfig
from somcore.latent import LatentMoments, errors_to
from somcore.losses import TERMS, RoundTotals, Views, consistency
from somcore.measure import measure
from somcore.refresh import with_plain_relevances
from somcore.state import blank_state
from somcore.update import accumulate, advance, empty_statistics
from tests.training import small

TEMPERATURE, MARGIN, RHO_T = 0.02, 0.03, 0.01
WEIGHED = LossConfig(
    pull_weight=2.0, labelled_pull_weight=3.0, push_weight=5.0, cross_entropy_weight=1.5, consistency_weight=2.5,
    strong_cross_entropy_weight=3.5, classifier_weight=0.5, agreement_weight=1.25, balance_weight=4.0,
    reconstruction_weight=6.0, variance_weight=7.0, covariance_weight=80.0, variance_floor=0.3, confidence=0.7,
    temperature=TEMPERATURE, margin=MARGIN, consistency_start=4, relevance_warmup_rounds=0,
)  # fmt: skip


def terms_by_hand(state, losses, network, weak, strong, labels, tiles):
    """Sum and number of each term of a round, from its definition, sample by sample; `state` has one dead slot."""
    sums, counts = defaultdict(float), defaultdict(int)

    def add(name, value):
        sums[name], counts[name] = sums[name] + value, counts[name] + 1

    def errors(z):
        gap = (z.unsqueeze(1) - state.prototypes[:-1]).square()
        return (gap * state.relevances[:-1]).sum(2) / state.relevances[:-1].sum(1)

    def of_class(rho):
        joined = [rho[[k for k, own in enumerate(classes) if own == c]] for c in (0, 1)]
        if losses.class_error == "soft":
            return torch.stack([-TEMPERATURE * torch.logsumexp(-one / TEMPERATURE, 0) for one in joined])
        return torch.stack([one.min() for one in joined])

    def entropy(scores, label):
        return -torch.log_softmax(scores, 0)[label]

    classes, started = state.classes[:-1].tolist(), state.round >= losses.consistency_start
    z, other = network.encoder(weak), network.encoder(strong)
    rho, far, decoded = errors(z), errors(other), network.decoder(z)
    scores, strong_scores = network.classifier(z), network.classifier(other)
    for i, y in enumerate(labels.tolist()):
        near, strongly = of_class(rho[i]), -of_class(far[i]) / TEMPERATURE
        best = min((k for k, own in enumerate(classes) if y == -1 or own in (y, -1)), key=lambda k: rho[i, k].item())
        accepted = rho[i, best].item() <= RHO_T
        add("reconstruction", (weak[i] - decoded[i]).square().mean())
        if y == -1 and accepted:
            add("pull", rho[i, best])
        if y >= 0 and (accepted or y < 2):
            own = rho[i, best] if accepted else near[y]
            add("labelled_pull", own)
            add("push", (MARGIN + own - torch.stack([near[c] for c in (0, 1) if c != y]).min()).clamp_min(0))
        if y in (0, 1):  # no node has class 2
            add("cross_entropy", entropy(-near / TEMPERATURE, y))
            add("strong_cross_entropy", entropy(strongly, y))
        if y >= 0:
            add("classifier", entropy(scores[i], y))
            add("strong_classifier", entropy(strong_scores[i], y))
        likely = torch.softmax(-near.detach() / TEMPERATURE, 0)
        if started and y == -1 and likely.max() >= losses.confidence:
            add("consistency", entropy(strongly, likely.argmax()))
            add("classifier_consistency", entropy(strong_scores[i], likely.argmax()))
        if started and losses.agreement_weight:
            add("agreement", entropy(-far[i] / TEMPERATURE, rho[i].argmin()))
    for part in tiles:
        used = torch.softmax(-rho[part] / TEMPERATURE, 1).mean(0)
        if started:
            add("balance", torch.tensor(5.0).double().log() + (used * used.log()).sum())
        add("variance", (losses.variance_floor - z[part].std(0, correction=0)).clamp_min(0).mean())
        table = torch.cov(z[part].T)
        add("covariance", (table - table.diagonal().diag()).square().sum() / 3)
    return {name: (sums[name], counts[name]) for name in TERMS if name in sums}


@pytest.mark.parametrize(
    ("round_index", "changes"),
    [(4, {}), (4, {"agreement_weight": 0.0}), (3, {}), (4, {"class_error": "soft", "agreement_weight": 0.0})],
    ids=["all terms", "strong views of some rows", "before consistency", "soft classes"],
)
def test_the_tiles_of_a_round_give_the_gradient_of_its_loss(round_index, changes):
    """Against plain torch in float64: views, network, terms, weights and divisors, statistics of the whole round."""
    generator = torch.Generator().manual_seed(2)  # a scene in which every term has something to say

    def rand(*size):
        return torch.rand(*size, generator=generator)

    losses, base = dataclasses.replace(WEIGHED, **changes), RunConfig.build({"data.path": "x", "train.model": "deep"})
    plan = DeepPlan(
        encoder=base.encoder.model_copy(update={"augment": "table"}), settings=base.deep, losses=losses,
        sample=SampleShape("table", (5,)), rounds=9, extra=0, num_labelled=20, num_classes=3,
    )  # fmt: skip
    network = Network(nn.Sequential(nn.Linear(5, 3), nn.Sigmoid()), nn.Linear(3, 5), nn.Linear(3, 3))
    for parameter in trainable(network):
        parameter.data = 6 * rand(*parameter.shape) - 3
    exact = copy.deepcopy(network).double()
    config = MapConfig(activation_threshold=1 / (1 + RHO_T), capacity=6, seed=7)
    config = config.resolve(num_samples=60, num_features=3, num_classes=3)
    samples, labels = rand(60, 5), torch.where(torch.arange(60) % 3 == 0, torch.arange(60) // 3 % 3, -1)
    state = dataclasses.replace(
        blank_state(6, 3, 3),
        alive=torch.arange(6) < 5,
        prototypes=network(samples[:6]).detach().double() + 0.05 * rand(6, 3).double(),
        relevances=0.2 + 0.8 * rand(6, 3).double(),
        classes=torch.tensor([0, 1, 0, 1, -1, -1]),
        round=round_index,
    )
    step = TileStep(plan, network, state, config, RoundTotals(60, 20, 2), 40, str)
    tiles, positions, rows = (slice(0, 32), slice(32, 60)), 100 + torch.arange(60), torch.arange(60)
    found = [step(samples[t], labels[t], 3, positions[t], t.start, rows[t]) for t in tiles]

    weak = table_view(samples, False, Draws(7, 3, positions, "weak"))
    strong = table_view(samples, True, Draws(7, 3, positions, "strong"))
    by_hand = terms_by_hand(state, losses, exact, weak.double(), strong.double(), labels, tiles)
    factors = {
        "pull": 2.0 / 40, "labelled_pull": 3.0 / 20, "push": 5.0 / 20, "cross_entropy": 1.5 / 20,
        "consistency": 2.5 / 40, "strong_cross_entropy": 3.5 / 20, "classifier": 0.5 / 20,
        "strong_classifier": 0.5 * 3.5 / 20, "classifier_consistency": 0.5 * 2.5 / 40,
        "agreement": losses.agreement_weight / 60, "balance": 4.0 / 2, "reconstruction": 6.0 / 60,
        "variance": 7.0 / 2, "covariance": 80.0 / 2,
    }  # fmt: skip
    loss = sum(factors[name] * total for name, (total, _) in by_hand.items())
    slope = torch.cat([part.flatten() for part in torch.autograd.grad(loss, trainable(exact))])
    assert torch.allclose(sum(one.gradient for one in found).double(), slope, rtol=1e-4, atol=1e-5)
    assert bool((slope != 0).all())
    told = term_sums(TERMS, sum(one.tallies for one in found))
    for name, (total, count) in told.items():
        wanted, number = by_hand.get(name, (torch.zeros(()), 0))
        assert (total, count) == (pytest.approx(wanted.item(), rel=1e-4, abs=1e-5), number), name
    if round_index == 4:
        assert 5 < by_hand["consistency"][1] < 35, "of 40"
    assert 0 < by_hand["pull"][1] < 40 and 0 < by_hand["labelled_pull"][1] < 20

    features = torch.cat([network(weak[part]).detach() for part in tiles])
    whole = accumulate(state, features, labels, config, scale=40)
    assert found[0].statistics.merge(found[1].statistics) == whole
    assert torch.equal(found[0].moments.merge(found[1].moments).table, LatentMoments.of(features).table)


@pytest.mark.parametrize("kind", ["minimum", "soft"])
def test_strong_views_are_made_of_the_rows_that_consistency_looks_at(kind, generator):
    """Also where the nodes of a class join softly: another row is sure then."""
    losses = LossConfig(temperature=0.05, class_error=kind, confidence=0.8, strong_cross_entropy_weight=0.0).resolve(0)
    state = SimpleNamespace(
        prototypes=torch.rand(9, 4, generator=generator).double(),
        relevances=torch.ones(9, 4).double(),
        alive=torch.ones(9, dtype=torch.bool),
        classes=torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2]),
        num_classes=3,
        round=5,
    )
    features, labels = torch.rand(200, 4, generator=generator), torch.full((200,), -1)
    step = SimpleNamespace(_plan=SimpleNamespace(losses=losses), _state=state, _config=MapConfig())
    wanted = TileStep._strong_rows(step, labels, features)
    soft = 0.05 if kind == "soft" else None
    errors = errors_to(state, features, soft=soft)
    likely = torch.softmax(-errors.classes / 0.05, dim=1).amax(1)
    assert 0 < int(wanted.sum()) < 200 and torch.equal(wanted, likely >= 0.8)
    assert int(consistency(errors, errors, labels, 0.05, 0.8).count) == int(wanted.sum())


@pytest.mark.parametrize(
    ("weights", "round_index", "wanted"),
    [
        ({}, 9, None),
        ({"strong_cross_entropy_weight": 1.0}, 0, [True, False, False]),
        ({"agreement_weight": 1.0}, 4, None),
        ({"agreement_weight": 1.0}, 5, [False, False, False]),
        ({"consistency_weight": 1.0}, 4, None),
        ({"consistency_weight": 1.0}, 5, [False, True, False]),
        ({"consistency_weight": 1.0, "strong_cross_entropy_weight": 1.0}, 4, [True, False, False]),
        ({"consistency_weight": 1.0, "strong_cross_entropy_weight": 1.0}, 5, [True, True, False]),
    ],
)
def test_labelled_rows_have_strong_views_at_once_and_others_when_consistency_begins(weights, round_index, wanted):
    """Of three rows one is labelled, one lies on a node, and one between those of two classes."""
    off = dict.fromkeys(("strong_cross_entropy_weight", "consistency_weight", "agreement_weight"), 0.0)
    losses = LossConfig(temperature=0.05, confidence=0.9, consistency_start=5, **{**off, **weights})
    state = SimpleNamespace(
        prototypes=torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double(),
        relevances=torch.ones(2, 2).double(),
        alive=torch.ones(2, dtype=torch.bool),
        classes=torch.tensor([0, 1]),
        num_classes=2,
        round=round_index,
    )
    step = SimpleNamespace(_plan=SimpleNamespace(losses=losses), _state=state, _config=MapConfig())
    features = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
    found = TileStep._strong_rows(step, torch.tensor([0, -1, -1]), features)
    assert (found if found is None else found.tolist()) == wanted


def test_an_accelerator_computes_strong_views_of_all_rows_without_being_asked():
    """It was asked for the rows although they were all: a meta tensor has none to tell."""
    losses = LossConfig(temperature=0.05, strong_cross_entropy_weight=1.0, agreement_weight=0.0)
    step = SimpleNamespace(_plan=SimpleNamespace(losses=losses), _strong=None)
    step._strong_rows = lambda labels, features: labels >= 0
    step._view, step._encode = lambda view, samples, *rest: samples, lambda samples: samples[:, :3]
    samples, features = torch.rand(5, 8, device="meta"), torch.rand(5, 3, device="meta")
    numbers = torch.arange(5, device="meta")
    assert TileStep._strong_features(step, samples, numbers, features, 0, numbers).shape == (5, 3)


def tiles_by_hand(dataset, cut, frozen, config, deep, network):
    """Loss of a round, and its statistics."""
    count, known, left, right = len(cut.rows), int((cut.labels >= 0).sum()), *deep.views()
    scale, loss = scale_of(frozen, count, "exact"), 0.0
    merged = empty_statistics(frozen, config, scale)
    for start in range(0, count, 64):
        part = slice(start, start + 64)
        samples, positions = dataset.read("train", cut.rows[part])[0], cut.positions[part]
        weak = left(samples, Draws(0, cut.epoch, positions, "weak"))
        strong = right(samples, Draws(0, cut.epoch, positions, "strong"))
        z = network(weak)
        views = Views(strong=network(strong), inputs=weak, decoded=network.decoder(z))
        out = measure(
            frozen, z, cut.labels[part], config, deep.losses, error_threshold=config.error_threshold, views=views,
            positions=torch.arange(count)[part], scale=scale,
        )  # fmt: skip
        loss = loss + out.loss(RoundTotals(count, known, -(-count // 64)))
        merged = merged.merge(out.statistics)
    return loss, merged


def test_a_round_is_one_step_of_adamw_on_the_loss_of_its_tiles_and_one_of_the_map_on_their_statistics(digits):
    """Through the end of growth and the begin of consistency in round 2, of the epoch and the warm-up in round 4."""
    changes = {"encoder__width": 4, "encoder__dim": 8, "deep__refresh_rounds": 0, "deep__growth_rounds": 2}
    changes |= {"deep__weight_decay": 0.5, "deep__clip_norm": 0.1, "train__labelled_fraction": 0.1}
    changes |= {"loss__consistency_start": 2, "loss__confidence": 0.5, "loss__variance_floor": 0.5}
    dataset = Dataset.open(digits)
    plan = make_plan(RunConfig.build(small("deep", digits, **changes)), dataset)
    labels, deep = training_labels(plan, dataset.labels("train"))[0], plan.deep
    rounds, snapshot = DeepRounds(plan), first_snapshot(plan, dataset)
    network = deep.loaded(snapshot.network.values)
    adam = torch.optim.AdamW(trainable(network), weight_decay=0.5)
    for number in range(6):
        after = rounds.play(snapshot, LocalReduction(), lambda: None)
        load_flat(network, snapshot.network.values)
        config = deep_map_config(plan.config, after.network.threshold)
        frozen = dataclasses.replace(with_plain_relevances(snapshot.state, 4), growing=number < 2)
        cut = DeepRound.of(number, config, labels, torch.arange(1438), 100)
        loss, merged = tiles_by_hand(dataset, cut, frozen, config, deep, network)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trainable(network), 0.1)
        adam.param_groups[0]["lr"] = deep.step_size.at(number)
        adam.step()
        assert torch.allclose(flat_parameters(network), after.network.values, atol=1e-6), number
        moved = dataclasses.replace(advance(frozen, merged, config), growing=True, finished=False)
        assert moved.digest() == after.state.digest() and after.state.round == number + 1
        snapshot = after
    assert snapshot.state.num_nodes > 10


def test_a_training_is_the_same_whatever_the_default_precision_of_its_process_is(digits, tmp_path):
    settings = small("deep", digits, map__epochs=1, encoder__width=4, encoder__dim=8, deep__on_collapse="go_on")
    expected = train(settings, tmp_path / "single")
    torch.set_default_dtype(torch.float64)
    try:
        assert train(settings, tmp_path / "double")["map_digest"] == expected["map_digest"]
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_round_without_anything_to_learn_is_no_step_of_the_optimiser(digits):
    """The map is empty in the first round: it gets nodes, the encoder and its momenta stay what they were."""
    off = {"loss__variance_weight": 0.0, "loss__reconstruction_weight": 0.0, "encoder__width": 4, "encoder__dim": 8}
    dataset = Dataset.open(digits)
    plan = make_plan(RunConfig.build(small("deep", digits, **off)), dataset)
    rounds, before = DeepRounds(plan), first_snapshot(plan, dataset)
    after = rounds.play(before, LocalReduction(), lambda: None)
    assert after.state.num_nodes > 0 and after.network.steps == 0
    assert torch.equal(after.network.values, before.network.values)
    assert rounds.play(after, LocalReduction(), lambda: None).network.steps == 1


@pytest.mark.parametrize(("variant", "averaged"), [("sssom", True), ("kohonen", False)])
def test_a_growing_map_settles_on_the_averaged_encoder_in_another_order_of_all_rows_each_time(
    variant, averaged, digits, monkeypatch
):
    """A lattice keeps the encoder that it was trained with."""
    looked = []

    def seen(*given):
        looked.append(rows_to_look_at(*given))
        return looked[-1]

    monkeypatch.setattr("pipeline.deep.rounds.rows_to_look_at", seen)
    changes = {"deep__variant": variant, "deep__on_collapse": "go_on", "encoder__width": 4, "encoder__dim": 8}
    settings = small("deep", digits, **changes, deep__labelled_only=True, map__epochs=1)
    if variant == "kohonen":
        settings |= {"map.rows": 3, "map.columns": 3}
        del settings["map.pruning_epochs"]  # of growing maps
    dataset = Dataset.open(digits)
    plan = make_plan(RunConfig.build(settings), dataset)
    rounds, snapshot = DeepRounds(plan), first_snapshot(plan, dataset)
    while not snapshot.state.finished:
        assert snapshot.network.steps == 0 or not torch.equal(snapshot.network.values, snapshot.network.average)
        snapshot = rounds.play(snapshot, LocalReduction(), lambda: None)
    assert torch.equal(snapshot.network.values, snapshot.network.average) is averaged
    orders = {tuple(rows.tolist()) for rows in looked[-plan.deep.settings.final_passes :]}
    trained = plan.deep.trained_rows(*training_labels(plan, dataset.labels("train"))).tolist()
    assert all(sorted(order) == trained for order in orders) and len(orders) == (3 if averaged else 0)


@pytest.mark.parametrize(
    ("growth_rounds", "round_index", "classes", "grown"),
    [
        (None, 99, [0, 1], False),
        (5, 4, [0, 1], False),
        (5, 5, [0, 1], True),
        (5, 99, [1, 0], True),
        (5, 99, [0, 0], False),
        (5, 99, [0, -1], False),
    ],
)
def test_a_map_is_grown_when_its_rounds_of_growth_are_over_and_every_class_has_a_node(
    growth_rounds, round_index, classes, grown
):
    """A third node, of class 1, is dead."""
    rounds = SimpleNamespace(_deep=SimpleNamespace(settings=SimpleNamespace(growth_rounds=growth_rounds)))
    rounds._classes = torch.tensor([0, 1])
    alive = torch.tensor([True, True, False])
    state = dataclasses.replace(
        blank_state(3, 2, 2), classes=torch.tensor([*classes, 1]), alive=alive, round=round_index
    )
    assert DeepRounds._is_grown(rounds, state) is grown


@pytest.mark.parametrize(
    ("classes", "labelled", "tunable"), [(2, 3, True), (2, 2, False), (2, 0, False), (0, 3, False)]
)
def test_prototypes_are_tuned_where_more_rows_are_labelled_than_there_are_nodes(classes, labelled, tunable):
    rounds = SimpleNamespace(_deep=SimpleNamespace(num_labelled=labelled))
    state = dataclasses.replace(blank_state(3, 2, classes), alive=torch.tensor([True, True, False]))
    assert DeepRounds._is_tunable(rounds, state) is tunable


@pytest.mark.parametrize(
    ("every", "due"),
    [(13, [*range(3, 52, 3), 52, 65, 78]), (1, list(range(1, 80))), (0, [])],
)
def test_refreshes_are_four_times_as_frequent_in_the_beginning(every, due):
    rounds = SimpleNamespace(
        _plan=SimpleNamespace(config=MapConfig()),
        _deep=SimpleNamespace(settings=SimpleNamespace(refresh_rounds=every)),
    )
    network, unmeasured = SimpleNamespace(threshold=0.5), SimpleNamespace(threshold=0.0)
    found = [r for r in range(80) if DeepRounds._refresh_due(rounds, SimpleNamespace(round=r), network)]
    assert found == due
    assert DeepRounds._refresh_due(rounds, SimpleNamespace(round=0), unmeasured)
    rounds._plan.config = MapConfig(variant="kohonen")
    assert not DeepRounds._refresh_due(rounds, SimpleNamespace(round=0), unmeasured)


@pytest.mark.parametrize(
    "few", [{"deep__labelled_only": True, "train__labelled_fraction": 0.1}, {"train__validation_fraction": 0.3}]
)
@pytest.mark.parametrize("start", ["sample", "linear"])
def test_a_lattice_begins_on_rows_that_are_trained_on(few, start, digits, monkeypatch):
    lattice = {"deep__variant": "kohonen", "map__rows": 3, "map__columns": 3, "map__initialisation": start}
    dataset, seen = Dataset.open(digits), []
    settings = small("deep", digits, **lattice, **few)
    del settings["map.pruning_epochs"]  # of growing maps
    plan = make_plan(RunConfig.build(settings), dataset)
    trained = plan.deep.trained_rows(*training_labels(plan, dataset.labels("train")))
    original = Dataset.read

    def read(self, split, rows):
        seen.append(torch.as_tensor(rows))
        return original(self, split, rows)

    monkeypatch.setattr(Dataset, "read", read)
    first_snapshot(plan, dataset)
    assert len(seen) == 2 and torch.isin(torch.cat(seen), trained).all() and len(trained) < dataset.num_samples("train")


def test_maps_whose_nodes_share_no_threshold_are_tuned_with_the_temperature_that_they_are_given(digits, tmp_path):
    changes = {"deep__variant": "altsssom", "deep__tune_steps": 3, "deep__refresh_rounds": 2}
    changes |= {"deep__refresh_tune_steps": 2, "encoder__width": 4, "encoder__dim": 8, "deep__on_collapse": "go_on"}
    given = {"loss__temperature": 0.05, "loss__margin": 0.1}
    result = train(small("deep", digits, **changes, **given, map__epochs=1), tmp_path / "run")
    assert result["nodes"] > 10 and result["accuracy"] > 0.2
