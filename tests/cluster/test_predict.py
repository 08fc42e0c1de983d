"""Batch prediction: order and keys stay, bad rows are set aside, finished files are not made again."""

import csv
import dataclasses
import resource
import shutil
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from jobs._exit import exit_code
from jobs.predict import predict as command
from pipeline.errors import UserError, line_of
from pipeline.predictor import Predictor
from pipeline.prepare import PrepareOptions, prepare
from pipeline.prepared.samples import InputSpec
from pipeline.prepared.shards import Dataset
from pipeline.serving.pieces import Piece, cut_input
from pipeline.serving.predict import Scorer, batch_rows, predict
from pipeline.serving.readable import check_schema, samples_of
from pipeline.sources import SourceOptions, open_source
from pipeline.training.trainer import train
from tests.training import small, table


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, 80)
    names = [f"r{n:03d}" for n in range(80)]
    return pd.DataFrame({"id": names, "x1": generator.normal(labels, 0.1), "x0": generator.normal(9 * labels)})


@pytest.fixture(scope="module")
def model(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    data = table(folder / "table", rows[["x0", "x1"]].to_numpy(), (rows["x1"] > 0.5).to_numpy().astype(int))
    train(small("sssom", data, train__labelled_fraction=1.0), folder / "run")
    return folder / "run"


@pytest.fixture
def source(rows, tmp_path):
    """Two files of 50 and 30 rows in row groups of ten; row 12 has no x0, row 61 an infinite x1."""
    bad = rows.copy()
    bad.loc[12, "x0"], bad.loc[61, "x1"] = np.nan, np.inf
    folder = tmp_path / "in"
    folder.mkdir()
    for name, part in (("a", bad[:50]), ("b", bad[50:])):
        pq.write_table(pa.Table.from_pandas(part, preserve_index=False), folder / f"{name}.parquet", row_group_size=10)
    return folder


@pytest.mark.parametrize("actors", [0, 2])
def test_answers_in_order_with_keys_and_bad_rows_aside(ray_cluster, model, rows, source, tmp_path, actors):
    done = predict(model, source, tmp_path / "out", key_column="id", actors=actors, piece_rows=20)
    assert (done["rows"], done["scored"], done["errors"], done["files"]) == (80, 78, 2, 5)
    answers = pd.read_parquet(tmp_path / "out")
    good = rows.drop([12, 61])
    assert answers["key"].tolist() == good["id"].tolist()
    expected = Predictor.load(model)(good)
    assert answers["class"].tolist() == expected["class"].tolist()
    assert answers["node"].tolist() == expected["node"].tolist()
    assert answers["confidence"].to_numpy() == pytest.approx(expected["confidence"].to_numpy())
    with open(tmp_path / "out" / "_errors.csv") as file:
        errors = list(csv.DictReader(file))
    assert [(e["row"], e["key"]) for e in errors] == [("12", "r012"), ("11", "r061")]
    assert (
        errors[1]["file"].endswith("b.parquet")
        and errors[0]["reason"] == "a value is missing, infinite or beyond float32"
    )


@pytest.mark.parametrize("row_bytes, count", [
    (1, 8192), (8 << 10, 8192), (16_000, 4096), (32 << 10, 2048), (100_000, 671), (1 << 30, 1)
])  # fmt: skip
def test_large_samples_are_read_in_small_batches_and_others_in_whole_tiles(model, row_bytes, count):
    spec = dataclasses.replace(Predictor.load(model).spec, shape=(row_bytes,), dtype="uint8")
    assert batch_rows(spec) == count


def test_a_prediction_in_this_process_leaves_it_its_threads(model, source, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predict(model, source, tmp_path / "out", actors=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_batches_of_few_rows_give_the_same_answers(model, source, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        Scorer, "_score", lambda *given, do=Scorer._score: sizes.append(given[1].num_rows) or do(*given)
    )
    predict(model, source, tmp_path / "whole", actors=0)
    assert max(sizes) == 50
    sizes.clear()
    monkeypatch.setattr("pipeline.serving.predict.BATCH_BYTES", 7 * 2 * 4)  # of two float32
    predict(model, source, tmp_path / "parts", actors=0)
    assert max(sizes) == 7
    whole, parts = (pd.read_parquet(tmp_path / name) for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts)


def test_only_missing_files_are_made(model, source, tmp_path):
    predict(model, source, tmp_path / "out", actors=0, piece_rows=20)
    files = sorted((tmp_path / "out").glob("*.parquet"))
    content = files[2].read_bytes()
    kept = {path: path.stat().st_mtime_ns for path in files if path != files[2]}
    files[2].unlink()
    again = predict(model, source, tmp_path / "out", actors=0, piece_rows=20)
    assert again["kept_files"] == 4 and again["errors"] == 2
    assert files[2].read_bytes() == content
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    keys = pd.read_parquet(tmp_path / "out")["key"].tolist()
    assert keys == [n for n in range(80) if n not in (12, 61)], "without a column of keys they are row numbers"


def test_files_of_the_same_name_in_several_folders_have_answers_each(model, rows, tmp_path):
    for name, part in (("a", rows[:50]), ("b", rows[50:])):
        (tmp_path / "in" / name).mkdir(parents=True)
        part.to_parquet(tmp_path / "in" / name / "part-0.parquet")
    predict(model, tmp_path / "in", tmp_path / "out", actors=0)
    keys = [key for path in (tmp_path / "out").rglob("*.parquet") for key in pd.read_parquet(path)["key"]]
    assert sorted(keys) == list(range(80))


def test_a_piece_begins_where_the_one_before_it_ends(model, rows, tmp_path):
    pq.write_table(pa.Table.from_pandas(rows[:50]), tmp_path / "in.parquet", row_group_size=10)
    pieces, _ = cut_input(tmp_path / "in.parquet", Predictor.load(model).spec, "id", 15)
    assert [(piece.start, piece.rows) for piece in pieces] == [(0, 20), (20, 20), (40, 10)]


def test_the_row_that_cannot_be_read_is_set_aside_whatever_is_wrong_with_others(model):
    batch = pa.record_batch({"features": [[1.0], [2.0, np.nan], [3.0, 4.0]]})
    values, reasons = samples_of(batch, Predictor.load(model).spec)
    assert values.tolist() == [[3.0, 4.0]] and [reason is None for reason in reasons] == [False, False, True]


def test_columns_of_a_file_may_stand_in_another_order(model):
    batch = pa.record_batch({"x1": [1.0, 2.0], "name": ["a", "b"], "x0": [3.0, 4.0]})
    assert samples_of(batch, Predictor.load(model).spec)[0].tolist() == [[3.0, 1.0], [4.0, 2.0]]


def test_pixels_of_another_type_are_refused():
    pixels = InputSpec("image", (1, 1, 2), "uint8", (0.0,), (255.0,), None, "error")
    for wide in (pa.int64(), pa.uint16()):  # 256 would be 0
        with pytest.raises(UserError, match="must hold uint8"):
            check_schema(pa.schema([("features", pa.list_(wide))]), pixels, "in.parquet")


def test_rows_that_the_map_would_not_accept_are_counted(model, rows, tmp_path, capsys):
    far = rows.copy()
    far.loc[:2, ["x0", "x1"]] = 1e6
    far.to_parquet(tmp_path / "far.parquet")
    wanted = int((Predictor.load(model)(far)["novelty"] > 0.5).sum())
    assert 3 <= wanted < 80
    for _ in range(2):  # made, and found in place
        done = command(model=str(model), input=tmp_path / "far.parquet", output=tmp_path / "out", actors=0)
        last = capsys.readouterr().err.splitlines()[-1]
        assert done["beyond"] == wanted
        far = f"{wanted} of them beyond the map (novelty > 0.5: compare with the training rows, docs/operations.md)"
        assert last.startswith(f"80 rows scored, {far}; 1 file in ")


def test_numbers_of_every_kind_that_is_prepared_are_scored(model, rows, tmp_path):
    """Integers that a float64 does not hold are rounded, as they are in training; decimals are numbers."""
    large = np.where(np.arange(80) == 7, 2**53 + 1, np.round(rows["x0"]).astype(np.int64))
    parts = np.round(rows["x1"], 3)
    wanted = Predictor.load(model)(pd.DataFrame({"x0": large.astype(float), "x1": parts}))
    exact = pa.array([Decimal(f"{value:.3f}") for value in parts], pa.decimal128(8, 3))
    given = pa.table({"x0": large, "x1": exact})
    pq.write_table(given, tmp_path / "in.parquet")
    predict(model, tmp_path / "in.parquet", tmp_path / "out", actors=0)
    assert pd.read_parquet(tmp_path / "out")["novelty"].tolist() == wanted["novelty"].tolist()
    pd.testing.assert_frame_equal(Predictor.load(model)(given), wanted)


def test_what_cannot_be_read_is_said_before_anything_is_written(model, rows, source, tmp_path):
    for change, sentence in (
        (
            {"columns": {"x0": "X0"}},
            "columns 'x0' must be there. Got id, x1, X0. Add .* does not occur is a column of 0.",
        ),
        ({"columns": {"id": "x0", "x0": "y"}}, "column 'x0' must hold numbers. Got (large_)?string"),
    ):
        renamed = pa.Table.from_pandas(rows.rename(**change), preserve_index=False)
        pq.write_table(renamed, source / "c.parquet")
        with pytest.raises(UserError, match=sentence):
            predict(model, source, tmp_path / "out", actors=0)
    (source / "c.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="c.parquet cannot be read as parquet"):
        predict(model, source, tmp_path / "out", actors=0)
    (tmp_path / "new.csv").write_text("x0,x1\n1,2\n")
    with pytest.raises(UserError, match="Other files are prepared first: jobs.prepare"):
        predict(model, tmp_path / "new.csv", tmp_path / "out", actors=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float64(), 3)])
def test_data_of_another_kind_are_refused_by_what_the_model_takes(model, tmp_path, kind):
    def write(name, rows):
        pq.write_table(pa.table({"features": pa.array(rows, kind)}), tmp_path / name)

    write("other.parquet", [[1.0, 2.0, 3.0]] * 5)
    sentence = (
        r"other.parquet: column 'features' must have 2 values in a row: "
        r"the model was trained on a table with the columns 'x0', 'x1'. Got 3.$"
    )
    with pytest.raises(UserError, match=sentence):
        predict(model, tmp_path / "other.parquet", tmp_path / "out", actors=0)
    assert not (tmp_path / "out").exists()
    if kind == pa.list_(pa.float64()):  # a row among others is set aside, as ever
        write("mixed.parquet", [[1.0, 2.0, 3.0], None, [1.0, 2.0]])
        done = predict(model, tmp_path / "mixed.parquet", tmp_path / "out", actors=0)
        assert (done["scored"], done["errors"]) == (1, 2)


def test_images_are_no_rows_of_a_table(model, digits, tmp_path):
    with pytest.raises(UserError, match=r"must have 2 values in a row: the model was trained on .*Got 64.$"):
        predict(model, digits / "test", tmp_path / "out", actors=0)
    assert not (tmp_path / "out").exists()


def test_a_column_of_keys_that_is_asked_for_must_be_there(model, source, tmp_path):
    for name, sentence in (
        ("idd", r"a.parquet: --key-column must be a column that is there. Got 'idd'. Did you mean 'id'\?$"),
        ("ID", r"Got 'ID'. Did you mean 'id'\?$"),
        ("key", r"Got 'key'. There are id, x1, x0\.$"),
    ):
        with pytest.raises(UserError, match=sentence):
            predict(model, source, tmp_path / "out", key_column=name, actors=0)
    assert not (tmp_path / "out").exists()


def test_keys_of_two_types_are_refused_and_a_file_without_rows_is_a_piece(model, rows, source):
    spec, schema = Predictor.load(model).spec, pa.Table.from_pandas(rows, preserve_index=False).schema
    for name in ("a", "b"):
        (source / f"{name}.parquet").unlink()
        pq.ParquetWriter(source / f"{name}.parquet", schema).close()
    path = source / "a.parquet"
    assert cut_input(path, spec, "id", 20) == ([Piece(str(path), 0, 0, 0, 0, 0, "a-00000")], True)
    pq.write_table(pa.Table.from_pandas(rows.assign(id=range(80)), preserve_index=False), source / "b.parquet")
    with pytest.raises(UserError, match="b.parquet: column 'id' must be as in .*a.parquet"):
        cut_input(source, spec, "id", 20)


def test_an_output_of_something_else_is_refused(model, source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="must be empty, or hold answers to go on with"):
        predict(model, source, tmp_path / "full", actors=0)
    predict(model, source / "a.parquet", tmp_path / "out", actors=0)
    with pytest.raises(UserError, match="holds the answers of another input. Give another --output"):
        predict(model, source / "b.parquet", tmp_path / "out", actors=0)
    with pytest.raises(UserError, match="holds the answers of another --rows-per-file. Give another --output"):
        predict(model, source / "a.parquet", tmp_path / "out", actors=0, piece_rows=20)
    with pytest.raises(UserError, match="--input must be a parquet file or a folder of such"):
        predict(model, tmp_path / "nothing", tmp_path / "new", actors=0)


def test_other_rows_in_a_file_of_the_same_size_are_another_input(model, rows, tmp_path):
    plain = pa.Table.from_pandas(rows[["x0", "x1"]], preserve_index=False)
    pq.write_table(plain, tmp_path / "in.parquet", compression="none", use_dictionary=False)
    predict(model, tmp_path / "in.parquet", tmp_path / "out", actors=0)
    size = (tmp_path / "in.parquet").stat().st_size
    pq.write_table(plain[::-1], tmp_path / "in.parquet", compression="none", use_dictionary=False)
    assert (tmp_path / "in.parquet").stat().st_size == size
    with pytest.raises(UserError, match="holds the answers of another input"):
        predict(model, tmp_path / "in.parquet", tmp_path / "out", actors=0)


def test_answers_below_the_input_are_refused(model, source):
    for inside in (source, source / "answers"):
        with pytest.raises(UserError, match="--output must be a directory outside of --input"):
            predict(model, source, inside, actors=0)
    assert sorted(path.name for path in source.iterdir()) == ["a.parquet", "b.parquet"]


def test_folders_that_are_named_as_files_are_looked_into(model, source, tmp_path):
    (source / "parts.parquet").mkdir()
    (source / "b.parquet").rename(source / "parts.parquet" / "part-0.parquet")
    (source / ".ipynb_checkpoints").mkdir()  # of another tool
    shutil.copy(source / "a.parquet", source / ".ipynb_checkpoints" / "a-checkpoint.parquet")
    assert predict(model, source, tmp_path / "out", actors=0)["rows"] == 80


def test_columns_that_are_there_twice_are_refused(model, rows, tmp_path):
    columns = [pa.array(rows[name]) for name in ("x0", "x1", "x1")]
    pq.write_table(pa.table(columns, names=["x0", "x1", "x1"]), tmp_path / "in.parquet")
    with pytest.raises(UserError, match="column 'x1' must be there once. Got 2 of that name"):
        predict(model, tmp_path / "in.parquet", tmp_path / "out", actors=0)


def test_a_feature_may_be_called_as_the_column_of_whole_samples_is(tmp_path):
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, 40)
    frame = pd.DataFrame({"features": generator.normal(labels, 0.1), "x": generator.normal(labels, 0.1), "y": labels})
    frame.to_parquet(tmp_path / "t.parquet")
    out, options = tmp_path / "data", SourceOptions(label_column="y")
    prepare(open_source("table", tmp_path / "t.parquet", options), out, PrepareOptions())
    train(small("sssom", out, train__labelled_fraction=1.0), tmp_path / "run")
    predict(tmp_path / "run", tmp_path / "t.parquet", tmp_path / "answers", actors=0)
    answers, model = pd.read_parquet(tmp_path / "answers"), Predictor.load(tmp_path / "run")
    assert answers["node"].tolist() == model(frame)["node"].tolist()
    assert (answers["class"].astype(int) == labels).mean() > 0.9
    shards = pd.concat(pd.read_parquet(out / split) for split in ("train", "test"))
    assert len(model(shards[["features"]])) == 40, "one column of whole samples, where the others are not there"


def test_an_enormous_value_is_beyond_a_deep_map(rows, tmp_path):
    labels = (rows["x1"] > 0.5).to_numpy().astype(int)
    data = table(tmp_path / "table", rows[["x0", "x1"]].to_numpy(), labels)
    quick = {"map__epochs": 1, "encoder__width": 4, "encoder__dim": 8, "loss__relevance_warmup_rounds": 0}
    train(small("deep", data, train__labelled_fraction=1.0, **quick), tmp_path / "run")
    far = rows.copy()
    far.loc[3, "x0"] = 3e38
    far.to_parquet(tmp_path / "far.parquet")
    done = predict(tmp_path / "run", tmp_path / "far.parquet", tmp_path / "out", actors=0)
    answers = pd.read_parquet(tmp_path / "out")
    assert (done["scored"], done["errors"]) == (80, 0) and done["beyond"] >= 1
    row = answers.iloc[3]
    assert (row["node"], row["activation"], row["novelty"]) == (-1, 0.0, 1.0) and pd.isna(row["class"])
    whole = Predictor.load(tmp_path / "run")(rows)
    assert answers["node"].drop(3).tolist() == whole["node"].drop(3).tolist()


def test_what_goes_wrong_in_an_actor_is_said_as_it_is_here(ray_cluster, model, source, tmp_path):
    out = tmp_path / "out"
    predict(model, source / "a.parquet", out, actors=0)
    shutil.rmtree(out / "_errors")
    (out / "_errors").write_text("no folder")
    for file in out.glob("*.parquet"):
        file.unlink()
    for actors in (0, 1):
        with pytest.raises((OSError, UserError)) as told:
            predict(model, source / "a.parquet", out, actors=actors)
        assert line_of(told.value) == f"'{out}/_errors': File exists." and exit_code(told.value) == 2


def test_a_full_disk_is_said_with_the_file(model, source, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/out/.*-00000.parquet'"):
            predict(model, source, tmp_path / "out", actors=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_images_as_prepared(digits, tmp_path):
    train(small("kohonen", digits), tmp_path / "run")
    done = predict(tmp_path / "run", digits / "test", tmp_path / "out", actors=0)
    answers = pd.read_parquet(tmp_path / "out")
    assert done["errors"] == 0 and len(answers) == done["rows"] == 359
    assert answers["class"].isna().all() and (answers["node"] >= 0).all()
    assert answers["key"].tolist() == pd.read_parquet(digits / "test", columns=["key"])["key"].tolist()


@pytest.mark.parametrize("kind", [pa.list_(pa.uint8()), pa.list_(pa.uint8(), 64)], ids=["list", "fixed"])
def test_an_image_with_a_missing_pixel_is_set_aside(digits, tmp_path, kind):
    train(small("kohonen", digits), tmp_path / "run")
    images = Dataset.open(digits).read_raw("test", np.arange(4)).flatten(1).tolist()
    whole = Predictor.load(tmp_path / "run")(np.array(images, np.uint8).reshape(4, 1, 8, 8))["node"].tolist()
    images[1][5] = None
    pq.write_table(pa.table({"features": pa.array(images, kind)}), tmp_path / "in.parquet")
    done = predict(tmp_path / "run", tmp_path / "in.parquet", tmp_path / "out", actors=0)
    answers = pd.read_parquet(tmp_path / "out")
    assert done["errors"] == 1 and answers["key"].tolist() == [0, 2, 3]
    assert answers["node"].tolist() == [whole[0], *whole[2:]]
    reasons = pd.read_csv(tmp_path / "out" / "_errors.csv")["reason"].tolist()
    assert reasons == ["a value is missing, infinite or beyond float32"]


def test_answers_of_another_network_are_not_gone_on_with(digits, tmp_path):
    """Classifiers have the same map, however they were trained."""
    settings = {"data.path": str(digits), "train.model": "supervised", "cluster.workers": 0, "tracking.uri": "none"}
    settings |= {"map.epochs": 1, "encoder.width": 4, "encoder.dim": 8}
    for seed in (0, 1):
        train(settings | {"train.seed": seed}, tmp_path / f"run-{seed}")
    maps = [Predictor.load(tmp_path / f"run-{seed}") for seed in (0, 1)]
    assert maps[0].state.digest() == maps[1].state.digest() and maps[0].about["digest"] != maps[1].about["digest"]
    predict(tmp_path / "run-0", digits / "test", tmp_path / "out", actors=0)
    with pytest.raises(UserError, match="holds the answers of another model. Give another --output"):
        predict(tmp_path / "run-1", digits / "test", tmp_path / "out", actors=0)
    assert predict(tmp_path / "run-0", digits / "test", tmp_path / "out", actors=0)["kept_files"] == 1


def test_shards_of_a_table_with_columns_in_another_order_are_refused(model, rows, tmp_path):
    from pipeline.sources import SourceOptions, open_source

    for name, order in (("same", ["x0", "x1"]), ("turned", ["x1", "x0"])):
        rows[order].to_csv(tmp_path / f"{name}.csv", index=False)
        source = open_source("table", tmp_path / f"{name}.csv", SourceOptions(test_fraction=0.0))
        prepare(source, tmp_path / name)
    assert predict(model, tmp_path / "same" / "train", tmp_path / "out", actors=0)["scored"] == 80
    for source in (tmp_path / "turned", tmp_path / "turned" / "train", next((tmp_path / "turned").rglob("*.parquet"))):
        with pytest.raises(UserError, match="whose column 1 is 'x0'. Got 'x1'. Prepare .* order of the model: x0, x1."):
            predict(model, source, tmp_path / "other", actors=0)
    rows.rename(columns={"x0": "x2"})[["x1", "x2"]].to_csv(tmp_path / "fewer.csv", index=False)
    prepare(open_source("table", tmp_path / "fewer.csv", SourceOptions(test_fraction=0.0)), tmp_path / "fewer")
    with pytest.raises(UserError, match="It lacks x0. Add what is missing; a category that does not occur is a column"):
        predict(model, tmp_path / "fewer" / "train", tmp_path / "other", actors=0)
    assert not (tmp_path / "other").exists()


def test_a_manifest_of_another_program_is_no_data_set(model, rows, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "my web app"}')
    (tmp_path / "data").mkdir()
    rows.to_parquet(tmp_path / "data" / "in.parquet", index=False)
    assert predict(model, tmp_path / "data" / "in.parquet", tmp_path / "out", actors=0)["scored"] == 80


def test_recordings_at_another_rate_are_refused_though_they_are_as_long(tmp_path):
    from pipeline.sources import SourceOptions, open_source
    from tests.raw_files import write_wav

    for number in range(4):
        tone = 9000 * np.sin(np.arange(80) * (number % 2 + 1))
        write_wav(tmp_path / "words" / "ab"[number % 2] / f"{number}.wav", tone.astype(np.int16))
    for rate in (8000, 16000):
        options = SourceOptions(duration_s=80 / rate, sample_rate=rate, test_fraction=0.0)
        prepare(open_source("audio", tmp_path / "words", options), tmp_path / str(rate))
    train(small("kohonen", tmp_path / "8000", map__rows=2, map__columns=2, map__epochs=1), tmp_path / "run")
    assert predict(tmp_path / "run", tmp_path / "8000" / "train", tmp_path / "out", actors=0)["scored"] == 4
    shard = next((tmp_path / "16000").rglob("*.parquet"))
    for source in (tmp_path / "16000", tmp_path / "16000" / "train", shard):
        with pytest.raises(
            UserError, match="--input must be recordings at 8000 Hz, as the model .* Got 16000. Prepare"
        ):
            predict(tmp_path / "run", source, tmp_path / "other", actors=0)
    longer = SourceOptions(duration_s=1.0, sample_rate=8000, test_fraction=0.0)
    prepare(open_source("audio", tmp_path / "words", longer), tmp_path / "longer")
    with pytest.raises(UserError, match="Got 8000. Prepare it with --duration 0.01 --sample-rate 8000."):
        predict(tmp_path / "run", tmp_path / "longer" / "train", tmp_path / "other", actors=0)
    assert not (tmp_path / "other").exists()
