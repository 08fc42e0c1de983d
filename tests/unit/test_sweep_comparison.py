"""Two sweeps compared: the same rows are paired, the tests are those of the textbook."""

import json
from pathlib import Path

import mlflow
import pytest

from pipeline.errors import UserError
from pipeline.sweeps.comparison import compare_sweeps, holm
from pipeline.sweeps.outcome import write_table
from pipeline.tracking.result_rows import read_trials
from pipeline.tracking.results import sweep_rows

FIRST = {0: 0.80, 1: 0.82, 2: 0.78, 3: 0.90, 4: 0.85}
SECOND = {0: 0.84, 1: 0.83, 2: 0.80, 3: 0.91, 4: 0.91}


def sweep_folder(folder, tests, fraction=0.1, data="d"):
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "trial": f"{data}-{fraction}-{seed}-{index}", "status": "finished", "data": data, "seed": seed,
            "labelled_fraction": fraction, "set": index, "nodes": 5, "accuracy": test if index == 0 else 0.99,
            "validation_accuracy": 0.9 - 0.1 * index,
        }
        for seed, test in tests.items()
        for index in (0, 1)
    ]  # fmt: skip
    write_table(folder / "trials.csv", rows)
    return str(folder)


def test_the_chosen_trials_are_paired_by_seed(tmp_path):
    names = (sweep_folder(tmp_path / "a", FIRST), sweep_folder(tmp_path / "b", SECOND | {9: 0.1}))
    (row,) = compare_sweeps(names, "accuracy", "x", None)
    assert (row["data"], row["labelled_fraction"], row["pairs"]) == ("d", 0.1, 5)
    gaps = [SECOND[seed] - FIRST[seed] for seed in FIRST]
    assert row["difference"] == pytest.approx(sum(gaps) / 5) and row["first"] == pytest.approx(0.83)
    mean, sd = 0.028, (sum((gap - 0.028) ** 2 for gap in gaps) / 4) ** 0.5
    assert row["sd"] == pytest.approx(sd)
    assert row["t_p"] == pytest.approx(_two_sided(mean / (sd / 5**0.5), 4))
    assert row["wilcoxon_p"] == pytest.approx(2 / 2**5), "all five of one sign: 2 of 32 cases"


def _two_sided(t, freedom):
    from scipy import stats

    return 2 * stats.t.sf(abs(t), freedom)


def test_equal_sweeps_have_no_p_value(tmp_path):
    name = sweep_folder(tmp_path / "a", FIRST)
    (row,) = compare_sweeps((name, name), "accuracy", "x", None)
    assert row["difference"] == 0 and row["t_p"] is None and row["wilcoxon_p"] is None


def test_the_same_difference_in_every_seed_has_no_p_value(tmp_path):
    counts = {0: 311, 1: 325, 2: 331, 3: 340}
    shifted = [{seed: (n + more) / 359 for seed, n in counts.items()} for more in (0, 1)]
    names = [sweep_folder(tmp_path / name, tests) for name, tests in zip("ab", shifted, strict=True)]
    (row,) = compare_sweeps(tuple(names), "accuracy", "x", None)
    assert row["difference"] == pytest.approx(1 / 359) and row["t_p"] is None and row["wilcoxon_p"] is None


def test_equal_differences_share_their_rank(tmp_path):
    from scipy import stats

    gaps = (1, 1, -1, 2, 3)
    counts = dict(enumerate((347, 344, 333, 311, 320)))
    second = {seed: (n + gaps[seed]) / 359 for seed, n in counts.items()}
    first = {seed: n / 359 for seed, n in counts.items()}
    names = (sweep_folder(tmp_path / "a", first), sweep_folder(tmp_path / "b", second))
    (row,) = compare_sweeps(names, "accuracy", "x", None)
    assert row["wilcoxon_p"] == pytest.approx(stats.wilcoxon(gaps).pvalue)


