"""Each term of the deep loss against a loop in NumPy, its gradient against differences, its sums over tiles."""

import dataclasses

import numpy as np
import pytest
import torch

from somcore import LossConfig, MapConfig, match
from somcore import losses as losses_module
from somcore.latent import MOST_MOMENTS, Errors, LatentMoments, errors_to, node_errors
from somcore.losses import (
    RoundTotals,
    Views,
    agreement,
    balance,
    consistency,
    cross_entropy,
    labelled_pull,
    learns,
    loss_terms,
    pseudo_labels,
    pull,
    push,
    weighted_sum,
)
from somcore.relevance import logistic_relevances
from somcore.state import blank_state
from somcore.terms import classifier, covariance, reconstruction, variance

CONFIG = MapConfig(activation_threshold=1 / 1.02).resolve(num_samples=100, num_features=3, num_classes=4)
RHO_T, TEMPERATURE, MARGIN = 0.02, 0.03, 0.05
SCORING = torch.linspace(-3, 3, 12, dtype=torch.float64).sin().view(4, 3)  # (C, D) of a classifier beside the map


def random_map(generator, nodes=9, capacity=12, features=3, classes=4):
    """Nodes of classes 0..2 and none; class 3 has no node; three slots are dead."""
    state = blank_state(capacity, features, classes)
    alive = torch.arange(capacity) < nodes
    row = alive.unsqueeze(1)
    deviations = torch.rand(capacity, features, generator=generator, dtype=torch.float64) * row
    return dataclasses.replace(
        state,
        alive=alive,
        prototypes=torch.rand(capacity, features, generator=generator, dtype=torch.float64) * row,
        deviations=deviations,
        relevances=torch.where(row, logistic_relevances(deviations, 0.07, 0.1), 1.0),
        classes=torch.where(alive, torch.arange(capacity) % 4 - 1, -1),
    )


@pytest.fixture
def scene(generator):
    state = random_map(generator)
    z = torch.rand(40, 3, generator=generator, dtype=torch.float64)
    labels = torch.arange(40) % 5 - 1
    return state, z, labels, match(state, z, labels, config=CONFIG)


TERMS = {
    "pull": lambda e, s, found, y, z: pull(e, found, y),
    "labelled_pull": lambda e, s, found, y, z: labelled_pull(e, found, y),
    "push": lambda e, s, found, y, z: push(e, found, y, MARGIN),
    "cross_entropy": lambda e, s, found, y, z: cross_entropy(e, y, TEMPERATURE),
    "consistency": lambda e, s, found, y, z: consistency(s, e, y, TEMPERATURE, 0.6),
    "reconstruction": lambda e, s, found, y, z: reconstruction(torch.ones_like(z) / 3, z.square()),
    "variance": lambda e, s, found, y, z: variance(z, 0.4),
    "covariance": lambda e, s, found, y, z: covariance(z),
    "classifier": lambda e, s, found, y, z: classifier(z @ SCORING.T, y),
}


def rho(state, z):
    """The specification: ρ by loops."""
    w, c = state.relevances.numpy(), state.prototypes.numpy()
    gap = (z.numpy()[:, None, :] - c[None]) ** 2
    return (w * gap).sum(2) / w.sum(1)


def expected(name, state, z, labels, found):
    """Sum and count of a term by loops."""
    r, k = rho(state, z), np.where(state.alive.numpy(), state.classes.numpy(), -2)
    total, count = 0.0, 0
    for i, y in enumerate(labels.tolist()):
        least = {c: r[i, k == c].min() for c in range(4) if (k == c).any()}
        b, accepted = int(found.compatible_bmu[i]), bool(found.matched[i])
        own = r[i, b] if accepted else least.get(y)
        other = min((e for c, e in least.items() if c != y), default=None)
        logits = {c: -e / TEMPERATURE for c, e in least.items()}
        norm = np.log(sum(np.exp(v) for v in logits.values()))
        scores = SCORING.numpy() @ z[i].numpy()
        value = None
        if name == "classifier" and y >= 0:
            value = np.log(np.exp(scores).sum()) - scores[y]
        elif name == "pull" and y == -1 and accepted:
            value = r[i, b]
        elif name == "labelled_pull" and y >= 0 and own is not None:
            value = own
        elif name == "push" and y >= 0 and own is not None and other is not None:
            value = max(0.0, MARGIN + own - other)
        elif name == "cross_entropy" and y in least:
            value = norm - logits[y]
        elif name == "consistency" and y == -1 and np.exp(max(logits.values()) - norm) >= 0.6:
            value = norm - max(logits.values())
        if value is not None:
            total, count = total + value, count + 1
    return total, count


