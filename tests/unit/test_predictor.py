"""A trained model as its users meet it: raw samples in, through Python, MLflow and a plain directory."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from pipeline.errors import UserError
from pipeline.predictor import Predictor
from pipeline.prepared.shards import Dataset
from pipeline.report.collect import collect
from pipeline.training.rundir import RunDirectory
from pipeline.training.trainer import train
from somcore.config import MapConfig
from somcore.matching import class_errors, class_probabilities, match, predict_classes, predict_nodes
from tests.training import save_model, small, table

COLUMNS = ["class", "confidence", "node", "activation", "novelty"]


@pytest.fixture(scope="module")
def images(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("images") / "run"
    train(small("sssom", digits), out)
    return out


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 60)
    return np.c_[generator.normal(200 + 300 * labels, 20), generator.normal(-1 + labels, 0.1)], labels


@pytest.fixture(scope="module")
def numbers(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    features, labels = rows
    data = table(folder / "table", features, np.array(["no", "yes"])[labels])
    train(small("sssom", data, train__labelled_fraction=1.0, map__epochs=10), folder / "run")
    return folder / "run"


def test_raw_images_give_what_the_map_says_of_scaled_ones(images, digits):
    dataset = Dataset.open(digits)
    answers = Predictor.load(images)(dataset.read_raw("test", slice(0, 50)).numpy())
    state, config, about = RunDirectory(images).load_map()
    features, _ = dataset.read("test", slice(0, 50))
    classes = predict_classes(state, features, config)
    nodes, rho = predict_nodes(state, features, config)
    assert list(answers.columns) == COLUMNS
    assert answers["class"].tolist() == [about["class_names"][code] for code in classes.tolist()]
    assert answers["node"].tolist() == nodes.tolist()
    probabilities = class_probabilities(state, features, config)
    assert answers["confidence"].tolist() == probabilities.gather(1, classes.unsqueeze(1)).squeeze(1).tolist()
    assert answers["activation"].to_numpy() == pytest.approx((1 / (1 + rho)).numpy())
    assert answers["novelty"].to_numpy() == pytest.approx((rho / (rho + config.error_threshold)).numpy())


def test_novelty_of_a_lattice_is_one_half_at_the_outlier_threshold(images):
    predictor = Predictor.load(images)
    assert predictor.novelty(torch.empty(1, 64), torch.tensor([torch.inf])).tolist() == [1.0], "of any map"
    predictor.config = MapConfig(variant="dssom", outlier_threshold=0.8)  # an activation: 1 / (1 + 0.25)
    rho = torch.tensor([0.0, 0.25, 0.75, torch.inf], dtype=torch.float64)
    assert predictor.novelty(torch.empty(4, 64), rho).tolist() == pytest.approx([0.0, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("filtered", [False, True])
def test_novelty_of_boxes_is_above_one_half_exactly_where_no_box_accepts(digits, tmp_path, filtered):
    train(small("altsssom", digits, map__noise_filter=filtered), tmp_path / "run")
    predictor, dataset = Predictor.load(tmp_path / "run"), Dataset.open(digits)
    answers = predictor(dataset.read_raw("test", slice(None)).numpy())
    matched = match(predictor.state, dataset.read("test", slice(None))[0], config=predictor.config).matched.numpy()
    assert 0 < matched.sum() < len(matched) and ((answers["novelty"] > 0.5) == ~matched).all()
    assert ((answers["node"] < 0) == (~matched if filtered else False)).all()
    assert answers["novelty"].between(0, 1).all()
    drawn = collect(tmp_path / "run")  # a node has the mean of its samples
    nodes = np.unique(drawn.train.nodes[drawn.train.nodes >= 0])
    mean = [drawn.train.novelty[drawn.train.nodes == node].mean() for node in nodes]
    assert drawn.measures["novelty"][nodes] == pytest.approx(mean)


@pytest.mark.parametrize(
    "changes",
    [{}, {"loss__temperature": 0.03}, {"deep__variant": "altsssom", "loss__temperature": 0.03, "loss__margin": 0.1}],
    ids=["a-share-of-the-threshold", "given", "boxes"],
)
def test_a_deep_model_is_as_sure_as_its_losses_made_it(digits, tmp_path, changes):
    quick = {"map__epochs": 1, "encoder__width": 4, "encoder__dim": 8, "loss__relevance_warmup_rounds": 0}
    train(small("deep", digits, **quick, **changes), tmp_path / "run")
    predictor, dataset = Predictor.load(tmp_path / "run"), Dataset.open(digits)
    answers = predictor(dataset.read_raw("test", slice(0, 50)).numpy())
    features = predictor.deep.encode(dataset.read("test", slice(0, 50))[0])
    errors = class_errors(predictor.state, features, predictor.config)
    temperature = changes.get("loss__temperature") or 0.2 * predictor.config.error_threshold
    learned = torch.softmax(-errors / temperature, dim=1)
    chosen = learned.gather(1, predictor.deep.predict(dataset.read("test", slice(0, 50))[0]).unsqueeze(1)).squeeze(1)
    assert answers["confidence"].to_numpy() == pytest.approx(chosen.numpy(), rel=1e-9)


def test_the_channel_of_grey_images_may_be_left_out(images, digits):
    raw = Dataset.open(digits).read_raw("test", slice(0, 5)).numpy()
    predictor = Predictor.load(images)
    pd.testing.assert_frame_equal(predictor(raw[:, 0]), predictor(raw))


def test_columns_of_a_table_are_found_by_name_and_scaled(numbers, rows):
    features, labels = rows
    frame = pd.DataFrame({"x1": features[:, 1], "other": "a", "x0": features[:, 0]})
    answers = Predictor.load(numbers)(frame)
    assert (answers["class"] == np.array(["no", "yes"])[labels]).mean() > 0.9
    far = Predictor.load(numbers)(pd.DataFrame({"x0": [90000.0], "x1": [50.0]}))
    assert far["novelty"][0] > answers["novelty"].max()


def test_every_row_of_many_has_its_answer(numbers, rows):
    predictor, many = Predictor.load(numbers), np.resize(rows[0], (2049, 2))
    answers = predictor(many)
    assert answers.index.tolist() == list(range(2049))
    assert answers["node"].tolist() == [*predictor(many[:2048])["node"], answers["node"][8]]


def test_who_is_left_out_has_no_class_and_no_confidence(numbers):
    predictor = Predictor.load(numbers)
    predictor.config = dataclasses.replace(predictor.config, noise_filter=True)
    answers = predictor(pd.DataFrame({"x0": [200.0, 90000.0], "x1": [-1.0, 50.0]}))
    assert answers["class"].tolist() == ["no", None] and answers["confidence"].isna().tolist() == [False, True]


def test_classes_keep_their_order_where_that_is_not_the_alphabets(tmp_path):
    labels = np.repeat(np.arange(11), 6)
    data = table(tmp_path / "table", np.eye(11)[labels], labels)
    assert Dataset.open(data).class_names == tuple(map(str, range(11))), "10 follows 9"
    train(small("sssom", data, train__labelled_fraction=1.0, map__epochs=10), tmp_path / "run")
    answers = Predictor.load(tmp_path / "run")(np.eye(11))["class"]
    assert answers.tolist() == list(map(str, range(11)))


def test_tables_of_other_libraries_are_tables(numbers, rows):
    frame = pd.DataFrame(rows[0], columns=["x0", "x1"])
    swapped, model = frame[["x1", "x0"]], Predictor.load(numbers)
    wanted = model(frame)
    pd.testing.assert_frame_equal(model(pa.Table.from_pandas(swapped)), wanted)
    pd.testing.assert_frame_equal(model(pa.RecordBatch.from_pandas(swapped)), wanted)
    pd.testing.assert_frame_equal(model(torch.tensor(rows[0], requires_grad=True)), wanted)
    polars = pytest.importorskip("polars")
    pd.testing.assert_frame_equal(model(polars.from_pandas(swapped)), wanted)


def test_integers_of_another_type_are_the_same_pixels(images, digits):
    raw, model = Dataset.open(digits).read_raw("test", slice(0, 5)).numpy(), Predictor.load(images)
    pd.testing.assert_frame_equal(model(raw.astype(np.int64)), model(raw))
    pd.testing.assert_frame_equal(model(raw.tolist()), model(raw))
    with pytest.raises(UserError, match="Samples must be uint8, from 0 to 255. Got '0 to 300'"):
        model(np.where(raw == raw.max(), 300, raw.astype(np.int64)))


@pytest.mark.parametrize("nothing", [3.0, np.float64(3), None, {}, "x"], ids=str)
def test_what_is_no_array_of_samples_is_refused(numbers, images, nothing):
    for model in (numbers, images):
        with pytest.raises(UserError, match="Samples must be"):
            Predictor.load(model)(nothing)


def test_no_rows_give_no_answers(numbers, images):
    for model, nothing in ((numbers, pd.DataFrame({"x0": [], "x1": []})), (images, np.empty((0, 1, 8, 8), np.uint8))):
        answers = Predictor.load(model)(nothing)
        assert list(answers.columns) == COLUMNS and len(answers) == 0


@pytest.mark.parametrize(
    "frame, sentence",
    [
        ({"x0": [1.0]}, "Columns 'x1' must be there. Got x0."),
        ({"x0": ["a"], "x1": [1.0]}, "Column 'x0' must be numbers."),
        ({"x0": [1.0, 1.0], "x1": [1.0, float("nan")]}, "Row 1: a value is missing, infinite or beyond float32."),
        ({"x0": [1.0], "x1": [1e300]}, "Row 0: a value is missing, infinite or beyond float32."),
        ([[1.0, 2.0], [3.0]], "Samples must be an array. Got 'rows of several lengths'"),
    ],
)
def test_tables_that_cannot_be_read(numbers, frame, sentence):
    with pytest.raises(UserError, match=sentence):
        Predictor.load(numbers)(pd.DataFrame(frame) if isinstance(frame, dict) else frame)
    twice = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["x0", "x1", "x1"])
    with pytest.raises(UserError, match="Column 'x1' must be there once. Got '2 of that name'"):
        Predictor.load(numbers)(twice)


def test_a_column_of_complex_numbers_is_refused(numbers):
    with pytest.raises(UserError, match="Column 'x1' must be numbers. Got 'complex128'"):
        Predictor.load(numbers)(pd.DataFrame({"x0": [1.0], "x1": [1 + 2j]}))


@pytest.mark.parametrize("column", [[None, 2], [None, 2.5], pd.array([None, 2], "Int64"), [None, None]])
def test_what_is_missing_in_a_column_of_any_kind_is_missing(numbers, column):
    read = Predictor.load(numbers).spec.read(pd.DataFrame({"x0": pd.Series(column, dtype=None), "x1": [1.0, 1.0]}))
    kept = pd.Series(column, dtype=object)
    again = Predictor.load(numbers).spec.read(pd.DataFrame({"x0": kept, "x1": [1.0, 1.0]}))
    assert np.isnan(read).tolist() == np.isnan(again).tolist() == [[True, False], [kept.isna()[1], False]]


def test_images_that_cannot_be_read(images):
    with pytest.raises(UserError, match="Samples must be uint8. Got 'float64'. Give them as the source has them"):
        Predictor.load(images)(np.zeros((2, 1, 8, 8)))
    with pytest.raises(UserError, match=r"Samples must be of shape \(n, 1, 8, 8\)"):
        Predictor.load(images)(np.zeros((2, 3, 3), dtype=np.uint8))


def test_a_served_model_imports_nothing_that_its_requirements_do_not_bring():
    absent = ("psutil", "ray", "torchvision", "optuna", "typer", "rich")
    code = f"import sys\nfor name in {absent}: sys.modules[name] = None\nimport pipeline.predictor, pipeline.deep.model"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_mlflow_model_answers_far_from_this_repository_and_unpickles_nothing(numbers, rows, tmp_path):
    from pipeline.serving.model import model_directory

    saved = save_model(numbers, tmp_path / "model")
    assert [path for path in saved.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")] == []
    assert sum(path.is_file() for path in saved.rglob("*")) < 20  # a server takes its time for each
    pinned = (saved / "requirements.txt").read_text().split()
    assert all("==" in line for line in pinned) and any(line.startswith("torch==") for line in pinned)
    frame = pd.DataFrame(rows[0], columns=["x0", "x1"])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    code = (
        "import json, mlflow, pandas, pyarrow, sys\n"
        "from mlflow.pyfunc.scoring_server import invocations\n"
        "model = mlflow.pyfunc.load_model('model')\n"
        "model.predict(pandas.read_csv('rows.csv')).to_json('answers.json')\n"
        "whole = pandas.DataFrame({'x1': [1, 0], 'x0': [2, 3], 'more': ['a', 'b']})\n"
        "kinds = [whole.astype({'x1': 'Int64'}), whole.astype({'x0': 'f4', 'x1': object})]\n"
        "kinds += [whole, whole.to_dict('records'), whole.to_dict('list'), pyarrow.Table.from_pandas(whole)]\n"
        "for given in kinds:\n"
        "    print(model.predict(given)['node'].tolist())\n"
        "split, csv = json.dumps({'dataframe_split': whole.to_dict('split')}), whole.to_csv(index=False)\n"
        "for body, kind in ((split, 'application/json'), (csv, 'text/csv')):  # what MLflow's server calls\n"
        "    answer = invocations(body, kind, model, model.metadata.get_input_schema())\n"
        "    print([row['node'] for row in json.loads(answer.response)['predictions']])\n"
        "import pipeline; print(pipeline.__file__)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "type hints" not in done.stderr  # MLflow's advice to whoever writes models, not to who loads one
    *nodes, package = done.stdout.splitlines()
    assert package.startswith(str(saved))
    whole = pd.DataFrame({"x0": [2, 3], "x1": [1, 0]})
    assert nodes == 8 * [str(Predictor.load(numbers)(whole)["node"].tolist())]
    expected = Predictor.load(model_directory(str(saved)))(frame)
    answers = pd.read_json(tmp_path / "answers.json")
    assert answers["class"].tolist() == expected["class"].tolist()
    assert answers["novelty"].to_numpy() == pytest.approx(expected["novelty"].to_numpy())


@pytest.mark.slow
def test_a_model_is_logged_with_its_run_and_registered(numbers, tracking_uri, tmp_path):
    import mlflow

    from jobs.export import export
    from pipeline.serving.model import log_model, model_directory

    client = mlflow.MlflowClient(tracking_uri)
    run = client.create_run(client.create_experiment("models"))
    client.set_terminated(run.info.run_id)
    logged = log_model(numbers, run.info.run_id, tracking_uri, "tables")
    assert logged == {"model_uri": "models:/tables/1", "version": 1}
    assert int(client.get_model_version_by_alias("tables", "latest-trained").version) == 1
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
    before = mlflow.get_tracking_uri()
    place = model_directory("models:/tables@latest-trained", tracking_uri)
    assert Predictor.load(place).state.digest() == Predictor.load(numbers).state.digest()
    with pytest.raises(UserError, match="cannot be fetched"):
        model_directory("models:/nothing/1", tracking_uri)
    with pytest.raises(UserError, match="^--run 'models:/nothing/1' cannot be fetched"):
        export("models:/nothing/1", tmp_path / "m.onnx", tracking_uri)
    assert mlflow.get_tracking_uri() == before


@pytest.fixture(scope="module")
def gaps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gaps")
    features = np.where(np.arange(80).reshape(40, 2) % 9 == 0, np.nan, np.arange(80.0).reshape(40, 2))
    train(small("sssom", table(folder / "table", features, missing="mask")), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def served(images, numbers, gaps, tmp_path_factory):
    """What MLflow's server answers with each of the three models: status and body of a request."""
    import mlflow
    from mlflow.pyfunc.scoring_server import invocations

    folder, models = tmp_path_factory.mktemp("served"), {}
    for name, place in {"images": images, "numbers": numbers, "gaps": gaps}.items():
        models[name] = mlflow.pyfunc.load_model(str(save_model(place, folder / name)))

    def ask(name, body):
        model = models[name]
        answer = invocations(json.dumps(body), "application/json", model, model.metadata.get_input_schema())
        return answer.status, json.loads(answer.response)

    ask.models = models
    return ask