def test_scores_of_training_rows_are_said_to_be_that(tmp_path):
    names = [sweep_folder(tmp_path / name, tests) for name, tests in (("a", FIRST), ("b", SECOND))]
    said: list[str] = []
    for split, lines in (("test", []), ("train", ["Compared on training rows, having no test split: 'd'."])):
        for name in names:
            table = Path(name) / "trials.csv"
            write_table(table, [{**row, "split": split} for row in read_trials(table)])
        compare_sweeps(tuple(names), "accuracy", "x", None, said.append)
        assert said == lines


@pytest.mark.parametrize("num_data", [1, 3])
def test_all_together_are_a_pair_for_each_data_set(tmp_path, num_data):
    names = []
    for name, shift in (("a", 0.0), ("b", 0.02)):
        rows = []
        for data in "xyz"[:num_data]:
            for fraction in (0.1, 1.0):
                tests = {seed: test + shift * seed * (data == "x") for seed, test in FIRST.items()}
                sweep_folder(tmp_path / name, tests, fraction, data)
                rows += read_trials(tmp_path / name / "trials.csv")
        write_table(tmp_path / name / "trials.csv", rows)
        names.append(str(tmp_path / name))
    *rows, together = compare_sweeps(tuple(names), "accuracy", "x", None)
    assert len(rows) == 2 * num_data and together["data"] == "all"
    assert together["pairs"] == num_data, "fractions of one data set share its rows"
    assert together["difference"] == pytest.approx(0.04 / num_data)
    for row in rows:  # adjusted for two: the other data sets have no spread to judge by
        assert row["holm_p"] == (pytest.approx(2 * row["t_p"]) if row["data"] == "x" else None)
    assert together["holm_p"] is None


def test_each_fold_and_seed_is_a_pair(tmp_path):
    first = {("one", 0): 0.5, ("one", 1): 0.6, ("two", 0): 0.7, ("two", 1): 0.9}
    for name, gap in (("a", 0.0), ("b", 0.1)):
        (tmp_path / name).mkdir()
        about = {"status": "finished", "data": "d", "labelled_fraction": 1.0, "set": 0, "validation_accuracy": 0.5}
        rows = [
            {**about, "trial": f"{fold}-{seed}", "fold": fold, "seed": seed, "accuracy": test + gap * seed}
            for (fold, seed), test in first.items()
        ]
        write_table(tmp_path / name / "trials.csv", rows)
    (row,) = compare_sweeps((str(tmp_path / "a"), str(tmp_path / "b")), "accuracy", "x", None)
    assert (row["pairs"], row["first"], row["difference"]) == (4, pytest.approx(0.675), pytest.approx(0.05))


def test_what_cannot_be_compared(tmp_path, tracking_uri):
    a, b = sweep_folder(tmp_path / "a", FIRST), sweep_folder(tmp_path / "b", SECOND, fraction=0.5)
    with pytest.raises(UserError, match="must share a data set, labelled fraction, fold and seed. .*d 0.1 seed 0"):
        compare_sweeps((a, b), "accuracy", "x", None)
    with pytest.raises(UserError, match="two sweeps that chose sets by validation_nmi"):
        compare_sweeps((a, a), "nmi", "x", None)
    with pytest.raises(UserError, match="--experiment must be the name of an experiment"):
        compare_sweeps((a, "nobody"), "accuracy", "x", tracking_uri)


@pytest.mark.parametrize("content", ["{", '{"definition": {}}'])
def test_the_tables_are_enough_to_compare_sweeps(tmp_path, content):
    names = (sweep_folder(tmp_path / "a", FIRST), sweep_folder(tmp_path / "b", SECOND))
    (tmp_path / "a" / "sweep.json").write_text(content)
    assert compare_sweeps(names, "accuracy", "x", None)[0]["pairs"] == 5


