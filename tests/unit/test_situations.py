"""What each kind of sample does to the map and to the encoder: the table of situations 0-16, one test each.

Maps of two features. ρ_t = 0.01, so a node accepts what lies within 0.1 of it in each feature. The loss is the
pull and push terms only, unless a test says otherwise: the other terms act on every sample alike.
"""

import dataclasses

import pytest
import torch

from somcore import LossConfig, MapConfig, SOMLayer, accumulate, advance
from somcore.growth import keep_nodes, prune, reconnect
from somcore.state import blank_state
from somcore.statistics import TALLIES

PULL_PUSH = LossConfig(
    cross_entropy_weight=0.0, variance_weight=0.0, reconstruction_weight=0.0, relevance_warmup_rounds=0
)
LEFT, MIDDLE, RIGHT = (0.2, 0.2), (0.5, 0.5), (0.8, 0.8)
RHO_T = 0.01


def layer_with(nodes, *, capacity=8, growing=True, wins=0, clock=0, losses=PULL_PUSH, **options):
    """A layer whose map has the given nodes: (prototype, class or None)."""
    config = MapConfig(activation_threshold=1 / (1 + RHO_T), capacity=capacity, pruning_period=1000, **options)
    layer = SOMLayer(config, dim=2, num_classes=3, losses=losses)
    state = blank_state(capacity, 2, 3)
    count = len(nodes)
    prototypes = torch.tensor([list(p) for p, _ in nodes], dtype=torch.float64).reshape(count, 2)
    classes = torch.tensor([-1 if c is None else c for _, c in nodes], dtype=torch.int64)
    state = dataclasses.replace(
        state,
        prototypes=torch.cat([prototypes, state.prototypes[count:]]),
        alive=torch.arange(capacity) < count,
        classes=torch.cat([classes, state.classes[count:]]),
        wins=torch.where(torch.arange(capacity) < count, wins, 0),
        growing=growing,
        clock=clock,
    )
    layer.install(reconnect(state, layer.config))
    return layer


def play(layer, samples, labels):
    """One round: the maps before and after, the features with their gradient, and what the layer said."""
    z = torch.tensor(samples, dtype=torch.float64).requires_grad_()
    out = layer(z, torch.tensor(labels))
    if out.loss_sum.requires_grad:
        out.loss_sum.backward()
    before = layer.state
    gradient = torch.zeros_like(z) if z.grad is None else z.grad
    assert before.digest() == layer.state.digest()  # forward never changes the map
    return before, advance(before, out.statistics, layer.config), gradient, out


def unit(gradient):
    return gradient / gradient.norm()


def towards(gradient, z, prototype):
    """The step −gradient leads from z to the prototype."""
    wanted = torch.tensor(prototype, dtype=torch.float64) - torch.tensor(z, dtype=torch.float64)
    return bool(torch.allclose(-unit(gradient), unit(wanted), atol=1e-9))


def test_0_empty_map_all_samples_are_candidates_labelled_first():
    before, after, gradient, out = play(layer_with([]), [LEFT, RIGHT, (0.81, 0.8)], [-1, -1, 1])
    assert after.num_nodes == 2  # the two on the right are covered by one node
    assert after.classes[:2].tolist() == [1, -1]  # the labelled one came first
    assert after.prototypes[0].tolist() == [0.81, 0.8]
    assert gradient.eq(0).all() and {int(t.count) for t in out.terms.values()} == {0}


@pytest.mark.parametrize("node_class", [None, 0])
def test_1_unlabelled_and_accepted_wins_and_pulls(node_class):
    layer = layer_with([(LEFT, node_class), (RIGHT, None)], neighbour_rate=0.0)
    before, after, gradient, _ = play(layer, [(0.25, 0.2)], [-1])
    assert after.wins.tolist()[:2] == [1, 0] and after.classes.equal(before.classes)
    assert after.prototypes[0, 0] == 0.2 + layer.config.bmu_rate * (0.25 - 0.2)
    assert torch.equal(after.prototypes[1], before.prototypes[1])
    assert gradient[0, 0].item() == pytest.approx(2 * 0.05 / 2) and towards(gradient[0], (0.25, 0.2), LEFT)


def test_2_unlabelled_not_accepted_with_room_becomes_a_node_without_class():
    before, after, gradient, _ = play(layer_with([(LEFT, 0)]), [RIGHT], [-1])
    assert after.num_nodes == 2 and after.classes[1] == -1 and after.prototypes[1].tolist() == list(RIGHT)
    assert gradient.eq(0).all()


@pytest.mark.parametrize("options", [{"capacity": 1}, {"growing": False}])
def test_3_unlabelled_not_accepted_without_room_is_ignored(options):
    before, after, gradient, _ = play(layer_with([(LEFT, 0)], **options), [RIGHT], [-1])
    assert torch.equal(after.prototypes, before.prototypes) and after.wins.eq(0).all()
    assert gradient.eq(0).all()


