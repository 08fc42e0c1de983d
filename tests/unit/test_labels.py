"""Which rows keep their label, which are held out: stratified, seeded, nested."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.prepared.labels import kept_labels, labelled_fraction, split_validation, stratified_rows

LABELS = st.lists(st.integers(-1, 4), min_size=1, max_size=80).map(np.array)
SEEDS = st.integers(0, 3)
SHARES = st.floats(0, 1)
GOLDEN = [9, 16, 17, 26, 27, 34]


@given(LABELS, SHARES, SHARES, SEEDS)
def test_a_smaller_fraction_lies_inside_a_larger_one(labels, a, b, seed):
    small, large = (labelled_fraction(labels, f, seed) for f in sorted((a, b)))
    assert ((small == -1) | (small == large)).all()


@given(LABELS, SHARES, SEEDS)
def test_every_class_keeps_its_share_and_at_least_one(labels, fraction, seed):
    kept = labelled_fraction(labels, fraction, seed)
    assert ((kept == labels) | (kept == -1)).all()
    for label in set(labels.tolist()) - {-1}:
        whole, part = (labels == label).sum(), (kept == label).sum()
        if fraction == 0:
            assert part == 0
        else:
            assert part == max(1, np.floor(fraction * whole + 0.5))


@given(LABELS, st.floats(0, 0.99), SEEDS)
def test_validation_is_disjoint_stratified_and_never_takes_a_last_label(labels, fraction, seed):
    train, validation = split_validation(labels, fraction, seed)
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(len(labels)))
    assert train.dtype == validation.dtype == np.int64
    held = labels[validation]
    if (labels >= 0).any():
        assert (held >= 0).all(), "unlabelled rows stay in training"
        for label in set(labels.tolist()) - {-1}:
            whole, part = (labels == label).sum(), (held == label).sum()
            assert part < whole
            assert part == (0 if fraction == 0 else min(whole - 1, max(1, np.floor(fraction * whole + 0.5))))


@given(LABELS, SHARES, SEEDS)
def test_a_run_reads_what_is_kept_and_not_withheld(labels, fraction, seed):
    kept = labelled_fraction(labels, fraction, seed)
    rows, withheld = split_validation(kept, 0.4, seed)
    read, validation = kept_labels(labels, fraction, 0.4, seed)
    assert (read[rows] == kept[rows]).all() and (read[withheld] == -1).all() and (validation == withheld).all()


@given(LABELS, st.floats(0.01, 0.99), SEEDS)
def test_the_choice_of_one_class_does_not_depend_on_the_others(labels, fraction, seed):
    kept = labelled_fraction(labels, fraction, seed)
    alone = labelled_fraction(np.where(labels == 2, labels, -1), fraction, seed)
    assert ((kept == 2) == (alone == 2)).all()


def test_seeds_and_purposes_choose_differently_and_repeatably():
    labels = np.zeros(1000, dtype=np.int64)
    first, again, other = (labelled_fraction(labels, 0.3, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert 0.6 < (first != other).mean() / (2 * 0.3 * 0.7) < 1.4, "two seeds are independent"
    marks = [stratified_rows(labels, 0.3, 1, purpose) for purpose in ("test", "validation")]
    assert 0.6 < (marks[0] != marks[1]).mean() / (2 * 0.3 * 0.7) < 1.4


def test_the_choice_is_fixed_for_ever():
    """Runs of different releases are comparable only while this holds (see CHANGELOG, Numerics)."""
    labels = np.arange(60) % 3
    assert np.flatnonzero(labelled_fraction(labels, 0.1, 7) >= 0).tolist() == GOLDEN
    tensor = torch.from_numpy(labels)
    assert np.flatnonzero(labelled_fraction(tensor, 0.1, 7) >= 0).tolist() == GOLDEN
    assert (labels == np.arange(60) % 3).all(), "the argument is not changed"


def test_without_any_label_rows_are_held_out_plainly():
    marked = stratified_rows(np.full(50, -1), 0.2, 0, "test")
    assert marked.sum() == 10
    assert stratified_rows(np.full(1, -1), 0.9, 0, "test").sum() == 0, "one sample stays in training"


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [
        ([0, 1], 1.5, r"labelled_fraction must be in \[0, 1\]. Got 1.5"),
        ([0, 1], float("nan"), "labelled_fraction must be in"),
        ([0, -2], 0.5, r"Row 1: labels must be >= -1"),
        ([0.0, 1.0], 0.5, "labels must be a vector of integers. Got 'float64"),
        ([[0, 1]], 0.5, "labels must be a vector of integers"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(labels, fraction, message):
    with pytest.raises(UserError, match=message):
        labelled_fraction(np.array(labels), fraction, 0)
    if not fraction <= 1:
        with pytest.raises(UserError, match=r"validation_fraction must be in \[0, 1\)"):
            split_validation(np.array(labels), fraction, 0)