def test_other_data_under_the_same_name_are_not_paired(tmp_path):
    names = [sweep_folder(tmp_path / name, tests) for name, tests in (("a", FIRST), ("b", SECOND))]
    for folder, digest in zip(names, ("c0ffee", "c0ffee"), strict=True):
        (Path(folder) / "sweep.json").write_text(json.dumps({"definition": {"data": {"d": digest}}}))
    said: list[str] = []
    assert compare_sweeps(tuple(names), "accuracy", "x", None, said.append)[0]["pairs"] == 5 and not said
    (tmp_path / "b" / "sweep.json").write_text(json.dumps({"definition": {"data": {"d": "other"}}}))
    told = "Other data under the same name, so not paired .their manifests differ.: 'd'."
    with pytest.raises(UserError, match=f"must share a data set.* {told}$"):
        compare_sweeps(tuple(names), "accuracy", "x", None)
    for folder, tests in zip(names, (FIRST, SECOND), strict=True):
        rows = read_trials(Path(folder) / "trials.csv")
        sweep_folder(Path(folder), tests, data="e")
        write_table(Path(folder) / "trials.csv", rows + read_trials(Path(folder) / "trials.csv"))
    (row,) = compare_sweeps(tuple(names), "accuracy", "x", None, said.append)
    assert row["data"] == "e" and len(said) == 1 and said[0].startswith("Other data under the same name")


def record(uri, trials, seeds, name="unfinished"):
    """A sweep in MLflow as far as it went: trials by (fold, seed, set, accuracy, validation accuracy)."""
    client = mlflow.MlflowClient(uri)
    place = client.create_experiment("x")
    parent = client.create_run(place, tags={"kind": "sweep", "sweep": name})
    client.log_param(parent.info.run_id, "seeds", seeds)
    for fold, seed, index, accuracy, validation in trials:
        tags = {"kind": "trial", "sweep": name, "trial": f"d-{fold}-{seed}-{index}", "data": "d", "set": str(index)}
        tags |= {"labelled_fraction": "0.1"} | ({"fold": fold, "folds": "2"} if fold else {})
        run = client.create_run(place, tags=tags)
        client.log_param(run.info.run_id, "train.seed", seed)
        client.log_metric(run.info.run_id, "accuracy", accuracy)
        client.log_metric(run.info.run_id, "validation_accuracy", validation)
        client.set_terminated(run.info.run_id)
    return name


def test_a_set_that_lacks_a_seed_is_not_chosen_by_what_mlflow_has_of_it(tmp_path, tracking_uri):
    trials = [("", 0, 0, 0.81, 0.9), ("", 1, 0, 0.83, 0.9), ("", 0, 1, 0.99, 0.95)]
    name = record(tracking_uri, trials, "0,1")
    (row,) = compare_sweeps((sweep_folder(tmp_path / "a", FIRST), name), "accuracy", "x", tracking_uri)
    assert row["pairs"] == 2 and row["second"] == pytest.approx(0.82)


def test_trials_in_mlflow_are_of_the_set_and_have_the_status_that_it_has_of_them(tracking_uri):
    name = record(tracking_uri, [("a", 7, 3, 0.8, 0.9), ("a", 8, 12, 0.7, 0.6)], "")
    client = mlflow.MlflowClient(tracking_uri)
    (killed,) = client.search_runs([client.get_experiment_by_name("x").experiment_id], "tags.`set` = '12'")
    client.set_terminated(killed.info.run_id, "KILLED")
    rows = sorted(sweep_rows(name, "x", tracking_uri)[:2], key=lambda row: row["set"])
    told = [(row["fold"], row["seed"], row["set"], row["status"], row["accuracy"]) for row in rows]
    assert told == [("a", 7, 3, "finished", 0.8), ("a", 8, 12, "killed", 0.7)]


@pytest.mark.parametrize("trials", [[("", 0, 0, 0.8, 0.9)], [("a", 0, 0, 0.8, 0.9), ("a", 1, 0, 0.8, 0.9)]])
def test_nothing_is_chosen_of_a_sweep_that_lacks_a_seed_or_a_fold_of_every_set(tmp_path, tracking_uri, trials):
    names = (sweep_folder(tmp_path / "a", FIRST), record(tracking_uri, trials, "0,1"))
    with pytest.raises(UserError, match="two sweeps that chose sets by validation_accuracy .* Got 'unfinished'"):
        compare_sweeps(names, "accuracy", "x", tracking_uri)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
