"""A sitting of a sweep without its processes: what is left to do, what Optuna proposes, how the record ends."""

import shutil
from types import SimpleNamespace

import mlflow
import optuna
import pytest

from pipeline.errors import MachineError, UserError
from pipeline.sweeps import outcome, portions, progress
from pipeline.sweeps import sweep as module
from pipeline.sweeps.folder import TRIALS
from pipeline.sweeps.outcome import in_one_line, page, summarise
from pipeline.sweeps.plan import SweepOptions
from pipeline.sweeps.planning import make_plan
from pipeline.sweeps.portions import Listed, Optuna
from pipeline.sweeps.published_spaces import Column
from pipeline.sweeps.record import Recorder, kept_place
from pipeline.sweeps.sweep import _Sitting
from pipeline.sweeps.trials import TrialDirectory
from pipeline.tracking.journal import Journal

SPACE = "map.bmu_rate: {low: 0.01, high: 0.2, log: true}\n"


def sitting(data, folder, resume=False, say=lambda line: None, uri="none", **asked):
    plan = make_plan(SweepOptions(data=[str(data)], model="sssom", **asked), folder, resume)
    recorder = Recorder(plan, uri, "x", say, resume)
    return _Sitting(plan, recorder, None, say, lambda *_: None)


@pytest.fixture
def space(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    return str(tmp_path / "space.yaml")


def note(plan, trial, status, **content):
    record = {"trial": trial.key, "index": trial.index, "values": trial.values, "status": status, **content}
    TrialDirectory(plan.folder / TRIALS / trial.key).write(**record)


@pytest.mark.parametrize("search", ["lhs", "optuna"])
def test_what_failed_is_left_to_do_but_not_what_has_collapsed(digits, tmp_path, space, search):
    plan = sitting(digits, tmp_path / "out", space=space, samples=3, search=search).plan
    errors = ("OSError: it was away", "Collapsed: in round 3", None)
    for index, error in enumerate(errors):
        for trial in plan.trials_of(index, plan.space.drawn(index, "lhs")):
            note(plan, trial, "failed" if error else "finished", error=error, summary={"validation_accuracy": 0.5})
    again = sitting(digits, tmp_path / "out", resume=True)
    again._look_around()
    assert sorted(again.status.values()) == ["failed", "finished"] and again.progress.done == 2
    assert {trial.index for key, trial in again.trials.items() if key not in again.status} == {0}
    if search == "optuna":
        assert [trial.index for trial in again.source.next()] == [0] and again.source.next() is None
    result = again._result()
    assert (result["failed"], result["to_retry"], result["finished"]) == (2, 1, 1)


def test_a_sweep_that_goes_on_can_choose_by_another_metric(digits, tmp_path, space):
    plan = sitting(digits, tmp_path / "out", space=space, samples=2).plan
    assert plan.definition["metric"] == "accuracy"
    for index, (plain, balanced) in enumerate([(0.9, 0.5), (0.8, 0.7)]):
        (trial,) = plan.trials_of(index, plan.space.drawn(index, "lhs"))
        scores = {"validation_accuracy": plain, "validation_balanced_accuracy": balanced, "balanced_accuracy": 0.6}
        note(plan, trial, "finished", summary=scores)
    again = sitting(digits, tmp_path / "out", resume=True, metric="balanced_accuracy")
    again._look_around()
    (choice,) = again._result()["selected"]
    assert (choice["set"], choice["chosen_by"]) == (1, "validation_balanced_accuracy")
    assert (choice["metric"], choice["mean"]) == ("balanced_accuracy", 0.6)
    assert sitting(digits, tmp_path / "out", resume=True).plan.definition["metric"] == "balanced_accuracy"


def test_a_metric_that_finished_trials_do_not_have_cannot_choose_among_them(digits, tmp_path, space):
    plan = sitting(digits, tmp_path / "out", space=space, samples=2).plan
    known = (tmp_path / "out" / "sweep.json").read_text()
    first, second = (plan.trials_of(index, plan.space.drawn(index, "lhs"))[0] for index in (0, 1))
    note(plan, first, "finished", summary={"validation_accuracy": 0.9})
    wanted = f"--metric must be accuracy, or .*Got 'nmi'. Trial {first.key} has no validation_nmi."
    with pytest.raises(UserError, match=wanted):
        sitting(digits, tmp_path / "out", resume=True, metric="nmi")
    assert (tmp_path / "out" / "sweep.json").read_text() == known
    (tmp_path / "out" / "sweep.json").write_text(known.replace('"metric"', '"none"'))  # of a time without the option
    with pytest.raises(UserError, match=wanted):
        sitting(digits, tmp_path / "out", resume=True, metric="nmi")
    note(plan, first, "finished", summary={"validation_accuracy": 0.9, "validation_nmi": 0.7})
    note(plan, second, "finished", summary={})  # no row could be withheld: no metric is the reason
    assert sitting(digits, tmp_path / "out", resume=True, metric="nmi").metric == "nmi"


def test_a_sweep_goes_on_with_the_workers_it_had(digits, tmp_path):
    asked = SweepOptions(data=[str(digits)], model="sssom")
    assert make_plan(asked, tmp_path, resume=False, workers=2).workers == 2
    assert make_plan(SweepOptions(), tmp_path, resume=True).workers == 2
    assert make_plan(SweepOptions(), tmp_path, resume=True, workers=0).workers == 0
    assert make_plan(SweepOptions(), tmp_path, resume=True).workers == 0
    for wrong in (-1, "2"):
        with pytest.raises(UserError, match=rf"--workers must be an integer >= 0 .*Got {wrong!r}"):
            make_plan(SweepOptions(), tmp_path, resume=True, workers=wrong)


def test_a_trial_is_recorded_with_the_values_it_is_trained_with(digits, tmp_path, space):
    said = []
    asked = SweepOptions(data=[str(digits)], model="sssom", space="sssom", samples=2, settings={"map.epochs": 3})
    plan = make_plan(asked, tmp_path / "out", False, say=said.append)
    assert said == ["Given for all sets, so not searched: epochs."]
    for trial in plan.trials_of(1, plan.sets()[1]):
        assert "epochs" not in trial.values and trial.settings["map.epochs"] == 3
        assert all(trial.settings.get(f"map.{key}", value) == value for key, value in trial.values.items())
    assert make_plan(asked, tmp_path / "out", True).space == plan.space
    assert make_plan(SweepOptions(data=[str(digits)], model="sssom"), tmp_path / "out", True).space == plan.space


def test_the_seed_and_the_share_of_labels_that_a_trial_goes_by_are_those_it_is_trained_with(digits, tmp_path):
    plan = sitting(digits, tmp_path / "out", fractions=[0.1, 0.5], seeds=[0, 3]).plan
    trials = plan.trials_of(0, {})
    assert {(t.labelled_fraction, t.seed) for t in trials} == {(0.1, 0), (0.1, 3), (0.5, 0), (0.5, 3)}
    for t in trials:
        assert (t.settings["train.labelled_fraction"], t.settings["train.seed"]) == (t.labelled_fraction, t.seed)


def proposed(plan, known):
    """What a sitting proposes before any of it ends."""
    source, sets = Optuna(plan, "accuracy", lambda trial: TrialDirectory(plan.folder / TRIALS / trial.key).record,
                          known), {}  # fmt: skip
    while portion := source.next():
        sets[portion[0].index] = portion[0].values
        note(plan, portion[0], "finished", summary={"validation_accuracy": 0.5})
    return sets


def test_a_resumed_sitting_proposes_other_sets_always_the_same(digits, tmp_path, space):
    def resumed(name):
        first = proposed(sitting(digits, tmp_path / name, space=space, samples=3, search="optuna").plan, {})
        return first, proposed(sitting(digits, tmp_path / name, resume=True, samples=6).plan, first)

    first, second = resumed("a")
    assert list(first) == [0, 1, 2] and list(second) == [3, 4, 5]
    rates = [values["map.bmu_rate"] for values in (*first.values(), *second.values())]
    assert len(set(rates)) == 6
    assert resumed("b") == (first, second)
    assert proposed(sitting(digits, tmp_path / "c", space=space, samples=6, search="optuna").plan, {})[0] == first[0]


def test_a_set_whose_process_never_began_is_made_up_for(digits, tmp_path, space):
    plan = sitting(digits, tmp_path / "out", space=space, samples=3, search="optuna").plan
    known = {index: plan.space.drawn(index, "lhs") for index in (0, 2)}
    for index, values in known.items():
        note(plan, plan.trials_of(index, values)[0], "finished", summary={"validation_accuracy": 0.5})
    assert list(proposed(plan, known)) == [1]


def test_optuna_knows_that_more_is_better_and_what_sets_of_earlier_sittings_reached(digits, tmp_path, space):
    asked = {"space": space, "samples": 4, "seeds": [0, 1], "search": "optuna"}
    plan = sitting(digits, tmp_path / "out", **asked).plan
    for index, scores in enumerate([(0.5, 0.7), (0.9, 0.9), (0.95, None)]):  # the last set has no mean
        for trial, score in zip(plan.trials_of(index, plan.space.drawn(index, "lhs")), scores, strict=True):
            note(plan, trial, "finished", summary={"validation_accuracy": score})
    again = sitting(digits, tmp_path / "out", resume=True)
    again._look_around()
    study = again.source._study
    assert [trial.value for trial in study.trials] == pytest.approx([0.6, 0.9]) and study.best_value == 0.9


def test_optuna_draws_inside_of_a_range_and_evenly_by_the_logarithm_where_that_is_asked(digits, tmp_path, space):
    (rate,) = sitting(digits, tmp_path / "out", space=space, search="optuna").plan.space.columns
    assert portions._distribution(optuna, rate).log and rate.kind == "log10"
    whole = portions._distribution(optuna, Column("map.capacity", 1.4, 3.6, "whole"))
    assert (whole.low, whole.high) == (2, 3)


class Race:
    """Trials of a sitting with asha, without their processes: each reports one epoch when it is told to."""

    def __init__(self, now):
        from pipeline.sweeps import tune

        self.now, self.rivals = now, tune.GroupedAsha(now.name)
        now._look_around()
        if not now.plan.learns:
            now.source = Listed(list(now.trials.values()), 1)
        self.processes = {}

    def begin(self):
        while config := self.now.suggest(name := f"process-{len(self.processes)}"):
            (content,) = config["trials"]
            self.processes[content["key"]] = SimpleNamespace(trial_id=name, config=config)
            self.rivals.on_trial_add(None, self.processes[content["key"]])
        return self

    def report(self, key, score):
        process, result = self.processes[key], {"epochs": 3, "score": score}
        if self.rivals.on_trial_result(None, process, result) == self.rivals.STOP:
            self.rivals.on_trial_complete(None, process, result)
            self.now.portion_ended(process.trial_id, result, False)
        return self.now.status.get(key)


@pytest.fixture
def race(digits, tmp_path, space, monkeypatch):
    from pipeline.sweeps import tune

    def begun(folder="out", data=digits, **asked):
        now = sitting(data, tmp_path / folder, **{"space": space, "scheduler": "asha", **asked})
        monkeypatch.setitem(tune._SITTINGS, now.name, now)
        return Race(now).begin()

    return begun


@pytest.mark.parametrize("search", ["lhs", "optuna"])
def test_asha_compares_trials_of_the_same_data_fraction_and_seed(race, digits, search):
    run = race(samples=2, fractions=[1.0, 0.01], seeds=[0, 1], search=search)
    easy = {key: 0.9 - 0.5 * (trial.labelled_fraction < 1) - 0.1 * trial.seed for key, trial in run.now.trials.items()}
    assert len(easy) == 8
    lag = {key for key, trial in run.now.trials.items() if trial.index == 1 and trial.labelled_fraction == 1}
    told = {key: run.report(key, score - 0.01 * (key in lag)) for key, score in easy.items()}
    assert {key for key, status in told.items() if status == "stopped"} == lag


def test_asha_compares_trials_of_the_same_fold(race, digits, tmp_path):
    for fold in ("easy", "hard"):
        shutil.copytree(digits, tmp_path / "folds" / fold)
    run = race(data=tmp_path / "folds", samples=2)
    scores = {key: 0.9 - 0.5 * (t.fold == "hard") - 0.01 * t.index for key, t in run.now.trials.items()}
    told = {key: run.report(key, score) for key, score in scores.items()}
    assert {key for key, status in told.items() if status == "stopped"} == {
        key for key, t in run.now.trials.items() if t.index == 1
    }


def test_asha_leaves_a_set_that_no_seed_has_lost(race):
    run = race(samples=2, seeds=[0, 1])
    first, second = ([k for k, t in run.now.trials.items() if t.seed == seed] for seed in (0, 1))
    assert [run.report(first[0], 0.9), run.report(first[1], 0.8)] == [None, "stopped"]
    assert [run.report(second[1], 0.9), run.report(second[0], 0.8)] == [None, None]
    run = race(resume=True)  # what an earlier sitting has lost stays lost
    note(run.now.plan, run.now.trials[first[1]], "stopped")
    run = race(resume=True)
    assert [run.report(second[1], 0.9), run.report(second[0], 0.8)] == [None, None]


def test_optuna_hears_of_a_set_when_its_last_trial_has_ended(digits, tmp_path, space):
    now = sitting(digits, tmp_path / "out", space=space, samples=2, seeds=[0, 1], search="optuna", scheduler="asha")
    now._look_around()
    begun = [now.source.next() for _ in range(4)]
    assert [(t.index, t.seed) for (t,) in begun] == [(0, 0), (0, 1), (1, 0), (1, 1)] and now.source.next() is None
    for count, portion in enumerate(begun[:2]):
        assert len(now.source._study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) == 0, count
        note(now.plan, portion[0], "finished", summary={"validation_accuracy": 0.5 + 0.2 * portion[0].seed})
        now.source.ended(portion)
    (told,) = now.source._study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert told.value == pytest.approx(0.6)
    again = sitting(digits, tmp_path / "out", resume=True)
    note(now.plan, begun[2][0], "finished", summary={"validation_accuracy": 0.4})
    again._look_around()
    assert [(t.index, t.seed) for (t,) in [again.source.next()]] == [(1, 1)] and again.source.next() is None


def ended(folder):
    return [line["status"] for line in Journal(folder).lines() if line["kind"] == "end"]


def finished(digits, folder, **options):
    now = sitting(digits, folder, **options)
    for trial in now.plan.trials_of(0, {}):
        note(now.plan, trial, "finished", summary={"validation_accuracy": 0.5, "accuracy": 0.4, "nodes": 3})
    return now


def tracked(digits, folder, uri, store):
    """The result of a sitting that finds all trials done, and what MLflow has of the sweep: parent, children."""
    result = sitting(digits, folder, resume=True, uri=uri).run(None, None)
    client = mlflow.MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name("x").experiment_id])
    (parent,) = (run for run in runs if run.data.tags["kind"] == "sweep")
    return result, parent, [run for run in runs if run.data.tags["kind"] == "trial"]