@pytest.mark.parametrize("name", ["pull", "labelled_pull", "push", "cross_entropy", "consistency", "classifier"])
def test_a_term_is_what_the_loops_say(name, scene):
    state, z, labels, found = scene
    errors = errors_to(state, z)
    term = TERMS[name](errors, errors, found, labels, z)
    total, count = expected(name, state, z, labels, found)
    assert int(term.count) == count and 0 < count < 40
    assert term.sum.item() == pytest.approx(total, rel=1e-9)


def test_agreement_is_the_likelihood_of_the_weak_bmu_and_reaches_the_strong_view_only(scene, generator):
    state, z, _, _ = scene
    strong = torch.rand(40, 3, generator=generator, dtype=torch.float64)
    near, far = rho(state, z), rho(state, strong)
    alive = state.alive.numpy()
    likelihood = np.exp(-far / TEMPERATURE) * alive
    likelihood /= likelihood.sum(1, keepdims=True)
    bmu = np.where(alive, near, np.inf).argmin(1)
    weak = z.clone().requires_grad_()
    term = agreement(state, errors_to(state, weak), errors_to(state, strong), TEMPERATURE)
    assert not term.sum.requires_grad and int(term.count) == 40
    assert term.sum.item() == pytest.approx(-np.log(likelihood[np.arange(40), bmu]).sum(), rel=1e-9)
    frozen = errors_to(state, z)
    inputs = strong.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: agreement(state, frozen, errors_to(state, s), TEMPERATURE).sum, (inputs,))


def test_balance_is_nothing_when_nodes_are_used_alike_and_log_k_when_one_has_all(scene):
    state, z, _, _ = scene
    found = np.exp(-rho(state, z) / TEMPERATURE) * state.alive.numpy()
    mean = (found / found.sum(1, keepdims=True)).mean(0)
    mean = mean[state.alive.numpy()]
    term = balance(state, errors_to(state, z), TEMPERATURE)
    assert term.sum.item() == pytest.approx(np.log(9) + (mean * np.log(mean)).sum(), rel=1e-9)
    alike = balance(state, errors_to(state, state.prototypes[:9]), 1e-6)
    one = balance(state, errors_to(state, state.prototypes[:1].expand(9, -1)), 1e-6)
    assert alike.sum.item() == pytest.approx(0, abs=1e-9) and one.sum.item() == pytest.approx(np.log(9))
    inputs = z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: balance(state, errors_to(state, s), TEMPERATURE).sum, (inputs,))
    nobody = balance(state, errors_to(state, z[:0]), TEMPERATURE)
    assert nobody.sum.item() == 0 and nobody.count.item() == 0


def test_terms_of_nodes_say_nothing_on_an_empty_map():
    state, z = blank_state(4, 3, 2), torch.rand(5, 3, requires_grad=True)
    errors = errors_to(state, z)
    for term in (agreement(state, errors, errors, TEMPERATURE), balance(state, errors, TEMPERATURE)):
        term.sum.backward(retain_graph=True)
        assert int(term.count) == 0 and float(term.sum.detach()) == 0 and bool(torch.isfinite(z.grad).all())


