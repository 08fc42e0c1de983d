"""An exported file that says other nodes or classes than the model is not written."""

import dataclasses
import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import MachineError, UserError
from pipeline.predictor import Predictor
from pipeline.serving.onnx_export import _check, _converted, _examples, export_model
from pipeline.training.trainer import train
from tests.training import small, table

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", params=["sssom", "altsssom"])
def exported(request, tmp_path_factory):
    """A small model and its file."""
    rng, tmp_path = np.random.default_rng(0), tmp_path_factory.mktemp("onnx")
    labels = np.arange(60) % 2
    data = table(tmp_path / "t", rng.normal(labels[:, None], 0.2, (60, 2)), labels + 9)  # 10 before 9 in the alphabet
    train(small(request.param, data, map__epochs=2), tmp_path / "run")
    assert export_model(str(tmp_path / "run"), str(tmp_path / "m.onnx"))["checked"] == 64
    return (tmp_path / "m.onnx").read_bytes(), Predictor.load(tmp_path / "run")


def changed(model, **parts):
    state = dataclasses.replace(model.state, **parts)
    return Predictor(model.spec, state, model.config, model.class_names, None, model.about)


def test_where_it_cannot_be_written_it_is_not_converted(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"--out must be a file that can be written. Got '.*/file/m.onnx': Not a dir"):
        export_model(tmp_path, tmp_path / "file" / "m.onnx")
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(UserError, match=r"--out must be a file that ends in .onnx"):
        export_model(tmp_path, tmp_path / "m.onnx")


class Branches(nn.Module):
    """What it does depends on what it sees."""

    def forward(self, samples):
        return (samples if samples.sum() > 0 else -samples,) * 4


@pytest.mark.parametrize("own, kind, told", [
    (True, UserError, "must be a graph that torch.export can follow.* own without branches"),
    (False, MachineError, "This version of torch cannot write the model as ONNX. It says: "),
])  # fmt: skip
def test_a_model_that_is_no_graph_is_told_in_one_line(own, kind, told):
    with pytest.raises(kind, match=told) as caught:
        _converted(Branches(), torch.ones(2, 3), own)
    assert "\n" not in str(caught.value)


def test_a_file_names_its_classes_in_the_order_of_their_codes(exported):
    content, model = exported
    told = onnxruntime.InferenceSession(content).get_modelmeta().custom_metadata_map["class_names"]
    assert json.loads(told) == [*model.class_names] == ["9", "10"]


def test_classes_are_compared_as_well_as_nodes(exported):
    content, model = exported
    other = model.state.classes.where(model.state.classes < 0, 1 - model.state.classes)
    with pytest.raises(MachineError, match="does not answer as the model does: .* equal nodes and classes"):
        _check(content, changed(model, classes=other))


def test_a_row_with_a_missing_or_infinite_value_has_no_node_and_no_class(exported):
    content, _ = exported
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    samples = np.array([[0.1, np.nan], [np.inf, 0.1], [0.1, 0.1]], dtype=np.float32)
    node, label, activation, novelty = session.run(["node", "class", "activation", "novelty"], {"samples": samples})
    assert (node[:2] == -1).all() and (label[:2] == -1).all() and node[2] >= 0
    assert np.isnan(activation).tolist() == np.isnan(novelty).tolist() == [True, True, False]


@pytest.mark.parametrize("apart, level", [(2.0**-52, True), (1e-9, False)])
def test_of_two_nodes_that_are_equally_near_within_rounding_either_will_do(exported, apart, level):
    content, model = exported
    state, free = model.state, int((~model.state.alive).nonzero()[0])
    parts = {name: getattr(state, name).clone() for name in ("prototypes", "relevances", "alive", "classes")}
    for values in parts.values():
        values[free] = values[0]
    parts["prototypes"][free] *= 1 + apart
    with nullcontext() if level else pytest.raises(MachineError, match="does not answer as the model does"):
        assert _check(content, changed(model, **parts)) == 64
    samples = _examples(model, 64)
    assert (changed(model, **parts).predict(samples)["node"] == free).any()
