"""Cells that are kept, tables and tests of significance, transfer of features, the fixed lattice of deep runs."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import ttest_rel
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torchvision import models

from jobs.compare import MODELS as COMPARED
from pipeline.baselines import spreading_accuracy
from pipeline.comparison import cells, measures
from pipeline.comparison.contestants import NAMES, contestants
from pipeline.comparison.measures import cluster_measures, labelled_rows, linear_accuracy, num_parameters, probes
from pipeline.comparison.page import Page, _difference, _text
from pipeline.comparison.run import Wish, compare
from pipeline.comparison.tables import Difference, Spread, differences, holm, ordered, paired_p, tabulated
from pipeline.deep.config import LATTICE_DEFAULTS
from pipeline.errors import UserError
from pipeline.places import alone_in
from pipeline.prepare import prepare
from pipeline.prepared.labels import kept_labels, labelled_fraction
from pipeline.prepared.manifest import Manifest
from pipeline.prepared.shards import Dataset
from pipeline.serving import features
from pipeline.serving.features import write_features
from pipeline.serving.trained import Trained
from pipeline.sources import SourceOptions, open_source
from pipeline.training.trainer import train
from somcore import MapConfig, accumulate, advance, initial_state
from somcore.fixed_point import fixed_point_scale
from tests.training import REPOSITORY, small, table

WISH = {
    "unlabelled": None,
    "own": [],
    "fractions": [0.2],
    "seeds": [0],
    "rows": 300,
    "reference": None,
    "minutes": None,
    "concurrent": 1,
    "command": "it",
}
COMMON = {"tracking.uri": "none", "map.epochs": 1, "encoder.width": 4, "encoder.dim": 6, "deep.rate_warmup_rounds": 1}


def wish(**changes):
    return Wish(**{**WISH, **changes})


def test_a_comparison_keeps_its_cells_and_says_what_is_missing(digits, tmp_path):
    lines = []
    asked = wish(models=["kmeans", "label-spreading"], concurrent=2)
    nothing = compare(digits, tmp_path, COMMON, wish(models=asked.models, minutes=0.0), lines.append)
    assert nothing["missing"] == ["kmeans-0-0", "label-spreading-0.2-0"] and lines == []
    assert "Not run yet (2 cells)" in nothing["markdown"].read_text()
    found = compare(digits, tmp_path, COMMON, asked, lines.append)
    assert found["missing"] == [] and [line.split(",")[0] for line in sorted(lines)] == [
        "1 of 2: kmeans",
        "2 of 2: label-spreading",
    ]
    row = found["table"]["kmeans"]
    assert row["clustering_accuracy"] > 0.6 and row["linear_probe"] > 0.8 and row["accuracy@0.2"] > 0.8
    assert row["parameters"] == 640 and row["memory_bytes"] > 100 and row["seconds"] > 0
    assert found["table"]["label-spreading"]["accuracy@0.2"] > 0.8
    text = found["markdown"].read_text()
    assert (
        "| accuracy, 20 % of labels |" in text
        and "| kmeans † |" in text
        and "too few seeds" in text
        and "kmeans and all maps but the deep ones) the frozen features are the samples" in text
        and "Command: `it`" in text
    )
    assert "data:image/png;base64," in found["page"].read_text() and "http" not in found["page"].read_text()
    lines.clear()
    again = compare(digits, tmp_path, COMMON, asked, lines.append)
    assert again["table"] == found["table"] and lines == []  # all kept
    with pytest.raises(UserError, match=r"map.epochs|rows must be 300 to go on"):
        compare(digits, tmp_path, COMMON, wish(models=asked.models, rows=200), lines.append)


def test_a_folder_where_another_comparison_runs_is_refused(digits, tmp_path):
    wrong = "out' is in use by a comparison that is running. Wait for its end, or give another --out."
    with alone_in(tmp_path / "out", "a comparison"), pytest.raises(UserError, match=wrong):
        compare(digits, tmp_path / "out", COMMON, wish(models=["label-spreading"]), print)
    assert not (tmp_path / "out").exists()


def test_a_comparison_keeps_no_password_of_its_store(digits, tmp_path, monkeypatch):
    store = "http://mlflow:PASSWORD@127.0.0.1:9"  # where nothing answers
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "set back afterwards")
    compare(digits, tmp_path, COMMON | {"tracking.uri": store}, wish(models=["label-spreading"]), lambda line: None)
    assert os.environ["MLFLOW_TRACKING_URI"] == store, "for the processes of the cells"
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert b"http://127.0.0.1:9" in files["label-spreading-0.2-0.json"]
    assert b"http://127.0.0.1:9" in files["tracking.jsonl"]
    assert not [name for name, content in files.items() if b"PASSWORD" in content]


def test_cells_take_fractions_that_are_asked_for_later_but_no_other_rows(rng, tmp_path):
    labels = np.arange(60) % 3
    one, other = (
        table(tmp_path / n, rng.normal(labels[:, None], 0.1, (60, 3)), labels, test_fraction=0.5) for n in "ab"
    )
    place, lines = tmp_path / "out", []
    first = compare(one, place, COMMON, wish(models=["kmeans"]), lines.append)["table"]["kmeans"]
    later = {"models": ["kmeans"], "fractions": [0.2, 0.5]}
    assert compare(one, place, COMMON, wish(**later, minutes=0.0), print)["missing"] == ["kmeans-0-0"]
    then = compare(one, place, COMMON, wish(**later), lines.append)["table"]["kmeans"]
    assert then.pop("accuracy@0.5") > 0.8 and then == first
    assert compare(one, place, COMMON, wish(models=["kmeans"]), lines.append)["table"]["kmeans"] == first
    assert len(lines) == 2
    shutil.rmtree(one)
    shutil.move(other, one)
    with pytest.raises(UserError, match="manifest_hash must be"):
        compare(one, place, COMMON, wish(models=["kmeans"]), lines.append)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_comparison_that_is_ended_saves_its_cells_and_leaves_no_process(digits, tmp_path, number, request):
    words = [
        "--models",
        "supervised",
        "--fractions",
        "0.2,0.5",
        "--seeds",
        "0",
        "--concurrent",
        "2",
        "--tracking-uri",
        "none",
    ]
    long = [*words, "--set", "map.epochs=100000", "--set", "encoder.width=4", "--set", "train.checkpoint_s=1"]
    asked = [sys.executable, "-m", "jobs.compare", "--data", str(digits), "--out", str(tmp_path / "out"), *long]
    process = subprocess.Popen(asked, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True)
    request.addfinalizer(process.kill)  # its cells end with it
    runs = [tmp_path / "out" / "runs" / f"supervised-{share}-0" for share in (0.2, 0.5)]
    until = time.monotonic() + 120
    while not all(list(run.glob("checkpoints/*")) for run in runs):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    tell = os.killpg if number == signal.SIGHUP else os.kill  # a terminal that is closed tells the cells too
    tell(process.pid, number)
    _, err = process.communicate(timeout=120)
    if number != signal.SIGKILL:
        assert process.returncode == 130 and err.endswith("Finished cells are kept; the same command goes on.\n")
        assert "Traceback" not in err
    assert len(children) >= 2 and not psutil.wait_procs(children, timeout=60)[1]
    assert all(json.loads((run / "run.json").read_text())["status"] in ("killed", "interrupted") for run in runs)


def test_what_a_terminal_and_the_parent_tell_a_cell_at_once_interrupts_it_once():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for first in numbers:
            cells._hear_signals()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(first)
            signal.raise_signal(signal.SIGTERM)  # now a state is saved
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        cells._hear_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, "as nohup has it"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_after_the_error_of_a_cell_no_other_is_begun(digits, tmp_path, monkeypatch):
    begun, both, failed = [], threading.Barrier(2, timeout=60), threading.Event()

    def work(asked, place):
        begun.append(place[2])
        both.wait()
        if place[2] == 1:
            failed.set()
            raise UserError("the second cell failed")
        assert failed.wait(60)
        time.sleep(0.5)
        return {"accuracy": {}, "seconds": 0.0, "memory_bytes": 0}

    monkeypatch.setattr(cells, "_in_its_own_process", work)
    with pytest.raises(UserError, match="the second cell failed"):
        compare(digits, tmp_path, COMMON, wish(models=["supervised"], seeds=[0, 1, 2, 3], concurrent=2), print)
    assert sorted(begun) == [0, 1] and (tmp_path / "cells/supervised-0.2-0.json").exists()


def test_trainings_without_labels_may_have_settings_of_their_own(digits, tmp_path):
    few = {**COMMON, "map.capacity": 5}
    asked = wish(models=["sssom"], unlabelled=few)
    compare(digits, tmp_path, {**COMMON, "map.capacity": 9}, asked, lambda line: None)
    cells = {share: json.loads((tmp_path / f"cells/sssom-{share}-0.json").read_text()) for share in ("0", "0.2")}
    assert cells["0"]["settings"]["map.capacity"] == 5 and cells["0.2"]["settings"]["map.capacity"] == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["kmean"]}, "--models must be some of kohonen"),
        ({"models": ["kmeans", "kmeans"]}, "--models must be different names"),
        ({"models": ["kmeans"], "fractions": [0.0]}, r"--fractions must be shares in \(0, 1\]"),
        ({"models": ["kmeans"], "reference": "deep"}, "--reference must be one of --models"),
        ({"models": ["kmeans"], "own": ["dec:map.epochs=3"]}, "--own must be NAME:key=value"),
        ({"models": ["kmeans"], "own": ["kmeans:map.epoch=3"]}, "Unknown key 'map.epoch'. Did you mean 'map.epochs'"),
        (
            {"settings": {"train.checkpoints": "there"}},
            "train.checkpoints must be left out .* Got 'there'",
        ),
        (
            {"unlabelled": {"train.checkpoints": "there"}},
            "train.checkpoints must be left out .* Got 'there'",
        ),
        (
            {"models": ["kmeans"], "own": ["kmeans:train.checkpoints=a"]},
            "train.checkpoints must be left out",
        ),
    ],
)
def test_a_wish_that_cannot_be_is_one_line(digits, tmp_path, changes, message):
    asked = {"models": ["kmeans"], "settings": {}} | changes
    settings = COMMON | asked.pop("settings")
    with pytest.raises(ValueError, match=message):
        compare(digits, tmp_path / "out", settings, wish(**asked), lambda line: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("trained", "tested", "lacking"),
    [
        ("ab" * 10, "", "none of 0 test rows has a class"),
        ("a" * 20, "a" * 9, "classes: a"),
        ("?" * 20, "?" * 9, "classes: none"),
        ("ab" * 10, "?" * 9, "none of 9 test rows has a class"),
        ("?" * 20, "abababa??", "none of 20 train rows has a class"),
    ],
)
def test_data_that_lack_labels_are_refused_before_anything_is_trained(rng, tmp_path, trained, tested, lacking):
    frame = pd.DataFrame({"x": rng.normal(size=len(trained + tested)), "y": [*(trained + tested)]})
    frame["split"] = ["train"] * len(trained) + ["test"] * len(tested)
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = SourceOptions(label_column="y", split_column="split")
    prepare(open_source("table", tmp_path / "t.csv", options), tmp_path / "data")
    told = re.escape(f"data ({lacking})'.")
    with pytest.raises(UserError, match=rf"--data must be a data set with two or more classes and labelled .*{told}"):
        compare(tmp_path / "data", tmp_path / "out", COMMON, wish(models=["label-spreading"]), lambda line: None)
    assert not (tmp_path / "out").exists()


def test_every_contestant_takes_of_the_common_settings_what_it_reads():
    common = {"data.path": "x", "encoder.width": 8, "deep.learning_rate": 0.1, "map.capacity": 9, "map.epochs": 3}
    common |= {"loss.push_weight": 2.0, "rival.restarts": 4, "map.rows": 5}
    found = {one.name: one.settings(common) for one in contestants(NAMES, ["dec:map.epochs=7"], common)}
    assert found["kmeans"] == {"data.path": "x", "map.epochs": 3, "rival.restarts": 4, "train.model": "kmeans"}
    assert found["dec"]["map.epochs"] == 7 and "map.capacity" not in found["dec"]
    assert found["deep"]["map.capacity"] == 9 and "map.rows" not in found["deep"]
    assert found["deep-lattice"]["map.rows"] == 5 and "map.capacity" not in found["deep-lattice"]
    assert found["deep-no-push"]["loss.push_weight"] == 0.0 and found["deep-no-relevance"]["map.relevance_floor"] == 1.0
    assert "encoder.width" not in found["sssom"] and found["sssom"]["map.capacity"] == 9


def test_the_variant_of_the_deep_map_may_be_that_of_all():
    common = {"deep.variant": "altsssom", "map.deviation_decay": 0.9}
    deep, lattice = contestants(["deep", "deep-lattice"], [], common)
    assert deep.settings(common)["map.deviation_decay"] == 0.9 and "map.deviation_decay" not in lattice.settings(common)
    assert deep.learns_from_labels and not lattice.learns_from_labels
    (without,) = contestants(["deep"], [], {"deep.variant": "larfdssom"})
    assert not without.learns_from_labels and without.settings({"map.capacity": 9})["map.capacity"] == 9


# ---------------------------------------------------------------- tables


def cell(name, seed, fraction=0.0, **values):
    return {"contestant": name, "seed": seed, "fraction": fraction, "settings": {}, **values}


def test_the_means_that_replace_the_map_move_alone(generator):
    settings = contestants(["deep-kmeans"], [], {})[0].settings({})
    own = {key.removeprefix("map."): value for key, value in settings.items() if key.startswith("map.")}
    given = LATTICE_DEFAULTS | {"rows": 2, "columns": 3, "num_rounds": 4} | own
    config = MapConfig(variant="kohonen", **given).resolve(num_samples=64, num_features=5)
    state = initial_state(config, 5, samples=torch.rand(6, 5, generator=generator))
    near = state.prototypes[:1] + 0.01 * torch.rand(64, 5, generator=generator)
    after = advance(state, accumulate(state, near, None, config, scale=fixed_point_scale(8.0, 64)), config)
    moved = (after.prototypes != state.prototypes).any(1)
    assert moved.tolist() == [True, False, False, False, False, False]


def test_a_table_has_means_spreads_and_the_cost_of_the_training_without_labels():
    cells = [cell("a", s, clustering_accuracy=v, seconds=5.0) for s, v in enumerate((0.5, 0.6, 0.7))]
    cells += [cell("a", 0, 0.1, accuracy={"0.1": 0.9}, seconds=50.0), cell("b", 0, 0.1, accuracy={"0.1": 0.8})]
    found = tabulated(cells, [0.1])
    assert found["a"]["clustering_accuracy"].mean == pytest.approx(0.6)
    assert found["a"]["clustering_accuracy"].deviation == pytest.approx(0.1)
    assert found["a"]["seconds"].mean == 5.0 and found["b"]["accuracy@0.1"].deviation is None
    assert ordered(found, [0.1]) == ["a", "b"]


@pytest.mark.parametrize("order", [1, -1])
def test_what_learns_from_labels_alone_costs_what_it_does_with_most_of_them(order):
    cells = [cell("a", 0, f, seconds=100 * f, memory_bytes=f * 2**30, parameters=7) for f in (0.1, 0.5, 1.0)]
    found = tabulated(cells[::order], [0.1, 0.5, 1.0])["a"]
    assert (found["seconds"].mean, found["memory_bytes"].mean, found["parameters"].mean) == (100, 1024, 7)


def test_the_best_is_first_by_acc_then_by_the_fewest_labels_and_who_has_neither_is_last():
    by_labels = {"few": {0.1: 0.5, 1.0: 0.1}, "more": {0.1: 0.4, 1.0: 0.9}}
    cells = [cell(n, 0, f, accuracy={f"{f:g}": v}) for n, vs in by_labels.items() for f, v in vs.items()]
    cells += [cell("none", 0), cell("worse", 0, clustering_accuracy=0.2), cell("better", 0, clustering_accuracy=0.3)]
    cells += [cell("late", 0, 1.0, accuracy={"1": 1.0})]
    assert ordered(tabulated(cells, [1.0, 0.1]), [1.0, 0.1]) == ["better", "worse", "few", "more", "late", "none"]


def test_clusters_are_measured_on_test_rows_with_a_class_where_rows_without_a_node_are_wrong(rng, monkeypatch):
    truth = torch.tensor([0] * 8 + [1] * 9 + [2] * 7 + [-1] * 6)
    node = torch.where(torch.arange(30) % 5 == 0, -1, (truth + (torch.arange(30) % 4 == 0)).clamp(0, 2))
    monkeypatch.setattr(measures, "predict_nodes", lambda state, samples, config: (samples[:, 0].long(), None))
    monkeypatch.setattr(measures, "groups_of", lambda state, counts, number, crossings: torch.tensor([2, 0, 1]))
    monkeypatch.setattr(measures, "_TILE", 7)
    trained = SimpleNamespace(state=SimpleNamespace(capacity=3), config=None, crossings=None, encode=lambda rows: rows)
    dataset = SimpleNamespace(
        num_samples=lambda split: 30, num_classes=3, read=lambda split, rows: (node[rows, None].float(), truth[rows])
    )
    found, known = cluster_measures(trained, dataset), truth >= 0
    right = max(
        sum(names[n] == t for n, t in zip(node[known].tolist(), truth[known].tolist(), strict=True) if n >= 0)
        for names in itertools.permutations(range(3))
    )
    assert found["clustering_accuracy"] == pytest.approx(right / 24)
    assert found["unassigned_share"] == pytest.approx(float((node[known] < 0).double().mean()))
    for name, reference in (("nmi", normalized_mutual_info_score), ("ari", adjusted_rand_score)):
        assert found[name] == pytest.approx(reference(truth[known], node[known]))


def test_rows_for_a_probe_have_labels_and_are_drawn_by_the_seed():
    labels = torch.where(torch.arange(200) % 4 == 0, torch.arange(200) % 3, -1)
    marked = (labels >= 0).nonzero().squeeze(1)
    assert torch.equal(labelled_rows(labels, 50, 0), marked) and torch.equal(labelled_rows(labels, 99, 0), marked)
    few, other = labelled_rows(labels, 20, 0), labelled_rows(labels, 20, 1)
    assert len(set(few.tolist())) == 20 and (labels[few] >= 0).all() and not torch.equal(few, other)


def test_probes_of_another_seed_see_other_rows(monkeypatch):
    seen = []
    monkeypatch.setattr(
        measures, "encoded", lambda trained, dataset, split, rows, labels: (split, tuple(rows.tolist()))
    )
    monkeypatch.setattr(measures, "probes", lambda known, test: seen.append((known, test)))
    dataset = SimpleNamespace(labels=lambda split: torch.arange(200) % 3)
    for seed in (0, 1, 1):
        measures.feature_measures(None, dataset, seed, 20)
    assert seen[1] == seen[2] and all(a != b for a, b in zip(seen[0], seen[1], strict=True))


def test_probes_take_what_little_there_is(rng):
    features, labels = rng.normal(size=(4, 2)) * (1.0, 1e6), np.array([0, 1, 1, 1])
    assert probes((features, labels), (features, labels))["nearest_neighbours"] == 0.75  # four of ten: the commonest
    assert linear_accuracy((features[1:], labels[1:]), (features, labels)) == 0.75
    apart = np.arange(100) % 2
    wide = np.column_stack([apart + rng.normal(0, 0.05, 100), rng.normal(0, 1e6, 100)])
    assert linear_accuracy((wide, apart), (wide, apart)) == 1.0, "features are scaled"


@pytest.mark.parametrize(("rows", "labelled", "all_rows"), [(10, 10, 10), (50, 20, 50), (500, 20, 100)])
def test_label_spreading_reads_labelled_rows_first_and_others_beside_them(rows, labelled, all_rows, monkeypatch):
    truth = {"train": torch.arange(100) % 2, "test": torch.tensor([0, -1, 1])}
    dataset = SimpleNamespace(labels=truth.get, read=lambda split, rows: (rows[:, None].float(), truth[split][rows]))
    seen = []
    monkeypatch.setattr(measures, "spreading_accuracy", lambda *parts: seen.append(parts) or 0.5)
    kept = labelled_fraction(truth["train"], 0.2, 3)
    assert measures.spreading(dataset, torch.as_tensor(kept), 3, rows) == 0.5
    ((features, labels, asked, answers),) = seen
    chosen = features[:, 0].astype(int)
    assert len(set(chosen.tolist())) == len(chosen) == all_rows and (labels >= 0).sum() == labelled
    assert (labels == kept[chosen]).all() and asked[:, 0].tolist() == [0, 2] and answers.tolist() == [0, 1]


@pytest.mark.parametrize(("accuracies", "top"), [((0.7, 0.75, 0.8), "0.999"), ((1.0, 1.0, 1.0), "≥ 0.999")])
def test_the_figure_of_a_comparison_shows_whole_bars_and_perfect_scores(accuracies, top):
    found = [cell("dec", s, f, accuracy={f"{f:g}": v}) for s, v in enumerate(accuracies) for f in (0.1, 1.0)]
    asked = SimpleNamespace(contestants=[], fractions=[0.1, 1.0])
    page = SimpleNamespace(table=tabulated(found, [0.1, 1.0]), order=["dec"], asked=asked)
    page._accuracy = lambda name, fraction: Page._accuracy(page, name, fraction)
    axes = Figure().subplots()
    Page._curves(page, axes)
    low, high = axes.get_ylim()
    mean, spread = np.mean(accuracies), np.std(accuracies, ddof=1)
    assert low < mean - spread and min(mean + spread, 0.999) < high
    assert axes.get_yticklabels()[-1].get_text() == top
    assert "logit" in axes.get_ylabel()


def test_a_model_has_the_same_colour_and_mark_in_every_figure():
    def styles(names):
        found = [cell(name, 0, f, accuracy={f"{f:g}": 0.8}) for name in names for f in (0.1, 1.0)]
        page = SimpleNamespace(table=tabulated(found, [0.1, 1.0]), order=names)
        page.asked = SimpleNamespace(contestants=[], fractions=[0.1, 1.0])
        page._accuracy = lambda name, fraction: Page._accuracy(page, name, fraction)
        axes = Figure().subplots()
        Page._curves(page, axes)
        lines = [container.lines[0] for container in axes.containers]
        return {name: (line.get_color(), line.get_marker()) for name, line in zip(names, lines, strict=True)}

    every = styles([*NAMES])
    assert len(set(every.values())) == len(NAMES)
    assert styles(["supervised", "deep"]) == {name: every[name] for name in ("supervised", "deep")}
    usual = [every[name] for name in COMPARED.split(",")]
    assert len({colour for colour, _ in usual}) == len({mark for _, mark in usual}) == len(usual) == 10


def test_differences_are_paired_over_the_seeds_that_both_have():
    cells = [cell("a", s, nmi=v) for s, v in enumerate((0.5, 0.6, 0.7, 0.1))]
    cells += [cell("b", s, nmi=v) for s, v in ((2, 0.71), (0, 0.52), (1, 0.63))]
    (found,) = differences(tabulated(cells, []), "a", ["nmi"])
    assert (found.name, found.seeds) == ("b", 3) and found.mean == pytest.approx(0.02)
    assert found.p == pytest.approx(ttest_rel([0.52, 0.63, 0.71], [0.5, 0.6, 0.7]).pvalue)
    assert paired_p([(0.1, 0.2), (0.3, 0.4)]) is None and paired_p([(0.5, 0.5)] * 3) == 1.0


@pytest.mark.parametrize("rows", [359, 10_000, 400_000])
def test_one_row_more_in_every_seed_has_no_spread_to_be_judged_by(rows):
    counts = [rows * 7 // 8, rows * 9 // 10, rows * 10 // 11]
    assert paired_p([(0.5, 0.25)] * 3) is None
    assert paired_p([(round((n + 1) / rows, 6), round(n / rows, 6)) for n in counts]) is None
    shifts = (1, 1, 3)
    assert paired_p([(round((n + k) / rows, 6), round(n / rows, 6)) for n, k in zip(counts, shifts, strict=True)]) > 0.1


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "p < 0.001"), (0.0006, "p 0.001"), (1.0, "p 1.000"), (None, "the same in every seed")]
)
def test_no_p_is_zero(p, text):
    assert _difference(Difference("a", "nmi", -0.25, 3, p)) == f"-0.250 ({text})"


@pytest.mark.parametrize(("seconds", "text"), [(0.314, "0.3"), (0.96, "1"), (0.0, "0"), (1234.5, "1,234")])
def test_a_cost_below_one_is_no_zero(seconds, text):
    assert _text(Spread({0: seconds}), "seconds") == text


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert holm([0.04, None, 0.01, 0.03]) == [pytest.approx(0.06), None, pytest.approx(0.03), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize("rows", [1, 2, 6, 7])
def test_label_spreading_needs_no_more_rows_than_there_are(rng, rows):
    features, test = rng.normal(size=(rows, 3)), rng.normal(size=(4, 3))
    labels = np.where(np.arange(rows) < 5, np.arange(rows) % 2, -1)
    assert spreading_accuracy(features, labels, features, labels) > 0.4
    assert 0 <= spreading_accuracy(features, labels, test, np.zeros(4, int)) <= 1


@pytest.mark.parametrize(
    ("name", "function", "place"), [("label-spreading", "spreading_accuracy", 1), ("kmeans", "linear_accuracy", 0)]
)
def test_who_does_not_learn_in_rounds_reads_no_label_that_is_withheld(
    digits, tmp_path, monkeypatch, name, function, place
):
    read = []
    monkeypatch.setattr(measures, function, lambda *parts: read.append(parts[place]) or 0.5)
    settings = {"data.path": str(digits), "cluster.workers": 0, "train.seed": 3, **COMMON}
    settings["train.validation_fraction"] = 0.5
    (one,) = contestants([name], [], {})
    fraction = 0.0 if one.model else 0.2
    cells.measure(one, one.settings({**settings, "train.labelled_fraction": fraction}), tmp_path, [0.2], 2000)
    labels = read[-1][1] if one.model else read[-1]
    kept, withheld = kept_labels(Dataset.open(digits).labels("train"), 0.2, 0.5, 3)
    assert len(withheld) > 100
    np.testing.assert_array_equal(labels[labels >= 0], kept[kept >= 0])


def test_more_nodes_than_classes_are_grouped_by_their_prototypes(digits, tmp_path):
    settings = {"data.path": str(digits), "train.model": "kmeans", "cluster.workers": 0, "tracking.uri": "none"}
    train({**settings, "rival.clusters": 30, "rival.restarts": 1}, tmp_path / "run")
    found = cluster_measures(Trained.load(tmp_path / "run"), Dataset.open(digits))
    assert found["clustering_accuracy"] > 0.5 and found["unassigned_share"] == 0
    assert num_parameters(tmp_path / "run") == 30 * 64


# ---------------------------------------------------------------- transfer, lattice


def test_frozen_features_are_a_data_set_for_every_model(digits, tmp_path):
    recipe = {"map.epochs": 4, "encoder.width": 4, "encoder.dim": 6, "deep.rate_warmup_rounds": 1}
    settings = {"data.path": str(digits), "train.model": "supervised", "cluster.workers": 0, "tracking.uri": "none"}
    train({**settings, **recipe, "deep.learning_rate": 0.02}, tmp_path / "run")
    manifest = write_features(digits, tmp_path / "features", run=str(tmp_path / "run"))
    assert manifest.kind == "table" and manifest.shape == (6,)  # the features, not the ten probabilities
    assert [f["name"] for f in manifest.provenance["files"]] == ["map.safetensors", "manifest.json"]
    assert Manifest.load(tmp_path / "features").details["extractor"].startswith("supervised ")
    source, written = Dataset.open(digits), Dataset.open(tmp_path / "features")
    for split in ("train", "test"):
        assert torch.equal(source.labels(split), written.labels(split))
    expected = Trained.load(tmp_path / "run").represent(source.read("test", [3, 1])[0])
    assert torch.equal(written.read_raw("test", [3, 1]), expected)
    probed, _ = measures.encoded(Trained.load(tmp_path / "run"), source, "test", torch.tensor([3, 1]), torch.arange(9))
    assert (probed == expected.numpy()).all(), "probes of a comparison look at the same"
    result = train({**settings, "data.path": str(tmp_path / "features"), "train.model": "kmeans"}, tmp_path / "next")
    assert result["accuracy"] > 0.3
    assert json.loads((tmp_path / "next" / "run.json").read_text())["summary"]["nodes"] == 10


def test_features_are_of_samples_scaled_as_the_model_has_seen_them(tmp_path, rng):
    labels = np.arange(40) % 2
    rows = rng.normal(labels[:, None], 0.2, (40, 3))
    data, smaller = table(tmp_path / "all", rows, labels), table(tmp_path / "smaller", rows[:20] * 0.1, labels[:20])
    settings = {"data.path": str(data), "train.model": "supervised", "cluster.workers": 0}
    train({**settings, **COMMON}, tmp_path / "run")
    write_features(smaller, tmp_path / "out", run=str(tmp_path / "run"))
    low, high = rows.min(0), rows.max(0)
    scaled = torch.from_numpy((rows[:20] * 0.1 - low) / (high - low)).float()
    expected = Trained.load(tmp_path / "run").represent(scaled)
    torch.testing.assert_close(Dataset.open(tmp_path / "out").read_raw("train", slice(None)), expected)


def test_features_of_another_extractor_or_of_other_data_are_not_taken_for_these(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "frozen_features", lambda weights, shape: (lambda x: x[:, :2], 2))  # too slow here
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("resnet18", "resnet34"):
        place = tmp_path / "hub" / "checkpoints" / models.get_model_weights(name).DEFAULT.url.rsplit("/", 1)[-1]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)
    out = tmp_path / "out"
    first = write_features(digits, out, weights="resnet18")
    assert write_features(digits, out, weights="resnet18") == first
    with pytest.raises(UserError, match="--out holds another data set"):
        write_features(digits, out, weights="resnet34")
    place.with_name(first.provenance["files"][0]["name"]).write_text("newer weights of resnet18")
    with pytest.raises(UserError, match="--out holds another data set"):
        write_features(digits, out, weights="resnet18")
    assert (
        write_features(digits, out, weights="resnet34", overwrite=True).details["extractor"] == "torchvision resnet34"
    )


def test_features_know_their_extractor_and_data_without_any_file(tmp_path, rng):
    source = Dataset.open(table(tmp_path / "a", rng.normal(size=(9, 3))))
    encoded = features.Encoded(source, lambda x: x[:, :2], (), "first")
    encoded.spec = replace(encoded.spec, files=())  # as of a data set that is elsewhere
    first = prepare(encoded, tmp_path / "out")
    assert prepare(encoded, tmp_path / "out") == first
    for changed in ({"extractor": "second"}, {"of": "0" * 64}):
        encoded.spec = replace(encoded.spec, details=first.details | changed)
        with pytest.raises(UserError, match="--out holds another data set"):
            prepare(encoded, tmp_path / "out")


def test_an_extractor_for_other_samples_is_refused(digits, rng, tmp_path, monkeypatch):
    data = table(tmp_path / "t", rng.normal(size=(30, 3)), np.arange(30) % 3, test_fraction=0.2)
    settings = {"train.model": "kmeans", "cluster.workers": 0, "tracking.uri": "none"}
    train({**settings, "data.path": str(data)}, tmp_path / "run")
    with pytest.raises(UserError, match="--run must be a run that has learned an encoder"):
        write_features(digits, tmp_path / "out", run=str(tmp_path / "run"))
    with pytest.raises(UserError, match="--run must be given, or --weights, one of both"):
        write_features(digits, tmp_path / "out")
    with pytest.raises(UserError, match="--data must be images, for a torchvision model"):
        write_features(data, tmp_path / "out", weights="resnet18")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="or give it: --weights=resnet18:FILE.$"):
        write_features(digits, tmp_path / "out", weights="resnet18")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("variant", ["kohonen", "dssom"])
def test_a_fixed_lattice_trains_and_resumes_behind_an_encoder(variant, digits, tmp_path):
    lattice = {"map.rows": 3, "map.columns": 4, "map.epochs": 3, "map.batch_size": 256, "map.tile_size": 64}
    settings = {**small("deep", digits), **lattice, "deep.variant": variant, "encoder.width": 4, "encoder.dim": 6}
    settings.pop("map.pruning_epochs", None)  # of growing maps

    def stop(epoch, expected, metrics):
        raise KeyboardInterrupt

    whole = train(settings, tmp_path / "whole")
    assert whole["nodes"] == 12 and whole["accuracy"] is None and whole["nmi"] > 0
    assert 0 <= whole["topographic_error"] <= 1
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "cut", on_epoch=stop)
    assert train(settings, tmp_path / "cut", resume=True)["map_digest"] == whole["map_digest"]
