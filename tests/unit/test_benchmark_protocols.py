"""Selection rules of the benchmark, against examples worked out by hand."""

import pytest

from pipeline.benchmarks.uci import judgement
from pipeline.benchmarks.uci.protocols import (
    DEFAULT_SET,
    Summary,
    chosen,
    inner_choice,
    inner_splits,
    lofo_choice,
    oracle_choice,
)

# three sets on three folds
SCORES = [[0.9, 0.1, 0.5], [0.6, 0.6, 0.6], [0.5, 0.8, 0.7]]


def test_the_oracle_takes_the_best_of_each_test_fold():
    assert oracle_choice(SCORES) == [0, 2, 2]
    assert chosen(SCORES, oracle_choice(SCORES)).values == (0.9, 0.8, 0.7)


def test_lofo_takes_the_set_that_is_best_on_the_other_folds():
    # others of fold 0: .6, 1.2, 1.5 -> set 2; of fold 1: 1.4, 1.2, 1.2 -> set 0; of fold 2: 1.0, 1.2, 1.3 -> set 2
    assert lofo_choice(SCORES) == [2, 0, 2]
    assert chosen(SCORES, lofo_choice(SCORES)).values == (0.5, 0.1, 0.7)


def test_lofo_does_not_look_at_the_fold_it_is_scored_on():
    for fold in range(3):
        changed = [[0.0 if f == fold else v for f, v in enumerate(row)] for row in SCORES]
        changed[0][fold] = 1.0
        assert lofo_choice(changed)[fold] == lofo_choice(SCORES)[fold]


def test_ties_go_to_the_lowest_set():
    assert oracle_choice([[0.5], [0.5]]) == [0]


def test_honest_ties_go_to_fewer_nodes_then_to_the_lower_set():
    assert inner_choice([0.5, 0.7, 0.7, 0.7], [1, 9, 4, 4]) == 2
    assert inner_choice([0.7, 0.7], [3, 3]) == 0


def test_without_a_selection_everybody_uses_the_defaults():
    assert inner_choice([None, None], [0, 0]) == DEFAULT_SET


def test_the_spread_has_n_minus_one():
    summary = Summary.of([0.1, 0.2, 0.3])
    assert summary.mean == pytest.approx(0.2)
    assert summary.sd == pytest.approx(0.1)
    assert summary.se == pytest.approx(0.1 / 3**0.5)


def held_out(labels):
    return inner_splits(labels, list(range(len(labels))))


def test_inner_splits_are_stratified_by_the_smallest_class():
    labels = [0] * 9 + [1] * 3 + [-1] * 5
    splits = held_out(labels)
    assert len(splits) == 3
    assert sorted(row for split in splits for row in split) == list(range(12))
    for split in splits:
        assert sum(labels[row] == 0 for row in split) == 3
        assert sum(labels[row] == 1 for row in split) == 1


def test_at_most_five_inner_splits():
    assert len(held_out([0] * 20 + [1] * 20)) == 5


def test_fewer_than_ten_labelled_rows_are_left_out_one_by_one():
    assert held_out([0, 0, 1, 1, 1, -1]) == [[0], [1], [2], [3], [4]]


def test_the_only_row_of_a_class_is_never_held_out():
    assert held_out([0, 0, 1, 1, 2, -1]) == [[0], [1], [2], [3]]
    big = held_out([0] * 10 + [1] * 10 + [2])
    assert len(big) == 5
    assert 20 not in [row for split in big for row in split]


@pytest.mark.parametrize("labels", [[], [-1, -1], [0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 2]])
def test_selection_is_impossible_without_two_classes_of_two_labelled_rows(labels):
    assert held_out(labels) == []


def nine(mean, sd=0.03):
    return Summary(mean, sd, (mean,) * 9)


def test_reach_allows_the_larger_of_half_a_per_cent_and_one_standard_error():
    assert judgement.reaches(nine(0.70), 0.71)  # se = .01
    assert not judgement.reaches(nine(0.70), 0.7101)
    assert judgement.reaches(nine(0.70, sd=0.0), 0.705)
    assert not judgement.reaches(nine(0.70, sd=0.0), 0.706)


def test_beating_a_published_figure_needs_one_standard_error():
    assert judgement.against_published(nine(0.72), 0.70) == "beat"
    assert judgement.against_published(nine(0.705), 0.70) == "equal"
    assert judgement.against_published(nine(0.68), 0.70) == "below"


def test_beating_a_baseline_looks_at_paired_differences():
    theirs = Summary.of([0.1, 0.5, 0.9])
    assert judgement.against_baseline([Summary.of([0.12, 0.53, 0.92])], [theirs]) == "beat"  # although sd is .4
    assert judgement.against_baseline([Summary.of([0.4, 0.5, 0.61])], [theirs]) == "equal"
    assert judgement.against_baseline([Summary.of([0.05, 0.45, 0.85])], [theirs]) == "below"


def test_the_error_of_an_average_shrinks_with_the_tables():
    mean = judgement.average([nine(0.6), nine(0.8)])
    assert mean.mean == pytest.approx(0.7)
    assert mean.se == pytest.approx((0.01**2 + 0.01**2) ** 0.5 / 2)
