"""Statistics are a commutative monoid: whoever adds them, in whatever order, gets the same integers."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from somcore import BatchStatistics, advance, empty_statistics
from tests.laws.cases import Case, cases
from tests.side_by_side import SCALE


@given(cases(), st.data())
def test_merge_is_commutative_and_associative(case: Case, data):
    first, second = sorted(data.draw(st.tuples(*[st.integers(0, len(case))] * 2)))
    a, b, c = (case.statistics(rows) for rows in (slice(0, first), slice(first, second), slice(second, None)))
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(cases())
def test_merge_has_an_identity(case: Case):
    nothing, whole = empty_statistics(case.state, case.config, SCALE), case.statistics()
    assert nothing.merge(whole) == whole == whole.merge(nothing)
    assert nothing.merge(nothing) == nothing == case.statistics(slice(0, 0))


@given(cases(), st.data())
def test_union_is_the_merge_of_its_parts(case: Case, data):
    shard = data.draw(st.lists(st.integers(0, 2), min_size=len(case), max_size=len(case)).map(np.array))
    parts = [case.statistics(np.flatnonzero(shard == s)) for s in range(3)]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    assert merged == case.statistics()
    ours, whole = (advance(case.state, s, case.config).digest() for s in (merged, case.statistics()))
    assert ours == whole


@given(cases(), st.data())
def test_permuting_rows_with_their_positions_changes_nothing(case: Case, data):
    order = np.array(data.draw(st.permutations(range(len(case)))))
    assert case.statistics(order) == case.statistics()


@given(cases(max_weight=1, variants=("sssom", "altsssom"), missing=False))
def test_statistics_notice_a_lost_sample(case: Case):
    """Equality of statistics is not vacuous."""
    assert case.statistics() != case.statistics(slice(1, None))


@given(cases(), st.data())
def test_sums_and_rows_on_the_wire_in_any_row_order(case: Case, data):
    cut = data.draw(st.integers(0, len(case)))
    a, b = case.statistics(slice(0, cut)), case.statistics(slice(cut, None))
    sums = {name: value + b.wire_sums()[name] for name, value in a.wire_sums().items()}
    rows = torch.cat([a.packed_rows(), b.packed_rows()])
    rows = rows[torch.tensor(data.draw(st.permutations(range(len(rows)))), dtype=torch.int64)]
    template = empty_statistics(case.state, case.config, SCALE)
    assert BatchStatistics.joined(template, sums, rows) == case.statistics()
