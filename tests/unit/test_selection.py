"""The best set: chosen on validation rows, over all its seeds, never by its test value."""

import resource

import pytest

from pipeline.sweeps.outcome import write_table
from pipeline.sweeps.selection import best_trial, metrics_of, row_of_epoch, score_of, selected


def row(index, seed, validation, test, status="finished", nodes=10, fraction=0.1):
    return {
        "trial": f"t{index}-{seed}-{fraction}",
        "status": status,
        "data": "d",
        "labelled_fraction": fraction,
        "seed": seed,
        "set": index,
        "nodes": nodes,
        "accuracy": test,
        "validation_accuracy": validation,
    }


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "trials.csv"
    write_table(path, [{"a": 1}, {"b": "x,y"}])
    assert path.read_bytes() == b'a,b\r\n1,\r\n,"x,y"\r\n'
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="trials.csv"):
            write_table(path, [row(index, 0, 0.5, 0.5) for index in range(9)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes().endswith(b'"x,y"\r\n') and list(tmp_path.iterdir()) == [path]


def test_the_mean_over_the_seeds_chooses_and_the_test_value_is_told():
    rows = [row(0, 0, 0.9, 0.1), row(0, 1, 0.5, 0.1), row(1, 0, 0.8, 0.6), row(1, 1, 0.8, 0.4)]
    (chosen,) = selected(rows, "accuracy")
    assert (chosen["set"], chosen["chosen_by"], chosen["of"]) == (1, "validation_accuracy", 2)
    assert chosen["mean"] == pytest.approx(0.5) and chosen["sd"] == pytest.approx(0.02**0.5)
    best = best_trial(rows, "accuracy")
    assert best is not None and best["trial"] == "t0-0-0.1" and best["accuracy"] == 0.1


def test_each_fraction_has_its_own_choice():
    rows = [row(0, 0, 0.9, 0.7), row(1, 0, 0.8, 0.9)]
    rows += [row(0, 0, 0.6, 0.5, fraction=1.0), row(1, 0, 0.7, 0.6, fraction=1.0)]
    assert [(c["labelled_fraction"], c["set"]) for c in selected(rows, "accuracy")] == [(0.1, 0), (1.0, 1)]


@pytest.mark.parametrize(("nodes", "index"), [((20, 10), 1), ((10, 20), 0), ((10, 10), 0)])
def test_ties_go_to_the_smaller_map_then_to_the_lower_number(nodes, index):
    rows = [row(i, 0, 0.9, 0.5 - i / 10, nodes=n) for i, n in reversed([*enumerate(nodes)])]
    assert selected(rows, "accuracy")[0]["set"] == index
    assert best_trial(rows, "accuracy")["trial"] == f"t{index}-0-0.1"


@pytest.mark.parametrize("validation, status", [(None, "finished"), (0.99, "failed"), (0.99, "stopped")])
def test_a_set_that_cannot_be_compared_is_not_chosen(validation, status):
    rows = [row(0, 0, 0.5, 0.5), row(0, 1, 0.5, 0.5), row(1, 0, 0.99, 0.9), row(1, 1, validation, 0.9, status)]
    assert selected(rows, "accuracy")[0]["set"] == 0
    assert selected([row(0, 0, 0.5, 0.5, fraction=1.0), *rows[2:]], "accuracy")[0]["labelled_fraction"] == 1.0


def test_the_only_set_needs_no_validation():
    rows = [row(0, 0, None, 0.9), row(0, 1, None, 0.7), row(0, 0, None, 0.8, "failed", fraction=0.5)]
    (chosen,) = selected(rows, "accuracy")
    assert (chosen["mean"], chosen["score"], chosen["of"]) == (pytest.approx(0.8), None, 1)
    assert best_trial(rows, "accuracy") is None


def test_models_are_judged_by_what_they_give():
    assert metrics_of("sssom", 3)[:2] == ("accuracy", "balanced_accuracy")
    assert metrics_of("kohonen", 3)[0] == "clustering_accuracy" and "accuracy" not in metrics_of("kohonen", 3)
    assert metrics_of("sssom", 0) == ("quantization_error",)


@pytest.mark.parametrize("chooser", ["validation_quantization_error", "training_quantization_error"])
def test_without_classes_test_rows_choose_nothing(chooser):
    metric = "quantization_error"
    rows = [{**row(i, 0, None, None), chooser: e, metric: 1 - e} for i, e in enumerate([0.3, 0.2])]
    (chosen,) = selected(rows, metric)
    assert (chosen["set"], chosen["chosen_by"]) == (1, chooser)
    assert (chosen["score"], chosen["mean"]) == (0.2, 0.8), "the score chooses, the test value is told"
    best = best_trial(rows, metric)
    assert best is not None and (best["trial"], best["chosen_by"]) == ("t1-0-0.1", chooser)
    blind = [{**row(i, 0, None, None), metric: 0.1 * i} for i in range(2)]
    assert selected(blind, metric) == [] and best_trial(blind, metric) is None


def test_validation_rows_choose_before_training_rows():
    row_ = {"validation_quantization_error": 0.5, "training_quantization_error": 0.1}
    assert score_of(row_, "quantization_error") == -0.5


def test_the_error_that_an_epoch_tells_is_that_of_its_training():
    assert score_of(row_of_epoch({"quantization_error": 0.3}), "quantization_error") == -0.3
    assert score_of(row_of_epoch({"quantization_error": 0.3, "validation_accuracy": 0.7}), "accuracy") == 0.7


def test_each_fold_chooses_by_its_own_rows_and_the_mean_is_over_folds():
    rows = []
    for fold, best in (("f1", 0), ("f2", 1), ("f3", 1)):
        for index in (0, 1):
            validation, test = (0.9, 0.6 + 0.1 * best) if index == best else (0.5, 1.0)
            trial = {**row(index, 0, validation, test), "fold": fold}
            rows.append({**trial, "trial": f"{fold}-{trial['trial']}"})
    (chosen,) = selected(rows, "accuracy")
    assert (chosen["set"], chosen["folds"], chosen["seeds"], chosen["of"]) == (None, 3, 1, 2)
    assert chosen["tests"] == pytest.approx([0.6, 0.7, 0.7])
    assert chosen["mean"] == pytest.approx(2 / 3) and chosen["sd"] == pytest.approx(0.1 / 3**0.5)
    assert chosen["trials"] == ["f1-t0-0-0.1", "f2-t1-0-0.1", "f3-t1-0-0.1"]
    unfinished = [{**r, "status": "failed"} if r["fold"] == "f2" else r for r in rows]
    assert selected(unfinished, "accuracy") == []


def test_the_test_value_of_a_fold_is_the_mean_over_its_seeds():
    tests = {("f1", 0): 0.2, ("f1", 1): 0.4, ("f2", 0): 0.6, ("f2", 1): 1.0}
    rows = [{**row(0, seed, 0.5, test), "fold": fold} for (fold, seed), test in tests.items()]
    (chosen,) = selected(rows, "accuracy")
    assert chosen["tests"] == pytest.approx([0.3, 0.8]) and (chosen["seeds"], chosen["folds"]) == (2, 2)


def test_the_best_trial_says_which_of_its_own_scores_it_was_chosen_by():
    metric = "quantization_error"
    rows = [
        {**row(0, 0, None, None), f"training_{metric}": 0.5},
        {**row(1, 0, None, None), f"validation_{metric}": 0.1},
    ]
    assert [best_trial(part, metric)["chosen_by"] for part in (rows, rows[:1])] == [
        f"validation_{metric}",
        f"training_{metric}",
    ]