def test_a_finished_sweep_that_goes_on_with_another_store_is_recorded_there_with_its_trials(
    digits, tmp_path, migrated_store, monkeypatch
):
    for name in "ab":
        (tmp_path / name).mkdir()
        shutil.copy(migrated_store, tmp_path / name / "m.db")
    a, b = (f"sqlite:///{tmp_path / name / 'm.db'}" for name in "ab")
    out = tmp_path / "out"
    plan = finished(digits, out, seeds=[0, 1]).plan
    for trial in plan.trials_of(0, {}):
        journal = Journal(out / TRIALS / trial.key)
        journal.write("start", name=trial.key, params={}, tags={})
        journal.write("end", status="FINISHED", tags={})
    ids = {}
    relative = "sqlite:///m.db"  # of the directory that the first such command ran in
    for folder, uri, store in (("b", a, a), ("a", b, b), ("b", a, a), ("a", relative, a), ("b", relative, a)):
        monkeypatch.chdir(tmp_path / folder)
        next((out / TRIALS).glob("*/tracking.json"), tmp_path / "none").unlink(missing_ok=True)  # sent, but not noted
        result, parent, children = tracked(digits, out, uri, store)
        assert ids.setdefault(store, result["run_id"]) == result["run_id"], (folder, uri)
        assert result["run_id"] == parent.info.run_id and len(children) == 2
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert {row["run_id"] for row in result["rows"]} == {run.info.run_id for run in children}
        assert parent.data.tags["best_run_id"] in {run.info.run_id for run in children}


