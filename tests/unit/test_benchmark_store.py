"""The store of finished work: whole lines, nothing lost, nothing mixed."""

import pytest

from pipeline.benchmarks.uci.store import Cell, Store
from pipeline.errors import UserError

CELL = Cell("test", "glass", "label-propagation", 5)
ROW = {"set": 3, "repetition": 1, "fold": 2, "accuracy": {"": 0.5}, "nodes": 0, "seconds": 0.1}


def test_rows_come_back(tmp_path):
    store = Store.open(tmp_path / "s", {"seed": 0})
    store.append(CELL, [ROW, {**ROW, "fold": 3}])
    again = Store.open(tmp_path / "s", {"seed": 0})
    assert again.rows(CELL) == [ROW, {**ROW, "fold": 3}]
    assert again.has(CELL, 3, 1, 2) and not again.has(CELL, 3, 1, 1)
    assert list(again.cells()) == [CELL]


def test_a_line_cut_by_a_kill_is_dropped_and_work_goes_on(tmp_path):
    store = Store.open(tmp_path, {})
    store.append(CELL, [ROW])
    with (tmp_path / CELL.path).open("a") as file:
        file.write('{"set":4,"repet')
    store = Store.open(tmp_path, {})
    assert store.rows(CELL) == [ROW]
    store.append(CELL, [{**ROW, "set": 4}])
    assert [row["set"] for row in Store.open(tmp_path, {}).rows(CELL)] == [3, 4]


def test_work_of_another_design_is_refused(tmp_path):
    Store.open(tmp_path, {"seed": 0})
    with pytest.raises(UserError, match="design.json"):
        Store.open(tmp_path, {"seed": 1})
