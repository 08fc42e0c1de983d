"""Reports of data whose names are odd, and the command that does a run again."""

import copy
import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import MinMaxScaler

from pipeline import baselines
from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.predictor import Predictor
from pipeline.prepare import PrepareOptions, prepare
from pipeline.prepared.shards import Dataset
from pipeline.report import figure_parts, figures, sweep_data
from pipeline.report.automatic import FIGURES, PAGE, report_of_run
from pipeline.report.charts import map_chart
from pipeline.report.collect import collect
from pipeline.report.figures import (
    confusion_figure,
    curves_figure,
    embedding_figure,
    growth_figure,
    map_figure,
    relevances_figure,
    u_matrix_figure,
)
from pipeline.report.make import command_of, labels_read, report_of, run_page
from pipeline.report.nodes import feature_names, features_shown, node_details, samples_per_node
from pipeline.report.palette import apart, printed
from pipeline.report.pictures import Gallery
from pipeline.report.placement import (
    Plane,
    borders,
    by_distance,
    distances,
    embeddings,
    node_places,
    regions,
    shown_edges,
)
from pipeline.report.score_charts import answers, classes_then, confusion_chart, curves_chart, growth_chart
from pipeline.report.sweeps import fractions_chart, fractions_figure, sweep_page
from pipeline.report.tables import node_table, telling_features, write_tables
from pipeline.serving.model import model_directory
from pipeline.serving.trained import Trained, evaluate_run
from pipeline.sources import SourceOptions, open_source
from pipeline.sweeps import outcome
from pipeline.training.history import History
from pipeline.training.plan import make_plan, training_labels
from pipeline.training.trainer import train
from somcore.config import MapConfig
from somcore.state import blank_state
from tests.training import small