@pytest.mark.slow
def test_samples_as_json_has_them(served, images, numbers, gaps, digits):
    given = Dataset.open(digits).read_raw("test", slice(0, 2)).numpy()
    whole, one = given.tolist(), Predictor.load(images)(given)["node"].tolist()
    records, columns = [{"x0": 210, "x1": -1}, {"x1": 0.5, "x0": 480}], {"x0": [210, 480], "x1": [-1, 0.5]}
    two = Predictor.load(numbers)(pd.DataFrame(columns))["node"].tolist()
    three = Predictor.load(gaps)(pd.DataFrame({"x0": [1.0, 2.0], "x1": [np.nan, 3.0]}))["node"].tolist()
    known = {"images": one, "numbers": two, "gaps": three}
    asked = [
        ("images", {"inputs": whole}),
        ("images", {"inputs": {"features": whole}}),
        ("images", {"inputs": [{"features": image} for image in whole]}),
        ("images", {"instances": [{"features": image} for image in whole]}),
        ("images", {"dataframe_records": [{"features": image} for image in whole]}),
        *(("numbers", {kind: records}) for kind in ("inputs", "instances", "dataframe_records")),
        ("numbers", {"inputs": columns}),
        ("numbers", {"inputs": [[210, -1], [480, 0.5]]}),
        ("numbers", {"instances": [{"features": [210, -1]}, {"features": [480, 0.5]}]}),
        *(("gaps", {kind: [{"x0": 1, "x1": None}, {"x0": 2, "x1": 3}]}) for kind in ("inputs", "instances")),
        ("gaps", {"inputs": [[1, None], [2, 3]]}),
        ("gaps", {"inputs": [{"features": [1, None]}, {"features": [2, 3]}]}),
        ("gaps", {"inputs": {"x0": [1, 2], "x1": [None, 3]}}),
    ]  # fmt: skip
    for name, body in asked:
        status, answer = served(name, body)
        assert status == 200, (name, body.keys(), answer)
        assert [row["node"] for row in answer["predictions"]] == known[name], (name, body.keys())
    assert [row["node"] for row in served("numbers", {"inputs": records[0]})[1]["predictions"]] == two[:1]
    assert served.models["numbers"].predict(records[0])["node"].tolist() == two[:1]