def test_rho_by_matrix_products_is_rho_by_loops_also_in_float32(scene):
    state, z, _, _ = scene
    alive = state.alive.numpy()
    np.testing.assert_allclose(node_errors(state, z).numpy()[:, alive], rho(state, z)[:, alive], atol=1e-12)
    narrow = node_errors(state, z.float())
    assert narrow.dtype == torch.float32
    np.testing.assert_allclose(narrow.numpy()[:, alive], rho(state, z)[:, alive], atol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_those_of_finite_differences(name, scene):
    state, z, labels, found = scene
    frozen = errors_to(state, z)

    def value(features):
        return TERMS[name](errors_to(state, features), frozen, found, labels, features).sum

    assert torch.autograd.gradcheck(value, (z.clone().requires_grad_(),), atol=1e-6)


def test_the_soft_minimum_over_nodes_has_the_gradient_of_its_formula(scene):
    state, z, _, _ = scene
    soft = errors_to(state, z, soft=0.05).classes
    r, k = rho(state, z), np.where(state.alive.numpy(), state.classes.numpy(), -2)
    formula = -0.05 * np.log(np.exp(-r[:, k == 1] / 0.05).sum(1))
    np.testing.assert_allclose(soft[:, 1].numpy(), formula, rtol=1e-9)
    assert torch.isinf(soft[:, 3]).all()
    finite = lambda features: errors_to(state, features, soft=0.05).classes[:, :3]  # noqa: E731
    assert torch.autograd.gradcheck(finite, (z.clone().requires_grad_(),))


def test_the_weak_view_of_consistency_gets_no_gradient(scene):
    state, z, labels, _ = scene
    weak, strong = z.clone().requires_grad_(), z.clone().requires_grad_()
    term = consistency(errors_to(state, weak), errors_to(state, strong), labels, TEMPERATURE, 0.6)
    term.sum.backward()
    assert weak.grad is None and strong.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "name", ["pull", "labelled_pull", "push", "cross_entropy", "consistency", "reconstruction", "classifier"]
)
def test_sums_and_counts_of_tiles_add_up_to_those_of_the_round(name, scene):
    state, z, labels, _ = scene

    def measure(rows):
        found = match(state, z[rows], labels[rows], config=CONFIG)
        errors = errors_to(state, z[rows])
        return TERMS[name](errors, errors, found, labels[rows], z[rows])

    whole, parts = measure(slice(0, 40)), [measure(slice(0, 13)), measure(slice(13, 40))]
    assert int(whole.count) == sum(int(p.count) for p in parts)
    assert whole.sum.item() == pytest.approx(sum(p.sum.item() for p in parts), rel=1e-12)