HEAD = "trial,status,data,model,labelled_fraction,seed,set,accuracy,validation_accuracy,clustering_accuracy,nodes"
NAMES = ["<script>alert(1)</script>", "$100 & $_2", r"$\broken{ or $", "_hidden_"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A run on a table whose classes and columns have names that markup or formulas could trip over."""
    folder = tmp_path_factory.mktemp("odd")
    with open(folder / "odd.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["<b>x", r"$\y{$", "label"])
        writer.writerows([(n % 4) + n / 1000, (n % 4 > 1) - n / 900, NAMES[n % 4]] for n in range(80))
    options = SourceOptions(label_column="label", test_fraction=0.25)
    prepare(open_source("table", folder / "odd.csv", options), folder / "data", PrepareOptions())
    train(small("sssom", folder / "data", map__epochs=2), folder / "run")
    return folder / "run"


def test_letters_that_no_font_has_are_not_warned_of(tmp_path, recwarn, monkeypatch):
    figure = figures.blank(2, 2)[0]
    title = figure.axes[0].set_title("色")
    figures.save({"a": figure}, tmp_path)
    assert not recwarn.list
    monkeypatch.setattr(figure_parts, "_CJK_FONTS", ("STIXGeneral", "a font that is not here"))
    figures.save({"a": figure}, tmp_path)
    assert title.get_fontfamily()[-1] == "STIXGeneral"


def test_figures_name_every_class_as_it_is(odd, recwarn):
    data = collect(odd)
    figure = map_figure(data)
    figure.savefig(io.BytesIO())
    said = {text.get_text().strip("\u200b").replace("\\$", "$") for text in figure.axes[0].get_legend().get_texts()}
    shown = {data.class_names[label] for label in data.shown_classes if label >= 0}
    assert said == {name if len(name) <= 24 else name[:23] + "…" for name in shown} and len(said) == len(NAMES)
    confusion_figure(data).savefig(io.BytesIO())
    assert not [w for w in recwarn if "lyph" in str(w.message)]


@pytest.mark.parametrize("names", [NAMES, list("0123")])
def test_the_axes_of_a_confusion_matrix_are_whole(odd, names, monkeypatch):
    monkeypatch.setattr(figures, "names_of", lambda *given: names)
    figure = confusion_figure(collect(odd))
    figure.savefig(io.BytesIO())
    extents = [axis.label.get_window_extent() for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis)]
    assert all(extent.x0 >= 0 and extent.y0 >= 0 for extent in extents)


def test_no_name_of_the_data_becomes_markup_of_the_page(odd):
    page = run_page(collect(odd), ("pca",)).html()
    assert "<script>alert" not in page and "<b>x" not in page
    assert page.count("</script>") == 3  # plotly, the data, the glue


def test_figures_that_fail_do_not_take_the_page_away(odd):
    lines = []
    (odd / FIGURES).write_text("a file where the folder should be")
    made = report_of_run(odd, True, lines.append)
    assert made == [odd / name for name in (PAGE, "report-nodes.csv", "report-relevances.csv")]
    assert (odd / PAGE).stat().st_size > 10**6
    assert lines[0].startswith("Report: ") and lines[1].startswith("There are no figures (FileExistsError")


def test_the_command_of_a_run_keeps_every_digit():
    settings = {"data.path": "data", "train.model": "sssom", "train.labelled_fraction": 1 / 3, "map.epochs": 3}
    words = command_of({**settings, "deep.list": [0.5, 1]}).replace("\\\n", "").split()
    assert float(words[words.index("--labelled-fraction") + 1]) == 1 / 3
    assert "deep.list=[0.5, 1]" in command_of({"deep.list": [0.5, 1]})
    assert "--labelled-fraction 1 " in command_of({**settings, "train.labelled_fraction": 1.0}).replace("\\", "")


def test_a_map_without_the_record_of_its_run_needs_its_data_named(odd, tmp_path):
    shutil.copy(odd / "map.safetensors", tmp_path)
    with pytest.raises(UserError, match="--data must be given for a model without the record of its run"):
        evaluate_run(str(tmp_path), None, None)
    assert evaluate_run(str(tmp_path), odd.parent / "data", None)["rows"] == 20


def test_the_nearest_labelled_row_is_left_out_where_it_takes_long(digits, monkeypatch):
    draws = [(0.05, 0.0, 0), (0.1, 0.0, 0)]
    assert set(baselines.baseline_accuracies(str(digits), draws[1:])) == set(baselines.BASELINES)
    monkeypatch.setattr(baselines, "_PRODUCTS", 144 * 359 * 64 - 1)
    assert {name: list(found) for name, found in baselines.baseline_accuracies(str(digits), draws).items()} == {
        "majority": [0.05, 0.1],
        "neighbour": [0.05],
        "spreading": [0.05, 0.1],
    }


def test_test_rows_without_a_label_are_no_errors_of_the_baselines(rng, tmp_path):
    rows = pd.DataFrame({"x": np.arange(80) % 2 + 0.01 * rng.random(80), "label": [*"ab"] * 30 + [None] * 20})
    rows.assign(split=["train"] * 40 + ["test"] * 40).to_parquet(tmp_path / "rows.parquet")
    options = SourceOptions(label_column="label", split_column="split")
    prepare(open_source("table", tmp_path / "rows.parquet", options), tmp_path / "data")
    found = baselines.baseline_accuracies(str(tmp_path / "data"), [(1.0, 0.0, 0)])
    assert found["neighbour"] == found["spreading"] == {1.0: [1.0]}


def test_baselines_read_the_labels_that_the_trials_read(digits, tmp_path, monkeypatch):
    prepare(open_source("digits", None, SourceOptions(seed=5)), tmp_path / "other")  # as another fold
    read, expected, lines = [], [], []
    monkeypatch.setattr(baselines, "_reading", lambda features, kept, *test: read.append(kept) or {"majority": 0.5})
    for seed, data in enumerate((digits, tmp_path / "other")):
        asked = {"train__labelled_fraction": 0.1, "train__seed": seed, "train__validation_fraction": 0.2}
        settings = small("sssom", data, **asked)
        train(settings, tmp_path / "trials" / f"t{seed}")
        lines.append(f"t{seed},finished,toy,sssom,0.1,{seed},0,0.8,0.9,0.5,9")
        dataset = Dataset.open(data)
        plan = make_plan(RunConfig.build(settings), dataset)
        expected.append(training_labels(plan, dataset.labels("train"))[0].tolist())
    (tmp_path / "trials.csv").write_text("\n".join([HEAD, *lines]))
    (tmp_path / "sweep.json").write_text(json.dumps({"definition": {}}))
    assert sweep_data.SweepData(tmp_path).baselines == {"toy": {"majority": {0.1: [0.5, 0.5]}}}
    assert sorted(kept.tolist() for kept in read) == sorted(expected)
    assert (read[0] >= 0).sum() == 115  # of 144 that keep their label


def test_nodes_of_a_lattice_stand_on_it_and_the_first_row_is_on_top():
    config = MapConfig(variant="kohonen", rows=2, columns=3, lattice="rectangular")
    places = node_places(config, np.array([0, 2, 4]), np.empty((3, 1)), np.empty((3, 1)))
    assert places.tolist() == [[0, 0], [2, 0], [1, -1]]


def test_nodes_are_as_far_apart_as_the_relevances_of_both_say(rng):
    prototypes, relevances = rng.random((5, 3)), rng.random((5, 3))
    for i, row in enumerate(distances(prototypes, relevances)):
        for j, seen in enumerate(row):
            mean = (relevances[i] + relevances[j]) / 2
            assert seen == pytest.approx(np.sqrt((mean * (prototypes[i] - prototypes[j]) ** 2).sum()), abs=1e-7)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
def test_few_nodes_are_drawn_as_far_apart_as_they_are(count, rng):
    points = rng.normal(size=(count, 2))
    between = np.linalg.norm(points[:, None] - points, axis=2)
    places = by_distance(between)
    assert places.shape == (count, 2)
    assert np.allclose(np.linalg.norm(places[:, None] - places, axis=2), between, atol=1e-6)


def test_of_too_many_edges_the_shortest_are_drawn():
    places = np.array([[0, 0], [1, 0], [3, 0], [3, 0.5]])
    edges = np.array([[0, 1], [0, 2], [1, 2], [2, 3]])
    assert shown_edges(edges, places, 2).tolist() == [[0, 1], [2, 3]] and shown_edges(edges, places, 4) is edges


def test_a_region_is_of_the_sample_next_to_it_and_far_from_all_of_nobody():
    places, nodes = np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 1.0]]), np.array([4, 7, 5])
    x, y, found = regions(places, nodes, size=115)
    assert (x[0], x[-1], y[0], y[-1]) == pytest.approx((-0.07, 1.07) * 2)
    for place, node in zip([*places, (0.03, 0.02), (0.08, -0.03), (0.5, 0.5)], [4, 7, 5, 4, 7, -1], strict=True):
        assert found[np.abs(y - place[1]).argmin(), np.abs(x - place[0]).argmin()] == node
    assert borders(np.array([[1, 1, 2], [1, 1, 2], [-1, 3, 3]])).astype(int).tolist() == [
        [0, 1, 0],
        [1, 1, 1],
        [0, 0, 0],
    ]


def test_of_many_features_those_are_shown_in_which_nodes_differ_where_it_matters(rng):
    prototypes, relevances = np.full((5, 100), 0.5), np.ones((5, 100))
    prototypes[:, 20:90] += rng.normal(0, 0.1, (5, 70))
    relevances[:, 30:36] = 0.0  # nodes differ here, and do not look at it
    found = features_shown(SimpleNamespace(prototypes=prototypes, relevances=relevances))
    assert found.tolist() == [*range(20, 30), *range(36, 90)]
    few = SimpleNamespace(prototypes=prototypes[:, :64], relevances=relevances[:, :64])
    assert features_shown(few).tolist() == list(range(64))


@pytest.mark.parametrize(
    ("about", "names"),
    [
        ({"columns": ("a", "b", "c", "d")}, ["b", "d"]),
        ({"kind": "audio", "shape": (9,)}, ["value 1", "value 3"]),
        ({"shape": (1, 3, 2)}, ["row 0, column 1", "row 1, column 1"]),
        ({"shape": (3, 1, 2)}, ["row 0, column 1, channel 0", "row 0, column 1, channel 1"]),
        ({"deep": True}, ["latent 1", "latent 3"]),
    ],
)
def test_features_are_called_by_what_they_are(about, names):
    spec = SimpleNamespace(**{"columns": None, "kind": "image", "shape": (1, 3, 2), **about})
    data = SimpleNamespace(predictor=SimpleNamespace(deep=about.get("deep"), spec=spec))
    assert feature_names(data, np.array([1, 3])) == names


@pytest.mark.parametrize("nodes", [1, 100, 200, 201, 999, 1000, 1001, 5000])
def test_the_samples_of_a_page_are_bounded_however_many_nodes_there_are(nodes):
    members, misfits = samples_per_node(nodes)
    assert 12 >= members >= 3 and 8 >= misfits >= 1
    assert nodes * (members + misfits) <= (5000 if nodes <= 1000 else 4 * nodes)
    assert (members, misfits) == (12, 8) or nodes > 150


def test_rows_of_one_feature_have_places_that_are_no_line(rng):
    samples, prototypes = rng.random((40, 1)), rng.random((3, 1))
    places = embeddings(samples, prototypes, ("pca", "tsne"), Plane(samples))["tsne"]
    assert [part.shape for part in places] == [(40, 2), (3, 2)]
    assert np.isfinite(places[0]).all() and (np.ptp(places[0], axis=0) > 1).all()


@pytest.mark.parametrize("rows", [1, 5])
def test_samples_that_are_all_the_same_have_a_plane(rows, recwarn):
    plane = Plane(np.ones((rows, 3)))
    assert plane(np.ones((2, 3))).tolist() == [[0, 0], [0, 0]] and plane.explained == 0
    assert not recwarn.list


def test_a_run_without_its_data_and_without_moments_has_a_page(tmp_path):
    prepare(open_source("digits"), tmp_path / "data")
    train(small("kohonen", tmp_path / "data", tracking__moments=0), tmp_path / "run")
    (tmp_path / "data").rename(tmp_path / "moved")
    page = run_page(collect(tmp_path / "run"), ("pca",)).html()
    assert "<html" in page


def test_the_growth_of_a_map_is_told_in_its_own_epochs_without_its_data(tmp_path):
    prepare(open_source("digits"), tmp_path / "data")
    epochs = train(small("kohonen", tmp_path / "data"), tmp_path / "run")["epochs"]
    (tmp_path / "data").rename(tmp_path / "moved")
    assert [moment["epoch"] for moment in growth_chart(collect(tmp_path / "run"))[1]][-1] == epochs


def test_data_prepared_anew_are_left_out_and_it_is_said(tmp_path):
    prepare(open_source("digits"), tmp_path / "data")
    train(small("kohonen", tmp_path / "data", tracking__moments=0), tmp_path / "run")
    prepare(open_source("digits", None, SourceOptions(seed=5)), tmp_path / "data", PrepareOptions(overwrite=True))
    said = []
    made = report_of(str(tmp_path / "run"), tmp_path / "page.html", say=said.append)
    assert made["rows"] == 0
    assert len(said) == 1 and "has changed: what needs samples is left out" in said[0]


def test_names_that_are_cut_to_the_same_stay_apart():
    names = ["Agricultural land, irrigated", "Agricultural land, other", "Water"]
    assert apart(names, 18) == ["Agricultural land…", "Agricultural land… (2)", "Water"]


def test_the_share_of_the_labels_is_a_percentage(odd):
    data = collect(odd)
    assert ("labels read", "30% (20 rows)") in run_page(data, ("pca",)).tiles
    settings = {"train.seed": 0, "train.validation_fraction": 0.5}
    few = dataclasses.replace(data, record={"settings": settings, "summary": {"labelled_fraction": 0.2}})
    assert labels_read(few) == "20% (4 rows)"  # 3 of 15 rows in each of 4 classes, 2 of them withheld
    assert labels_read(dataclasses.replace(few, dataset=None)) == "20%"


@pytest.mark.parametrize(
    ("labelled", "told"), [(5, "5 of 1,006 rows"), (0, "0 of 1,006 rows"), (1006, None), (None, None)]
)
def test_a_page_says_how_many_of_the_rows_that_are_scored_have_a_class(odd, labelled, told):
    data = collect(odd)
    summary = data.record["summary"] | {"scored_rows": 1006, "scored_labelled_rows": labelled}
    tiles = run_page(dataclasses.replace(data, record=data.record | {"summary": summary}), ("pca",)).tiles
    assert ("scored on", "test split") in tiles and dict(tiles).get("of them with a class") == told


def test_long_names_stay_apart_wherever_they_are_shown(odd):
    data = collect(odd)
    long = tuple(f"a class whose name is rather long, number {n}" for n in range(4))
    columns = ("a column whose name is rather long, first", "a column whose name is rather long, second")
    predictor = copy.copy(data.predictor)
    predictor.spec, predictor.class_names = dataclasses.replace(predictor.spec, columns=columns), long
    data = dataclasses.replace(data, predictor=predictor)
    page = run_page(data, ("pca",))
    member = next(info for info in page.data["nodes"] if info["members"])["members"][0]
    confusion = page.charts["confusion"]
    legend = map_figure(data).axes[0].get_legend().get_texts()
    for names in (
        [name for name, _ in member["v"]],
        page.data["features"]["names"],
        [axes.get_title() for axes in relevances_figure(data).axes[:2]],
        confusion.layout.xaxis.ticktext,
        [label.get_text() for label in confusion_figure(data).axes[0].get_yticklabels()],
        [text.get_text() for text in legend],
        [trace.name for trace in map_chart(data).data if trace.showlegend is None],
    ):
        assert len(set(names)) == len(names) >= 2
    assert "long, number 3" in confusion.data[0].hovertext[3][3]


def test_the_names_beside_a_confusion_matrix_of_many_classes_do_not_overlap(odd):
    data = collect(odd)
    data = dataclasses.replace(data, predictor=copy.copy(data.predictor))
    for count in (50, 120):
        data.predictor.class_names = tuple(map(str, range(count)))
        layout = confusion_chart(data, np.eye(count, count + 1, dtype=int)).layout
        for axis in (layout.xaxis, layout.yaxis):
            assert 30 < len(axis.ticktext) == len(axis.tickvals) and len(axis.ticktext) * axis.tickfont.size <= 460


def test_the_growth_of_a_map_ends_with_the_classes_that_the_map_is_shown_in(odd, tmp_path):
    train(small("kohonen", odd.parent / "data", map__rows=3, map__columns=3), tmp_path / "run")
    data = collect(tmp_path / "run")
    last = data.history.moments[-1]
    assert (classes_then(data, last) == data.shown_classes).all() and (last.classes < 0).all()
    before = classes_then(data, dataclasses.replace(last, round=last.round - 1))
    apart = np.linalg.norm(data.features[:, None] - last.prototypes.numpy()[None].astype(float), axis=2).argmin(1)
    for node, label in enumerate(before):
        labels = data.train.labels[data.sample][apart == node]
        assert label == (np.bincount(labels).argmax() if len(labels) else -1)
    page = run_page(data, ("pca",))
    growth = next(content for key, _, content, _ in page.tabs if key == "growth")
    assert "Nodes that have learned no class" in growth


def test_the_picture_of_the_growth_says_once_which_mark_is_which_class(odd):
    *panels, last = growth_figure(collect(odd)).axes
    said = [text.get_text() for text in last.get_legend().get_texts()]
    assert len(panels) > 1 and not any(axes.get_legend() for axes in panels)
    drawn = {name for axes in (*panels, last) for name in axes.get_legend_handles_labels()[1]}
    assert len(said) == len(set(said)) and set(said) == drawn and len(drawn & set(map(printed, NAMES))) > 1


def test_a_report_of_some_rows_is_of_these_rows_wherever_they_are_shown(digits, tmp_path):
    train(small("sssom", digits), tmp_path / "run")
    data, gallery = collect(tmp_path / "run", rows=50, embedded=20), Gallery()
    labels, samples = data.dataset.labels("train").numpy(), data.dataset.read("train", slice(None))[0].numpy()
    assert (data.train.labels == labels[data.train.rows]).all() and len(data.train.rows) == 50
    assert (data.features == samples[data.train.rows[data.sample]]).all() and len(data.features) == 20
    shown = [row for node in node_details(data, gallery)[0] for row in (*node["members"], *node["misfits"])]
    assert {row["r"] for row in shown} == {*data.train.rows.tolist()}
    for row in shown:
        assert row["c"] == labels[row["r"]]
        assert (gallery._pictures[row["p"]] == (samples[row["r"]].reshape(8, 8) * 255).round()).all()


def test_rows_of_another_class_are_what_fits_a_node_least(wine):
    data, seen = collect(wine), 0
    for node in range(data.num_nodes):
        labels = data.train.labels[data.misfits(node)]
        others = (labels >= 0) & (labels != data.shown_classes[node])
        assert (np.diff(others.astype(int)) <= 0).all(), "they are first"
        seen += 0 < others.sum() < len(others)
    assert seen


def test_a_node_is_as_pure_as_its_rows_with_a_class_are(wine):
    data = collect(wine)
    for node, purity in enumerate(data.measures["purity"]):
        labels = data.train.labels[data.members(node)]
        known = labels[labels >= 0]
        assert purity == pytest.approx(np.bincount(known).max() / len(known) if len(known) else np.nan, nan_ok=True)
    assert (data.train.labels < 0).any()


def test_the_table_of_nodes_tells_the_class_of_a_node_from_that_of_its_rows(odd):
    data = collect(odd)
    other = dataclasses.replace(data, classes=(data.majority + 1) % 4)
    found, names = node_table(other).to_pandas().set_index("node").loc[data.nodes], np.array([*data.class_names])
    won = data.majority >= 0
    assert won.any() and (found["majority"][won] == names[data.majority[won]]).all()
    assert (found["class"] == names[other.classes]).all()


def test_confusions_are_counted_by_true_class_where_some_rows_have_no_answer():
    rows = SimpleNamespace(labels=np.array([0, 0, 1, -1]), predicted=np.array([1, 1, -1, 0]), nodes=np.zeros(4, int))
    assert answers(SimpleNamespace(num_classes=2), rows).tolist() == [[0, 2, 0], [0, 0, 1]]


def test_only_finished_trials_of_a_sweep_are_results(tmp_path):
    rows = [f"t{n},{status},toy,sssom,0.1,{n},0,0.{n + 5},,0.5,9" for n, status in enumerate(("finished", "stopped"))]
    (tmp_path / "trials.csv").write_text("\n".join([HEAD, *rows]))
    (tmp_path / "sweep.json").write_text(json.dumps({"definition": {}}))
    assert [row["trial"] for row in sweep_data.SweepData(tmp_path).finished] == ["t0"]


@pytest.mark.parametrize(("sets", "chose"), [(2, "validation accuracy"), (1, "nothing")])
def test_a_sweep_says_which_score_chose(tmp_path, sets, chose):
    rows = [f"t{n},finished,toy,sssom,0.1,0,{n},0.{n + 5},0.{n + 6},0.5,9" for n in range(sets)]
    (tmp_path / "trials.csv").write_text("\n".join([HEAD, *rows]))
    (tmp_path / "sweep.json").write_text(json.dumps({"definition": {}}))
    tiles = sweep_page(sweep_data.SweepData(tmp_path)).tiles
    assert ("sets chosen by", chose) in tiles
    assert ("accuracy on toy, 10% of labels", f"0.{sets + 4}000") in tiles


@pytest.mark.parametrize(("splits", "axis"), [(",split\n", " on the {} split"), ("\n", "")])
@pytest.mark.parametrize("split", ["test", "train"])
def test_a_sweep_says_whose_rows_its_scores_are_of(tmp_path, splits, axis, split):
    lines = [f"t{n},finished,toy,sssom,0.{n},0,0,0.6,0.7,0.5,9,{split}\n" for n in (1, 2)]
    lines = lines if splits.strip() else [line.rpartition(",")[0] + "\n" for line in lines]  # of an earlier version
    (tmp_path / "trials.csv").write_text("".join([HEAD, splits, *lines]))
    (tmp_path / "sweep.json").write_text(json.dumps({"definition": {}}))
    data, said = sweep_data.SweepData(tmp_path), "accuracy" + axis.format(split)
    assert fractions_chart(data, "toy").layout.yaxis.title.text == said
    assert fractions_figure(data, "toy").axes[0].get_ylabel() == said
    text = outcome.page("sssom", data.chosen)
    assert f"| toy | 10 % | 0 | {split if axis else '–'} | 0.6000 | 1 |" in text
    assert ("trained on" in text) is (bool(axis) and split == "train")
    outcome._draw(tmp_path / "drawn.svg", "sssom", data.chosen)
    assert f"<!-- {said} -->" in (tmp_path / "drawn.svg").read_text()


def test_the_distances_of_all_samples_are_the_error_of_the_map(odd):
    data = collect(odd)
    samples, distance = data.measures["samples"], data.measures["error"]
    mean = np.nansum(samples * distance) / samples.sum()
    assert mean == pytest.approx(evaluate_run(str(odd), None, "train")["quantization_error"], rel=1e-6)


def test_nodes_without_neighbours_are_told_below_the_u_matrix(odd):
    data = collect(odd)
    for edges in ([[0, 1]], np.zeros((0, 2), dtype=int)):
        alone = dataclasses.replace(data, edges=np.array(edges))
        planes = next(content for key, _, content, _ in run_page(alone, ()).tabs if key == "planes")
        note = f"of the {data.num_nodes - 2 * len(edges)} without any neighbour, to the nearest one"
        assert note in planes and note in u_matrix_figure(alone).axes[1].get_ylabel()
    pairs = np.array([[n, (n + 1) % data.num_nodes] for n in range(data.num_nodes)])
    together = dataclasses.replace(data, edges=pairs)
    assert u_matrix_figure(together).axes[1].get_ylabel() == "distance to neighbours"


def test_planes_have_their_room_and_no_mark_is_cut(odd):
    data = collect(odd)
    figure = relevances_figure(data)
    figure.savefig(io.BytesIO())
    panels = figure.axes[:2]
    assert [axes.get_title() for axes in panels] == ["<b>x", r"\$\y{\$"]
    for axes in panels:
        assert np.allclose(axes.get_position().bounds, axes.get_position(original=True).bounds)
        marks = axes.collections[-1]
        spots = axes.transData.transform(marks.get_offsets())
        side = np.sqrt(marks.get_sizes()[0]) * figure.dpi / 72
        low, high = axes.get_window_extent().get_points()
        assert (spots - side / 2 >= low).all() and (spots + side / 2 <= high).all()


def test_of_many_classes_the_legend_says_how_many_and_what_is_none(odd, monkeypatch):
    monkeypatch.setattr(figure_parts, "ENTRIES", 3)
    boxes = [make(collect(odd)).axes[0].get_legend() for make in (map_figure, embedding_figure)]
    assert [box.get_title().get_text() for box in boxes] == ["4 classes"] * 2
    assert [[text.get_text() for text in box.get_texts()] for box in boxes] == [[], ["prototypes"]]


def test_marks_of_a_legend_have_one_size(odd):
    for make in (map_figure, embedding_figure):
        handles = make(collect(odd)).axes[0].get_legend().legend_handles
        assert len(handles) >= len(NAMES) and {tuple(handle.get_sizes()) for handle in handles} == {(36.0,)}


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_no_more_moments_are_kept_than_asked_for_and_the_last_is_among_them(tmp_path, most):
    history, state = History(tmp_path / "none", most), blank_state(4, 2, 0)
    for number in range(1, 12):
        alive = state.alive.index_fill(0, torch.tensor(0), True)
        history.add(dataclasses.replace(state, alive=alive, round=number, finished=number == 11), number)
        assert 1 <= len(history.moments) <= most
    assert history.moments[-1].round == 11


def test_curves_begin_where_the_error_was_measured(odd, tmp_path):
    history = History(tmp_path / "none", 0)
    for epoch, error in enumerate((0.0, 0.4, 0.2, 0.0), 1):
        history.note(epoch, {"quantization_error": error, "nodes": 3})
    data = dataclasses.replace(collect(odd), history=history)
    lines = [axes.lines[0].get_xydata().tolist() for axes in curves_figure(data).axes]
    assert lines == [[[2, 0.4], [3, 0.2], [4, 0.0]], [[1, 3], [2, 3], [3, 3], [4, 3]]]
    assert [list(trace.x) for trace in curves_chart(data).data] == [[2, 3, 4], [1, 2, 3, 4]]


def test_curves_of_one_epoch_have_no_half_epochs_or_nodes(odd, tmp_path):
    history = History(tmp_path / "none", 0)
    history.note(1, {"nodes": 3})
    (axes,) = curves_figure(dataclasses.replace(collect(odd), history=history)).axes
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        assert [tick for tick in axis.get_majorticklocs() if low <= tick <= high] == [1 if axis is axes.xaxis else 3]


def test_the_baselines_of_folds_are_those_of_all_folds(tmp_path):
    for fold, seed in (("a", 0), ("b", 1)):
        prepare(open_source("digits", None, SourceOptions(seed=seed)), tmp_path / "folds" / fold)
    lines = []
    for fold in "ab":
        for seed in (0, 1):
            trial = tmp_path / "trials" / f"{fold}{seed}"
            trial.mkdir(parents=True)
            settings = {"data.path": str(tmp_path / "folds" / fold), "train.validation_fraction": 0.2}
            (trial / "run.json").write_text(json.dumps({"settings": settings}))
            lines.append(f"{fold}{seed},finished,toy,sssom,0.1,{seed},0,0.8,0.9,0.5,9,{fold}")
    (tmp_path / "trials.csv").write_text("\n".join([HEAD.strip() + ",fold", *lines]))
    (tmp_path / "sweep.json").write_text(json.dumps({"definition": {}}))
    data, draws = sweep_data.SweepData(tmp_path), [(0.1, 0.2, 0), (0.1, 0.2, 1)]
    for name, values in data.baselines["toy"].items():
        folds = [baselines.baseline_accuracies(str(tmp_path / "folds" / fold), draws)[name][0.1] for fold in "ab"]
        assert values == {0.1: [np.mean(fold) for fold in folds]}
    assert len(data.baselines["toy"]) == 3 and data.by_fraction("toy") == [(0.1, 0.8, 0.0, 2)]


@pytest.mark.parametrize("name", ["2024", "007", "NA"])
def test_a_data_set_whose_name_looks_like_a_number_or_like_nothing_has_a_report(tmp_path, name):
    lines = [f"{name}-1-s{n},finished,{name},sssom,1.0,{n},0,0.8,0.9,0.5,9" for n in range(2)]
    (tmp_path / "trials.csv").write_text("\n".join([HEAD, *lines]))
    (tmp_path / "sweep.json").write_text(json.dumps({"definition": {}}))
    data = sweep_data.SweepData(tmp_path)
    assert data.tables == [name] and data.by_fraction(name) == [(1.0, 0.8, 0.0, 2)]
    assert (f"accuracy on {name}, 100% of labels", "0.8000") in sweep_page(data).tiles


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """A run on a real table, with rows that no class is known of."""
    folder, found = tmp_path_factory.mktemp("wine"), load_wine(as_frame=True)
    frame = found.frame.assign(target=np.array([*found.target_names, ""])[np.where(found.target % 3, found.target, 3)])
    frame.loc[::2, "target"] = found.target_names[found.target[::2]]
    frame.assign(flat=7.0).to_csv(folder / "wine.csv", index=False)
    prepare(open_source("table", folder / "wine.csv", SourceOptions(label_column="target")), folder / "data")
    train(small("sssom", folder / "data", tracking__report=True), folder / "run")
    return folder / "run"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_run_is_opened_and_written_of_by_text_or_path(wine, tmp_path, kind):
    run = kind(wine)
    assert Trained.load(run).digest == Trained.load(wine).digest
    assert model_directory(run) == wine
    assert evaluate_run(run, None, None)["run"] == str(wine)
    made = report_of(run, kind(tmp_path / "page.html"), figures=kind(tmp_path / "figures"))
    assert made["out"] == str(tmp_path / "page.html") and len(made["figures"]) > 2


def test_nodes_are_told_as_tables_in_the_units_of_the_source(wine, tmp_path):
    made = report_of(str(wine), tmp_path / "look.html")
    assert made["tables"] == [str(tmp_path / f"look-{name}.csv") for name in ("nodes", "relevances")]
    for name in ("nodes", "relevances"):
        assert (wine / f"report-{name}.csv").read_bytes() == (tmp_path / f"look-{name}.csv").read_bytes()
    model, dataset = Predictor.load(wine), Dataset.open(wine.parent / "data")
    nodes = pd.read_csv(made["tables"][0], index_col="node")
    assert sorted(nodes.index) == model.state.alive.nonzero().squeeze(1).tolist()
    names = np.array([*model.class_names, "none"])
    assert (nodes["class"].fillna("none") == names[model.state.classes[nodes.index]]).all()
    assert nodes["train_samples"].is_monotonic_decreasing
    for split in ("train", "test"):
        raw, labels = dataset.read_raw(split, slice(None)).numpy(), dataset.labels(split).numpy()
        answers = model.predict(raw)
        won = answers["node"].value_counts().reindex(nodes.index, fill_value=0)
        assert (nodes[f"{split}_samples"] == won).all()
        assert nodes[f"{split}_share"].to_numpy() == pytest.approx((won / len(raw)).to_numpy())
        distance = (1 / answers["activation"] - 1) * model.state.relevances.sum(1).numpy()[answers["node"]]
        means = np.sqrt(distance).groupby(answers["node"]).mean().reindex(nodes.index)
        assert nodes[f"{split}_quantization_error"].to_numpy() == pytest.approx(means.to_numpy(), nan_ok=True)
        if split == "train":
            known = pd.Series(np.array([*model.class_names, None])[labels]).groupby(answers["node"])
            for node, majority in nodes["majority"].items():
                counts = known.get_group(node).value_counts()
                assert majority in counts[counts == counts.max()].index if len(counts) else majority != majority


def test_relevances_are_told_by_the_names_of_the_features(wine):
    model, long = Predictor.load(wine), pd.read_csv(wine / "report-relevances.csv")
    alive = model.state.alive
    raw = pd.read_csv(wine.parent / "wine.csv").drop(columns="target")
    assert len(long) == int(alive.sum()) * 14
    wide = {name: long.pivot(index="node", columns="feature", values=name)[raw.columns] for name in long.columns[2:]}
    assert wide["relevance"].to_numpy() == pytest.approx(model.state.relevances[alive].numpy())
    train_rows = Dataset.open(wine.parent / "data").read_raw("train", slice(None)).numpy().astype(float)
    scaler = MinMaxScaler().fit(train_rows)
    assert wide["prototype"].to_numpy() == pytest.approx(
        scaler.inverse_transform(model.state.prototypes[alive].numpy())
    )
    assert (wide["prototype"]["flat"] == 7).all()
    told = wide["relevance"].drop(columns="flat").rank(axis=1, ascending=False, method="min")
    assert (wide["rank"].drop(columns="flat") == told).all().all()
    assert (wide["relevance"]["flat"] > 0.9).all() and wide["rank"]["flat"].isna().all()
    assert (long["feature"][13::14] == "flat").all()
    assert long.groupby("node", sort=False)["rank"].apply(lambda ranks: ranks[:13].is_monotonic_increasing).all()


def test_a_constant_column_is_never_what_matters(wine):
    data = collect(wine)
    assert all(len(set(row.split(", "))) == 5 and "flat" not in row for row in telling_features(data))
    page = run_page(data, ("pca",))
    columns = [name for info in page.data["nodes"] for member in info["members"] for name, _ in member["v"]]
    assert columns and "flat" not in columns
    only = dataclasses.replace(data, relevances=np.where(data.constant, 1.0, 0.5) * np.ones_like(data.relevances))
    assert telling_features(only) == []


def test_the_page_lists_the_nodes_and_links_their_tables(wine):
    page = (wine / PAGE).read_text()
    for name in ("nodes", "relevances"):
        assert f'<a href="report-{name}.csv">report-{name}.csv</a>' in page
    first = pd.read_csv(wine / "report-relevances.csv")
    ranked = first[first["node"] == pd.read_csv(wine / "report-nodes.csv")["node"][0]]["feature"]
    assert f"<td>{', '.join(ranked[:5])}</td>" in page


def test_pixels_have_no_table_of_relevances_and_nodes_without_data_no_samples(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "data")
    train(small("kohonen", tmp_path / "data"), tmp_path / "run")
    made = report_of(str(tmp_path / "run"), tmp_path / "a.html")
    assert made["tables"] == [str(tmp_path / "a-nodes.csv")] and len(pd.read_csv(tmp_path / "a-nodes.csv")) == 64
    (tmp_path / "data").rename(tmp_path / "moved")
    made = report_of(str(tmp_path / "run"), tmp_path / "b.html")
    assert list(pd.read_csv(made["tables"][0])) == ["node", "class", "majority"]


def test_a_table_that_is_long_is_left_to_the_command(wine, tmp_path):
    assert [path.name for path in write_tables(collect(wine), tmp_path / "p.html", 10)] == ["p-nodes.csv"]
    with pytest.raises(UserError, match="--out must be in a folder that can be written. Got '.*p-nodes.csv': "):
        write_tables(collect(wine), tmp_path / "p-nodes.csv" / "p.html")