@pytest.mark.slow
@pytest.mark.parametrize("body", [{"inputs": []}, {"instances": []}, {"dataframe_records": []}])
@pytest.mark.parametrize("name", ["images", "numbers"])
def test_no_samples_over_http_get_no_answers(served, name, body):
    assert served(name, body) == (200, {"predictions": []})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("numbers", {"x0": [1, 2], "x1": [1]}, "Samples must be a record, a list of records, or columns of one length"),
        ("numbers", {"x0": 1}, "Columns 'x1' must be there. Got x0."),
        ("numbers", [{"x0": 1, "x1": None}], "Row 0: a value is missing"),
        ("numbers", [[1, None]], "Row 0: a value is missing"),
        ("numbers", [{"x0": 1, "x1": "two"}], "Column 'x1' must be numbers"),
        ("gaps", [["a", None]], "Samples must be numbers. Got 'object'"),
        ("images", {"pixels": [[1, 2]]}, "Columns must be 'features' with the samples. Got"),
        ("images", {"features": 3}, "Samples must be of shape"),
    ],
)
def test_what_json_cannot_mean_is_refused_in_words(served, name, given, sentence):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=sentence) as caught:  # the server makes an answer of it
        served(name, {"inputs": given})
    assert caught.value.get_http_status_code() == 400


@pytest.mark.slow
def test_a_model_whose_code_is_not_what_answers_is_told(numbers, tmp_path):
    save_model(numbers, tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "same")
    shutil.copytree(tmp_path / "first", tmp_path / "other")
    code = "BEYOND = 0.5", "BEYOND = 0.6"
    with (
        zipfile.ZipFile(tmp_path / "first" / "code" / "somgrad.zip") as before,
        zipfile.ZipFile(tmp_path / "other" / "code" / "somgrad.zip", "w") as after,
    ):
        for name in before.namelist():
            content = before.read(name).decode() if name == "pipeline/predictor.py" else before.read(name)
            after.writestr(name, content.replace(*code) if isinstance(content, str) else content)
    script = "import mlflow, sys\nfor name in sys.argv[1:]: mlflow.pyfunc.load_model(name)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script, "first", "same", "other"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "Load each version in a process of its own" in line]
    assert len(told) == 1 and f"The model in '{tmp_path / 'other'}' has code of its own" in told[0], done.stderr