@pytest.mark.parametrize("kind", ["minimum", "soft"])
def test_each_term_looks_at_its_own_view_with_its_own_constants(kind, scene, generator):
    state, z, labels, found = scene
    strong, inputs, decoded = (torch.rand(40, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    losses = LossConfig(
        agreement_weight=1.0, balance_weight=1.0, reconstruction_weight=1.0, covariance_weight=1.0,
        temperature=TEMPERATURE, margin=MARGIN, confidence=0.6, variance_floor=0.4, class_error=kind,
    )  # fmt: skip
    views = Views(strong=strong, inputs=inputs, decoded=decoded)
    terms = loss_terms(state, z, labels, found, losses, error_threshold=RHO_T, views=views)
    soft = TEMPERATURE if kind == "soft" else None
    of_weak, of_strong = errors_to(state, z, soft=soft), errors_to(state, strong, soft=soft)
    by_hand = {
        "pull": pull(of_weak, found, labels),
        "labelled_pull": labelled_pull(of_weak, found, labels),
        "push": push(of_weak, found, labels, MARGIN),
        "cross_entropy": cross_entropy(of_weak, labels, TEMPERATURE),
        "consistency": consistency(of_weak, of_strong, labels, TEMPERATURE, 0.6),
        "strong_cross_entropy": cross_entropy(of_strong, labels, TEMPERATURE),
        "agreement": agreement(state, of_weak, of_strong, TEMPERATURE),
        "balance": balance(state, of_weak, TEMPERATURE),
        "reconstruction": reconstruction(inputs, decoded),
        "variance": variance(z, 0.4),
        "covariance": covariance(z),
    }
    assert list(terms) == [name for name in losses_module.TERMS if name in by_hand]
    assert {name: term.sum.item() for name, term in terms.items()} == {n: t.sum.item() for n, t in by_hand.items()}
    assert 0 < int(terms["consistency"].count) < 8


def test_the_size_that_divides_a_term_is_that_of_the_samples_it_looks_at():
    totals = RoundTotals(samples=100, labelled=30, tiles=4)
    sizes = {"labelled": 30, "unlabelled": 70, "guessed": 70, "samples": 100, "tiles": 4}
    of = {
        "labelled": {"labelled_pull", "push", "cross_entropy", "strong_cross_entropy", "classifier",
                     "strong_classifier"},
        "unlabelled": {"pull"},
        "guessed": {"consistency", "classifier_consistency"},
        "samples": {"agreement", "reconstruction"},
        "tiles": {"balance", "variance", "covariance"},
    }  # fmt: skip
    told = {name: totals.divisor(name) for name in losses_module.TERMS}
    assert told == {name: sizes[size] for size, names in of.items() for name in names}


def test_the_loss_divides_each_sum_by_its_own_size_of_the_round(scene):
    state, z, labels, found = scene
    losses = LossConfig(
        pull_weight=2.0, labelled_pull_weight=3.0, push_weight=5.0, cross_entropy_weight=7.0, variance_weight=11.0,
        variance_floor=0.5, temperature=TEMPERATURE, margin=MARGIN,
    )  # fmt: skip
    terms = loss_terms(state, z, labels, found, losses, error_threshold=RHO_T)
    totals = RoundTotals(samples=40, labelled=32, tiles=2)
    by_hand = (
        2 * terms["pull"].sum / 8
        + (3 * terms["labelled_pull"].sum + 5 * terms["push"].sum + 7 * terms["cross_entropy"].sum) / 32
        + 11 * terms["variance"].sum / 2
    )
    assert weighted_sum(terms, losses, totals).item() == pytest.approx(by_hand.item())


def test_nothing_is_pushed_where_no_node_has_another_class(scene):
    state, z, labels, _ = scene
    alone = dataclasses.replace(state, classes=torch.where(state.classes == 1, 1, -1))
    labels = torch.where(labels >= 0, 1, -1)
    term = push(errors_to(alone, z), match(alone, z, labels, config=CONFIG), labels, MARGIN)
    assert (int(term.count), term.sum.item()) == (0, 0.0)


def test_a_probability_of_just_the_confidence_makes_a_pseudo_label():
    errors = Errors(torch.tensor([[0.2, 0.2]]), torch.tensor([[0.2, 0.2]]))
    for confidence, sure in ((0.5, True), (0.51, False)):
        assert pseudo_labels(errors, torch.tensor([-1]), TEMPERATURE, confidence)[1].tolist() == [sure]


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_a_map_without_classes_is_sure_of_nothing(classes, generator):
    """Not even of the only class there is, nor of as much as all classes have alike."""
    state = random_map(generator, classes=classes)
    z, labels = torch.rand(40, 3, generator=generator), torch.full((40,), -1)
    for nodes in (torch.full_like(state.classes, -1), torch.where(state.alive, -1, 0)):
        errors = errors_to(dataclasses.replace(state, classes=nodes), z)
        assert not pseudo_labels(errors, labels, TEMPERATURE, 0.3)[1].any()
        assert int(consistency(errors, errors, labels, TEMPERATURE, 0.3).count) == 0
    known = errors_to(dataclasses.replace(state, classes=torch.zeros_like(state.classes)), z)
    guess, sure = pseudo_labels(known, labels, TEMPERATURE, 0.95)
    assert sure.all() and not guess.any(), "of the only class that nodes have"


@pytest.mark.parametrize(
    ("weights", "with_labels", "without"),
    [
        ({}, False, False),
        ({"pull_weight": 1.0}, True, True),
        ({"variance_weight": 1.0}, True, True),
        ({"agreement_weight": 1.0}, True, True),
        ({"push_weight": 1.0}, True, False),
        ({"consistency_weight": 1.0}, True, False),
        ({"strong_cross_entropy_weight": 1.0}, True, False),
        ({"classifier_weight": 1.0}, True, False),
    ],
    ids=lambda value: next(iter(value), "none") if isinstance(value, dict) else None,
)
def test_a_loss_learns_from_terms_that_have_something_to_look_at(weights, with_labels, without):
    off = {name: 0.0 for name in LossConfig().to_dict() if name.endswith("_weight")}
    losses = LossConfig(**off | weights)
    assert (learns(losses, labelled=True), learns(losses, labelled=False)) == (with_labels, without)


@pytest.mark.parametrize("term", ["consistency", "classifier_consistency"])
def test_a_pseudo_label_never_weighs_more_than_a_label(term):
    few, many = RoundTotals(samples=40, labelled=8), RoundTotals(samples=40, labelled=32)
    assert few.divisor(term) == 32
    assert many.divisor(term) == many.divisor("cross_entropy") == 32


def test_a_missing_sub_batch_divides_by_one_and_gives_nothing():
    totals = RoundTotals(samples=8, labelled=8)
    assert totals.divisor("pull") == 1 and totals.divisor("cross_entropy") == 8
    assert weighted_sum({}, LossConfig()).item() == 0.0


def test_views_that_are_not_given_leave_their_terms_out_and_weights_of_zero_too(scene):
    state, z, labels, found = scene
    terms = loss_terms(state, z, labels, found, LossConfig(push_weight=0.0), error_threshold=RHO_T)
    assert set(terms) == {"pull", "labelled_pull", "cross_entropy", "variance"}
    views = Views(strong=z, inputs=z, decoded=z)
    later = {"consistency", "agreement", "balance"}
    losses = LossConfig(agreement_weight=1.0, balance_weight=1.0, consistency_start=0)
    begun = set(loss_terms(state, z, labels, found, losses, error_threshold=RHO_T, views=views))
    late = dataclasses.replace(losses, consistency_start=1)
    assert set(loss_terms(state, z, labels, found, late, error_threshold=RHO_T, views=views)) == begun - later
    assert later < begun


def test_a_classifier_beside_the_map_learns_labels_and_what_the_map_is_sure_of(scene):
    """It is taught by the map and teaches the network; the weights are those of the map's own terms, times its own."""
    state, z, labels, found = scene
    losses = LossConfig(
        temperature=TEMPERATURE, margin=MARGIN, confidence=0.6, classifier_weight=3.0, strong_cross_entropy_weight=5.0,
        consistency_weight=7.0, cross_entropy_weight=0.0, pull_weight=0.0, labelled_pull_weight=0.0, push_weight=0.0,
        variance_weight=0.0,
    )  # fmt: skip
    weak, strong = (torch.zeros(40, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    terms = loss_terms(
        state, z, labels, found, losses, error_threshold=RHO_T, views=Views(scores=weak, strong_scores=strong)
    )
    assert set(terms) == {"classifier", "strong_classifier", "classifier_consistency"}
    weighted_sum(terms, losses, RoundTotals(samples=40, labelled=32)).backward()
    guess, sure = pseudo_labels(errors_to(state, z), labels, TEMPERATURE, 0.6)
    assert 0 < int(sure.sum()) < 8
    known = labels >= 0
    slope = 0.25 - torch.nn.functional.one_hot(torch.where(known, labels, guess), 4)  # of equal scores
    of_strong = torch.where(known, 5 / 32, sure * 7 / 32).unsqueeze(1) * slope
    np.testing.assert_allclose(weak.grad, 3 / 32 * slope * known.unsqueeze(1), atol=1e-12)
    np.testing.assert_allclose(strong.grad, 3 * of_strong, atol=1e-12)


def test_a_classifier_says_nothing_where_the_map_reads_no_label(scene):
    state, z, labels, found = scene
    blind = dataclasses.replace(state, num_classes=0, classes=torch.full_like(state.classes, -1))
    views = Views(scores=torch.zeros(40, 4), strong_scores=torch.zeros(40, 4))
    unknown = torch.full_like(labels, -1)
    losses = LossConfig(classifier_weight=1.0)
    terms = loss_terms(blind, z, unknown, found, losses, error_threshold=RHO_T, views=views)
    assert not [name for name in terms if "classifier" in name]


def test_an_empty_map_and_a_constant_encoder_give_finite_gradients():
    state = blank_state(5, 3, 4)
    z = torch.full((6, 3), 0.5, requires_grad=True)
    labels = torch.tensor([-1, 0, 1, -1, 2, 3])
    found = match(state, z.detach(), labels, config=CONFIG)
    views = Views(strong=z, inputs=z.detach(), decoded=z)
    for kind in ("minimum", "soft"):
        losses = LossConfig(covariance_weight=1.0, class_error=kind)
        terms = loss_terms(state, z, labels, found, losses, error_threshold=RHO_T, views=views)
        weighted_sum(terms, losses).backward()
        assert torch.isfinite(z.grad).all()
        assert all(int(terms[n].count) == 0 for n in ("pull", "labelled_pull", "push", "cross_entropy", "consistency"))


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_of_a_constant_feature_gives_finite_gradients_of_full_precision(narrow, generator):
    values = torch.rand(70, 5, generator=generator).to(narrow)
    values[:, 2] = 0.5
    found = {}
    for kind in (narrow, torch.float32):
        features = values.detach().to(kind, copy=True).requires_grad_()
        with torch.autocast("cpu", narrow, enabled=kind is not narrow):
            total = variance(features, 0.5).sum + covariance(features).sum + reconstruction(features * 0, features).sum
        total.backward()
        found[kind] = (total.item(), features.grad.float())
    assert found[narrow][1].isfinite().all()
    assert found[narrow][0] == pytest.approx(found[torch.float32][0], rel=1e-6)
    torch.testing.assert_close(found[narrow][1], found[torch.float32][1], rtol=0.01, atol=1e-5)


@pytest.mark.parametrize("rows", [2, 7])
def test_terms_of_a_tile_are_their_definitions(rows, generator):
    z = torch.rand(rows, 3, generator=generator, dtype=torch.float64)
    x = z.numpy()
    short = np.maximum(0.4 - np.sqrt(x.var(0) + 1e-8), 0)
    table = np.cov(x.T)
    assert 0 < short.mean() == pytest.approx(variance(z, 0.4).sum.item(), rel=1e-9)
    off = (table**2).sum() - (np.diag(table) ** 2).sum()
    assert covariance(z).sum.item() == pytest.approx(off / 3, rel=1e-9)
    pictures = z.reshape(rows, 1, 3, 1)
    term = reconstruction(pictures, pictures.square())
    assert term.sum.item() == pytest.approx(((x - x**2) ** 2).mean(1).sum(), rel=1e-12)
    assert (int(variance(z, 0.4).count), int(covariance(z).count), int(term.count)) == (1, 1, rows)


def test_a_tile_of_one_sample_has_no_variance():
    z = torch.rand(1, 3, requires_grad=True)
    assert int(variance(z, 0.1).count) == 0 and variance(z, 0.1).sum.item() == 0.0
    assert int(covariance(z).count) == 0 and covariance(z).sum.item() == 0.0


def test_moments_merge_exactly_and_tell_the_rank(generator):
    z = torch.rand(300, 4, generator=generator)
    whole = LatentMoments.of(z)
    parts = LatentMoments.of(z[200:]).merge(LatentMoments.of(z[:200]))
    assert torch.equal(whole.table, parts.table) and int(whole.table[0, 0]) == 300
    reference = torch.cov(z.T.double(), correction=0)
    assert torch.allclose(whole.covariance(), reference, atol=1e-6)
    assert 3.5 < whole.summary()["embedding_rank"] <= 4
    line = torch.linspace(0, 1, 300).unsqueeze(1).expand(-1, 4)
    assert LatentMoments.of(line).summary()["embedding_rank"] == pytest.approx(1, abs=1e-3)
    assert LatentMoments.of(torch.full((9, 4), 0.5)).summary() == {
        "embedding_rank": 0.0, "smallest_std": 0.0, "mean_std": 0.0
    }  # fmt: skip


def test_moments_of_as_many_samples_as_are_allowed_stay_within_64_bits():
    tile = torch.ones(4096, 2)
    tile[::2, 0] = 0
    moments = LatentMoments(LatentMoments.of(tile).table * (MOST_MOMENTS // 4096))
    assert torch.equal(moments.covariance(), torch.tensor([[0.25, 0], [0, 0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pull_weight": -1.0}, r"pull_weight must be a number in \[0, inf\). Got -1.0."),
        ({"temperature": 0.0}, r"temperature must be a number in \(0, inf\). Got 0.0."),
        ({"confidence": 1.0}, r"confidence must be"),
        ({"class_error": "mean"}, r"class_error must be one of minimum | soft. Got 'mean'."),
    ],
)
def test_values_out_of_range_are_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        LossConfig(**options)


def test_temperature_and_margin_follow_the_threshold_unless_they_are_given():
    assert LossConfig().decisions(0.1) == (pytest.approx(0.02), 0.1)
    assert LossConfig(temperature=0.5, margin=0.0).decisions(0.1) == (0.5, 0.0)
    assert LossConfig(temperature_share=1.0).decisions(0.1)[0] == 0.1


def test_warm_up_lasts_an_epoch_and_consistency_begins_after_it_unless_they_are_given():
    def resolved(**given):
        losses = LossConfig(**given).resolve(7)
        return losses.relevance_warmup_rounds, losses.consistency_start

    assert resolved() == (7, 7)
    assert resolved(relevance_warmup_rounds=3) == (3, 3)
    assert resolved(consistency_start=2) == (7, 2)
    assert resolved(consistency_start=0, relevance_warmup_rounds=0) == (0, 0)
    begun = LossConfig(consistency_start=2)
    assert [begun.started(r) for r in (0, 1, 2, 3)] == [False, False, True, True]


def test_an_unknown_weight_is_named_with_its_neighbour_and_every_field_is_described():
    with pytest.raises(ValueError, match="'pul_weight' is not .* Did you mean 'pull_weight'?"):
        LossConfig.from_dict({"pul_weight": 1.0})
    assert LossConfig.from_dict(LossConfig().to_dict()) == LossConfig()
    assert all(row["meaning"] and row["valid"] and row["symbol"] for row in LossConfig.describe())
    assert LossConfig.supervised().pull_weight == 0 < LossConfig.supervised().cross_entropy_weight