def test_what_ended_untold_when_time_was_up_is_recorded(digits, tmp_path, tracking_uri, monkeypatch):
    now = sitting(digits, tmp_path / "out", seeds=[0, 1, 2], uri=tracking_uri)
    first, second, _ = now.plan.trials_of(0, {})

    def until_time_was_up(*_):
        for trial in (first, second):
            note(now.plan, trial, "finished", summary={"accuracy": 0.5})
            Journal(now.folder / trial.key).write("start", name=trial.key, params={}, tags={})
            Journal(now.folder / trial.key).write("end", status="FINISHED", tags={})
        now.told({"ended": [first.key]})

    monkeypatch.setattr(now, "_tune", until_time_was_up)
    result = now.run(1.0, None)
    assert (result["finished"], result["waiting"]) == (2, 1)
    assert [bool(row["run_id"]) for row in result["rows"]] == [True, True, False]
    assert now.progress.done == 2


def test_a_search_whose_time_is_up_before_its_first_set_ends_as_any_other(digits, tmp_path, space, monkeypatch):
    now = sitting(digits, tmp_path / "out", space=space, samples=2, search="optuna")
    monkeypatch.setattr(now, "_tune", lambda *_: None)
    result = now.run(1.0, None)
    assert (result["trials"], result["waiting"], result["best"], result["rows"]) == (2, 2, None, [])
    assert ended(tmp_path / "out") == ["FINISHED"]