def test_4_labelled_same_class_wins_pulls_and_keeps_the_margin():
    layer = layer_with([(LEFT, 0), (RIGHT, 1)])
    before, after, gradient, out = play(layer, [(0.25, 0.2)], [0])
    assert after.wins.tolist()[:2] == [1, 0] and after.prototypes[0, 0] > 0.2
    assert torch.equal(after.prototypes[1], before.prototypes[1])  # other class: no neighbour
    assert towards(gradient[0], (0.25, 0.2), LEFT)
    assert int(out.terms["push"].count) == 1 and out.terms["push"].sum == 0  # far beyond the margin


def test_4_the_push_term_acts_inside_the_margin():
    z, wrong = (0.25, 0.2), (0.3, 0.2)
    layer = layer_with([(LEFT, 0), (wrong, 1)])
    _, _, gradient, out = play(layer, [z], [0])
    own, other = 0.05**2 / 2, 0.05**2 / 2
    assert out.terms["push"].sum.item() == pytest.approx(RHO_T + own - other)
    # pull 2(z − own)/2, push the same minus 2(z − wrong)/2
    assert gradient[0].tolist() == pytest.approx([0.05 + 0.05 + 0.05, 0.0])


def test_5_labelled_sample_of_a_node_without_class_is_adopted():
    before, after, gradient, _ = play(layer_with([(LEFT, None)]), [(0.25, 0.2)], [2])
    assert after.classes[0] == 2 and after.wins[0] == 1 and after.prototypes[0, 0] > 0.2
    assert towards(gradient[0], (0.25, 0.2), LEFT)


def test_6_several_classes_on_one_node_largest_keeps_it_the_other_gets_a_clone():
    samples = [(0.25, 0.2), (0.26, 0.2), (0.15, 0.2)]
    before, after, gradient, _ = play(layer_with([(LEFT, None)]), samples, [1, 1, 0])
    assert after.classes[:2].tolist() == [1, 0] and after.wins[:2].tolist() == [2, 1]
    assert after.prototypes[0, 0] > 0.2 > after.prototypes[1, 0]  # each pulled by its own samples
    assert all(towards(g, z, LEFT) for g, z in zip(gradient, samples, strict=True))  # the conflict is not known yet
    layer = layer_with([(LEFT, None)])
    layer.install(after)
    _, _, _, out = play(layer, [(0.15, 0.2)], [0])
    assert out.match.compatible_bmu.tolist() == [1]  # from the next round on to the own copy


def test_7_several_classes_without_room_drop_the_others():
    samples = [(0.25, 0.2), (0.26, 0.2), (0.15, 0.2)]
    before, after, gradient, _ = play(layer_with([(LEFT, None)], capacity=1), samples, [1, 1, 0])
    assert after.num_nodes == 1 and after.classes[0] == 1
    assert after.wins[0] == 2 and after.prototypes[0, 0] > 0.2  # the third sample is in no sum
    assert towards(gradient[2], samples[2], LEFT)  # to the frozen map it was still a fit
    layer = layer_with([(LEFT, None)], capacity=1)
    layer.install(after)
    _, _, later, out = play(layer, [(0.15, 0.2)], [0])  # now a foreign node and no slot: row 12
    assert later.eq(0).all() and int(out.terms["labelled_pull"].count) == 0


@pytest.mark.parametrize("node_class", [0, None])
def test_8_labelled_not_accepted_with_room_becomes_a_node_of_its_class(node_class):
    z = (0.45, 0.2)
    before, after, gradient, out = play(layer_with([(LEFT, node_class)]), [z], [0])
    assert after.num_nodes == 2 and after.classes[1] == 0 and after.prototypes[1].tolist() == list(z)
    if node_class == 0:
        assert towards(gradient[0], z, LEFT)
    else:
        assert gradient.eq(0).all() and int(out.terms["labelled_pull"].count) == 0


def test_9_labelled_not_accepted_on_a_full_map_still_teaches_the_encoder():
    z = (0.45, 0.2)
    before, after, gradient, _ = play(layer_with([(LEFT, 0)], capacity=1), [z], [0])
    assert torch.equal(after.prototypes, before.prototypes) and after.wins[0] == 0
    assert towards(gradient[0], z, LEFT)


def test_10_nearest_node_of_another_class_is_pushed_the_next_right_one_pulled():
    own, wrong, z = (0.2, 0.2), (0.3, 0.2), (0.26, 0.2)
    layer = layer_with([(own, 0), (wrong, 1)])
    before, after, gradient, out = play(layer, [z], [0])
    config = layer.config
    assert after.wins[:2].tolist() == [1, 0]
    assert after.prototypes[0, 0].item() == pytest.approx(0.2 + config.bmu_rate * 0.06)
    assert after.prototypes[1, 0].item() == pytest.approx(0.3 + config.push_rate * 0.04)
    assert gradient[0, 0].item() == pytest.approx(2 * 0.06 + 0.04)  # pull, hinge towards own, away from wrong


