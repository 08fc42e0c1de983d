"""The harness on a tiny table: nothing selects on what it must not see, nothing depends on how it was run."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.semi_supervised import LabelPropagation

from pipeline.benchmarks.uci import fitting, tables
from pipeline.benchmarks.uci.command import Options, benchmark
from pipeline.benchmarks.uci.fitting import Training
from pipeline.benchmarks.uci.methods import METHODS
from pipeline.benchmarks.uci.plan import honest_choice
from pipeline.benchmarks.uci.store import Cell, Store
from pipeline.benchmarks.uci.units import Design, Unit, work
from pipeline.errors import UserError
from pipeline.sweeps.published_spaces import SPACES, pick, shortened
from pipeline.sweeps.screening import library

ROWS = 45


def write_table(folder, name="glass", seed=0, flip_test_labels=False):
    """Three repetitions of three folds over 45 rows of three blobs, as the released tables are laid out."""
    rng = np.random.default_rng(seed)
    y = np.arange(ROWS) % 3
    x = np.clip(rng.normal(0.15, 0.08, (ROWS, 2)) + 0.35 * y[:, None] * np.array([1, 0.5]), 0, 1)
    parts = []
    for repetition in (1, 2, 3):
        place = rng.permutation(ROWS) % 3
        for fold in (1, 2, 3):
            for split in ("train", "test"):
                rows = np.flatnonzero((place == fold - 1) == (split == "test"))
                masks = {f"labelled_s{f:02d}": rng.random(len(rows)) < f / 100 for f in tables.FRACTIONS if f < 100}
                masks["labelled_s10"][:8] = True
                labels = (y[rows] + 1) % 3 if flip_test_labels and split == "test" else y[rows]
                parts.append(
                    pa.table(
                        {
                            "rep": np.full(len(rows), repetition),
                            "fold": np.full(len(rows), fold),
                            "split": [split] * len(rows),
                            "x0": x[rows, 0],
                            "x1": x[rows, 1],
                            "y": labels,
                            **masks,
                        }
                    )
                )
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.concat_tables(parts), folder / f"{name}.parquet")
    return folder


@pytest.fixture
def data(tmp_path):
    return write_table(tmp_path / "data")


def run(data, out, **changes):
    tables.load.cache_clear()
    settings = {
        "models": "sssom,label-propagation,majority",
        "fractions": "10,100",
        "samples": 3,
        "inner_samples": 2,
        "protocols": "defaults,oracle,lofo,honest",
        "max_epochs": 3,
    }
    options = Options(data=data, out=out, **{**settings, **changes})
    return benchmark(options, changes.pop("processes", 0), None, lambda line: None)


def test_every_cell_is_made_and_made_once(data, tmp_path):
    first = run(data, tmp_path / "out")
    assert first["missing"] == 0
    size = {p: p.stat().st_size for p in (tmp_path / "out").rglob("*.jsonl")}
    assert run(data, tmp_path / "out")["cells"] == first["cells"]
    assert {p: p.stat().st_size for p in (tmp_path / "out").rglob("*.jsonl")} == size
    cells = {(c["protocol"], c["method"], c["readout"], c["fraction"]) for c in first["cells"]}
    for fraction in (10, 100):
        for protocol in ("oracle", "lofo", "honest"):
            assert (protocol, "sssom", "", fraction) in cells
        assert ("honest", "majority", "", fraction) in cells
    assert "| 100 % | not run |" in first["markdown"]  # breast is absent
    assert "their files are absent: breast, diabetes, liver, pendigits, shape, vowel" in first["markdown"]


def test_results_do_not_depend_on_processes_or_on_interruptions(data, tmp_path):
    whole = run(data, tmp_path / "a", models="label-propagation,majority")
    run(data, tmp_path / "b", models="label-propagation", samples=1, protocols="oracle")
    pieces = run(data, tmp_path / "b", models="label-propagation,majority")
    assert pieces["cells"] == whole["cells"]
    settings = {"models": "label-propagation,majority", "fractions": "10,100", "samples": 3, "inner_samples": 2}
    options = Options(data=data, out=tmp_path / "c", protocols="defaults,oracle,lofo,honest", max_epochs=3, **settings)
    assert benchmark(options, 2, None, lambda line: None)["cells"] == whole["cells"]


def test_a_budget_of_nothing_starts_nothing(data, tmp_path):
    asked = {"samples": 2, "inner_samples": 1, "models": "majority", "command": "uci --no-search --seed 0 --no-confirm"}
    result = benchmark(Options(data=data, out=tmp_path / "out", **asked), 0, 0.0, lambda line: None)
    assert result["missing"] == 7
    assert "not run" in result["markdown"]
    named = "- Command: `uci --seed 0` (resumes; work is kept in --out;\n  the page was last written with --no-search"
    assert named in result["markdown"], "the command on the page does the work that the page shows"


def test_without_screening_no_compiled_loop_trains_and_nothing_that_one_trained_is_taken(data, tmp_path, monkeypatch):
    asked = {"models": "altsssom", "fractions": "100", "samples": 1, "inner_samples": 1, "max_epochs": 1}
    asked["protocols"] = "honest,clustering"
    if library() is not None:
        run(data, tmp_path / "out", **asked)

    def refused(*_):
        raise AssertionError("compiled loops")

    monkeypatch.setattr(fitting, "screen_map", refused)
    found = run(data, tmp_path / "out", **asked, screening=False)
    assert found["missing"] == 0 and "- Screening: none, every map was trained by somcore" in found["markdown"]
    assert "are looked at by compiled loops" not in found["markdown"]
    kinds = {place.name: len(list(place.glob("*.jsonl"))) for place in (tmp_path / "out").iterdir() if place.is_dir()}
    assert kinds["inner-somcore"] == 1 and kinds["clustering"] == 1
    alone = run(data, tmp_path / "alone", **asked, screening=False)
    assert found["cells"] == alone["cells"]


def test_the_honest_choice_never_sees_a_test_label(tmp_path):
    """Every test label is wrong in the second table: choices stay, scores do not."""
    choices, scores = [], []
    for name, flipped in (("a", False), ("b", True)):
        data = write_table(tmp_path / name, flip_test_labels=flipped)
        result = run(data, tmp_path / f"out-{name}", protocols="honest", models="sssom,label-propagation")
        store = Store(tmp_path / f"out-{name}").open(tmp_path / f"out-{name}", Design(data, max_epochs=3).describe())
        request = Options(data=data, out=tmp_path).request(data)
        choices.append(
            [
                honest_choice(store, request, Cell("test", "glass", method, fraction), 2)
                for method in ("sssom", "label-propagation")
                for fraction in (10, 100)
            ]
        )
        scores.append([cell["mean"] for cell in result["cells"] if cell["protocol"] == "honest"])
    assert choices[0] == choices[1] and None not in choices[0]
    assert scores[0] != scores[1]


def test_the_oracle_does_see_them(tmp_path):
    """The counterpart (defect 26): what selects on test labels is not an honest result."""
    results = []
    for name, flipped in (("a", False), ("b", True)):
        data = write_table(tmp_path / name, flip_test_labels=flipped)
        results.append(run(data, tmp_path / f"out-{name}", protocols="oracle", models="label-propagation", samples=5))
    means = [[c["mean"] for c in r["cells"] if c["protocol"] == "oracle"] for r in results]
    assert means[0] != means[1]


def test_held_out_rows_stay_in_training_without_their_label(data, monkeypatch):
    seen = []

    def fit(values, training, asked):
        seen.append((training, asked))
        return METHODS["majority"].fit(values, training, asked)

    monkeypatch.setitem(
        METHODS, "label-propagation", METHODS["label-propagation"].__class__("x", fit, "label-propagation")
    )
    tables.load.cache_clear()
    work(Unit(Cell("inner", "glass", "label-propagation", 100), 0, (0,)), Design(data))
    fold = tables.load(data / "glass.parquet").folds[0]
    for training, asked in seen:
        assert torch.equal(training.features, fold.features)
        hidden = training.labels == -1
        assert torch.equal(training.features[hidden].sort(0).values, asked.sort(0).values)
    assert sum(int((t.labels == -1).sum()) for t, _ in seen) == len(fold.features)


def test_missing_labels_are_the_integer_minus_one(data):
    """Defect 25: the string "-1" is an ordinary class for scikit-learn, and its curves follow the label fraction."""
    tables.load.cache_clear()
    fold = tables.load(data / "glass.parquet").folds[0]
    labels = fold.labels(10)
    values = {"kernel": "rbf", "gamma": 20.0, "n_neighbors": 3, "max_iter": 50}
    answer = METHODS["label-propagation"].fit(values, Training(fold.features, labels, 3, 0), fold.test_features)
    assert -1 not in answer.classes[""].tolist()
    right = float((answer.classes[""] == fold.test_classes).double().mean())
    as_text = LabelPropagation(gamma=20.0).fit(fold.features.numpy(), labels.numpy().astype(str))
    text = as_text.predict(fold.test_features.numpy())
    assert "-1" in text.tolist()
    assert right > float(np.mean(text == fold.test_classes.numpy().astype(str))) + 0.2


def test_masks_and_folds_are_read_from_the_file_and_features_as_they_are(data):
    """Defect 27: scaling and splits belong to the released files; the harness adds neither seed nor scaling."""
    tables.load.cache_clear()
    table = tables.load(data / "glass.parquet")
    raw = pq.read_table(data / "glass.parquet").to_pandas()
    assert len(table.folds) == 9 and table.num_classes == 3 and len(table.features) == ROWS
    for fold in table.folds:
        rows = raw[(raw.rep == fold.repetition) & (raw.fold == fold.fold) & (raw.split == "train")]
        assert np.array_equal(fold.features.numpy(), rows[["x0", "x1"]].to_numpy())
        assert np.array_equal((fold.labels(25) >= 0).numpy(), rows.labelled_s25.to_numpy())
        assert torch.equal(fold.labels(100), fold.classes)


def test_a_drawn_readout_changes_the_last_step_only(data):
    tables.load.cache_clear()
    fold = tables.load(data / "glass.parquet").folds[0]
    training = Training(fold.features, fold.labels(25), 3, 0)
    drawn = {**pick(shortened(SPACES["sssom"], 3), "sssom", 0), "readout_nodes": 3, "readout_smoothness": 0.1}
    answers = {
        rule: METHODS["sssom"].fit({**drawn, "readout": rule}, training, fold.test_features)
        for rule in ("own", "vote", "graph")
    }
    own = answers["own"]
    assert torch.equal(own.classes[""], own.classes["drawn"])
    for answer in answers.values():
        assert torch.equal(answer.classes[""], own.classes[""]) and answer.nodes == own.nodes
        assert float((answer.classes["drawn"] == fold.test_classes).double().mean()) > 0.6
    assert "drawn" in METHODS["sssom"].fit({}, training, fold.test_features).classes


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"models": "sssom,svm"}, "--models must name some of .* Got 'svm'"),
        ({"fractions": "2"}, "--fractions must name"),
        ({"samples": 0}, "--samples must be >= 1. Got 0."),
        ({"protocols": ""}, "--protocols must name at least one"),
    ],
)
def test_wrong_options_are_named(data, tmp_path, options, text):
    with pytest.raises(UserError, match=text):
        run(data, tmp_path / "out", **options)


def test_a_folder_without_tables_is_named(tmp_path):
    with pytest.raises(UserError, match="--data must hold one of"):
        run(tmp_path, tmp_path / "out")