def test_the_best_of_the_finished_trials_is_told_and_recorded_every_few_seconds(monkeypatch):
    now, told, recorded = [0.0], [], []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    seen = progress.Progress(5, "quantization_error", lambda *line: told.append(line), lambda *n: recorded.append(n))
    seen.known("failed", {"trial": "0"})
    for now[0], status, error in ((1.0, "finished", 0.5), (5.0, "finished", 0.25), (9.0, "stopped", 0.125)):
        seen.ended(status, {"trial": str(now[0]), "training_quantization_error": error, "nodes": 9.0})
    seen.ended("finished", {"trial": "last", "training_quantization_error": 0.25, "nodes": 7.0, "accuracy": 0.75})
    best = "best training_quantization_error"
    assert told == [
        (2, 5, f"1 failed, {best} 0.5 (1.0), last: 9 nodes"),
        (3, 5, f"1 failed, {best} 0.25 (5.0), last: 9 nodes"),
        (4, 5, f"1 failed, 1 stopped, {best} 0.25 (5.0), last: 9 nodes"),
        (5, 5, f"1 failed, 1 stopped, {best} 0.25 (last), last: 7 nodes, accuracy 0.750"),
    ]
    numbers = {"trials_failed": 1, "best_score": 0.25}
    assert recorded == [({"trials_done": 3, **numbers}, 3), ({"trials_done": 5, **numbers}, 5)], "the last one always"