def test_11_foreign_bmu_and_no_fitting_node_with_room_becomes_a_node():
    z = (0.75, 0.8)
    before, after, gradient, _ = play(layer_with([(LEFT, 0), (RIGHT, 1)]), [z], [0])
    assert after.num_nodes == 3 and after.classes[2] == 0
    assert torch.equal(after.prototypes[1], before.prototypes[1])  # nobody accepts: no push on the map
    assert (gradient[0] > 0).all()  # towards the left, away from the right
    _, _, without, _ = play(layer_with([(RIGHT, 1)]), [z], [0])
    assert without.eq(0).all()


def test_12_foreign_bmu_on_a_full_map_leaves_it_alone_but_teaches_the_encoder():
    z = (0.75, 0.8)
    before, after, gradient, _ = play(layer_with([(LEFT, 0), (RIGHT, 1)], capacity=2), [z], [0])
    assert torch.equal(after.prototypes, before.prototypes) and after.wins.eq(0).all()
    assert (gradient[0] > 0).all()


def test_13_several_samples_push_one_node_once_from_their_mean():
    own, wrong = (0.2, 0.2), (0.3, 0.2)
    samples = [(0.26, 0.2), (0.27, 0.2), (0.28, 0.2)]
    layer = layer_with([(own, 0), (wrong, 1)])
    before, after, gradient, _ = play(layer, samples, [0, 0, 0])
    strength = 1 - (1 - layer.config.push_rate) ** 3
    assert after.prototypes[1, 0].item() == pytest.approx(0.3 - strength * (0.27 - 0.3))
    for row, (x, _) in zip(gradient, samples, strict=True):
        assert row[0].item() == pytest.approx(2 * (x - 0.2) - (x - 0.3))  # each its own hinge


def test_14_pruning_frees_slots_and_gives_no_gradient():
    layer = layer_with([(LEFT, 0), (RIGHT, 1)], wins=0, clock=999, neighbour_rate=0.0)
    before, after, gradient, out = play(layer, [LEFT], [0])
    assert after.alive[:2].tolist() == [True, False] and after.clock == 0
    assert gradient.abs().max() < 1e-12  # the sample sits on its prototype


def test_15_a_round_that_only_inserts_gives_nothing_to_the_optimiser():
    before, after, gradient, out = play(layer_with([(LEFT, 0)]), [RIGHT, MIDDLE], [-1, 1])
    assert after.num_nodes == 3
    assert gradient.eq(0).all() and sum(int(term.count) for term in out.terms.values()) == 0


@pytest.mark.parametrize("labels", [[-1, -1], [0, 1]])
def test_16_a_missing_sub_batch_adds_nothing_and_never_nan(labels):
    layer = layer_with([(LEFT, 0), (RIGHT, 1)], losses=LossConfig(relevance_warmup_rounds=0))
    z = torch.tensor([(0.25, 0.2), (0.75, 0.8)], dtype=torch.float64, requires_grad=True)
    out = layer(z, torch.tensor(labels))
    missing = ("labelled_pull", "push", "cross_entropy") if labels[0] < 0 else ("pull",)
    assert all(out.terms[name].sum.item() == 0 and int(out.terms[name].count) == 0 for name in missing)
    assert all(int(term.count) > 0 for name, term in out.terms.items() if name not in missing)
    out.loss_sum.backward()
    assert torch.isfinite(z.grad).all() and z.grad.abs().sum() > 0


def test_a_weight_counts_as_so_many_samples_in_a_contest_too():
    """Two classes contest a node without one: its clone takes over the wins of its whole class."""
    layer = layer_with([(MIDDLE, None)])
    rows, labels, weights = torch.tensor([MIDDLE, MIDDLE]), torch.tensor([0, 1]), torch.tensor([3, 2])
    summed = accumulate(layer.state, rows, labels, layer.config, scale=40, weights=weights)
    every = [part.repeat_interleave(weights, dim=0) for part in (rows, labels)]
    after = advance(layer.state, summed, layer.config)
    assert sorted(after.wins[after.alive].tolist()) == [2, 3]
    assert (
        after.digest()
        == advance(layer.state, accumulate(layer.state, *every, layer.config, scale=40), layer.config).digest()
    )


def test_the_last_node_stays_also_where_it_won_nothing_and_is_not_the_first():
    layer = layer_with([(LEFT, None), (MIDDLE, 1), (RIGHT, 0)], capacity=4, clock=1000)
    state = keep_nodes(layer.state, torch.tensor([False, True, True, False]))
    pruned, ended = prune(state, layer.config)
    assert ended and pruned.alive.tolist() == [False, True, False, False] and pruned.classes[1] == 1


def test_a_labelled_sample_is_misplaced_only_at_a_node_of_another_class():
    layer = layer_with([(LEFT, None), (RIGHT, 1)])
    rows, labels = torch.tensor([LEFT, RIGHT, RIGHT, RIGHT]), torch.tensor([0, 0, 1, -1])
    tally = accumulate(layer.state, rows, labels, layer.config, scale=40).sums["tally"]
    assert dict(zip(TALLIES, tally.tolist(), strict=True))["misplaced"] == 1