def test_an_epoch_after_which_nothing_is_left_to_stop_is_not_told(monkeypatch):
    from pipeline.sweeps import tune

    told = []
    monkeypatch.setattr(tune.tune, "report", told.append)
    for epoch in (1, 2, 3):
        tune._by_epoch("accuracy")(epoch, 3, {"validation_accuracy": 0.5})
    assert [report["epochs"] for report in told] == [1, 2]


def test_the_error_of_an_epoch_is_a_score_of_which_less_is_better(monkeypatch):
    from pipeline.sweeps import tune

    told = []
    monkeypatch.setattr(tune.tune, "report", told.append)
    tune._by_epoch("quantization_error")(1, 3, {"quantization_error": 0.3})
    assert told == [{"epochs": 1, "training_quantization_error": 0.3, "score": -0.3}]


def no_room(*_):
    raise OSError(28, "No space left on device")


def test_results_that_cannot_be_written_end_the_record_as_failed(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_results", no_room)
    with pytest.raises(OSError, match="No space left"):
        finished(digits, tmp_path / "out").run(None, None)
    assert ended(tmp_path / "out") == ["FAILED"]
    monkeypatch.undo()
    assert sitting(digits, tmp_path / "out", resume=True).run(None, None)["finished"] == 1
    assert ended(tmp_path / "out") == ["FAILED", "FINISHED"] and (tmp_path / "out" / "trials.csv").exists()


def test_an_interruption_stays_one_on_a_full_disk(digits, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    said: list[str] = []
    now = finished(digits, tmp_path / "out", say=said.append)
    monkeypatch.setattr(now.recorder, "ended", interrupted)
    monkeypatch.setattr(outcome, "write_table", no_room)
    with pytest.raises(KeyboardInterrupt, match="1 of 1 trials are done; --resume goes on"):
        now.run(None, None)
    assert ended(tmp_path / "out") == ["KILLED"]
    assert said[-1].endswith("trials.csv could not be written: No space left on device.")


def test_the_closing_line_says_what_resume_does():
    row = {"data": "d", "labelled_fraction": 1.0, "seed": 0, "set": 0, "trial": "t", "status": "failed"}
    for error, again in (("OSError: full", " --resume retries 1."), ("Diverged: ...", "")):
        line = in_one_line({**summarise([{**row, "error": error}], "accuracy", 1), "out": "out"})
        assert line == f"1 trials: 1 failed.{again} Table in out/trials.csv."
    result = {**summarise([{**row, "status": "waiting"}], "accuracy", 3), "out": "out"}
    assert result["waiting"] == 3
    assert in_one_line(result) == "3 trials: 3 waiting. --resume --out out goes on. Table in out/trials.csv."


@pytest.mark.parametrize(("error", "kind"), [("Diverged: round 3.", UserError), ("WorkerLost: rank 1", MachineError)])
def test_a_sweep_of_which_every_trial_failed_ends_as_they_did(digits, tmp_path, error, kind):
    now = sitting(digits, tmp_path / "out", uri=f"sqlite:///{tmp_path / 'nowhere' / 'm.db'}")
    (trial,) = now.plan.trials_of(0, {})
    note(now.plan, trial, "failed", error=error, attempts=2, fixable=kind is UserError, sitting=now.name)
    now._tune = lambda *_: None
    with pytest.raises(kind, match=f"^All 1 trials failed. {error.rstrip('.')}"):
        now.run(None, None)
    assert ended(tmp_path / "out") == ["FAILED"] and (tmp_path / "out" / "trials.csv").exists()


def test_nothing_is_registered_where_trials_have_no_score_that_chooses(tmp_path, monkeypatch, capsys):
    from jobs.sweep import sweep

    row = {"data": "d", "labelled_fraction": 1.0, "seed": 0, "set": 0, "trial": "t", "status": "finished"}
    monkeypatch.setattr(module, "sweep", lambda *_, **__: {**summarise([row], "accuracy", 1), "out": "out"})
    assert "model" not in sweep(tmp_path, model="sssom", register="named")
    told = capsys.readouterr().err
    assert "1 finished" in told and "No finished trial has a score that chooses, so no model" in told


def test_no_model_is_registered_of_a_sweep_that_is_not_recorded(digits, tmp_path):
    from jobs.sweep import sweep

    kept_place(sitting(digits, tmp_path).plan.folder, "none", None)
    with pytest.raises(UserError, match="--register must be used with an MLflow store. Got .* It began so: give"):
        sweep(tmp_path, resume=True, register="named")


def test_a_page_has_a_row_for_each_choice_and_says_what_is_not_known():
    told = {"data": "d", "labelled_fraction": 0.05, "set": 3, "metric": "accuracy", "chosen_by": "validation_accuracy"}
    told |= {"score": 0.81234, "mean": 0.75, "sd": 0.02, "tests": [0.73, 0.77], "of": 9, "split": "test"}
    folds = {**told, "labelled_fraction": 1.0, "set": None, "score": None, "sd": None, "tests": [0.75]}
    title, *_, first, second, third = page("sssom", [told, folds, {**told, "mean": None, "tests": []}]).splitlines()
    assert title == "# sssom: accuracy of the sets chosen by validation_accuracy"
    assert first == "| d | 5 % | 3 | test | 0.7500 ± 0.0200 | 2 | 0.8123 | 9 |"
    assert second == "| d | 100 % | by fold | test | 0.7500 | 1 | – | 9 |"
    assert third == "| d | 5 % | 3 | test | unknown | 0 | 0.8123 | 9 |"
    assert page("sssom", [folds]).startswith("# sssom: accuracy\n"), "of the only set: nothing was chosen"
