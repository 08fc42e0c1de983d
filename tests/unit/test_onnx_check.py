"""An exported file that says other classes than the model is not written."""

import dataclasses

import numpy as np
import pytest

from pipeline.errors import MachineError
from pipeline.onnx_export import _check, export_model
from pipeline.predictor import Predictor
from pipeline.trainer import train
from tests.training import small, table

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def test_classes_are_compared_as_well_as_nodes(rng, tmp_path):
    labels = np.arange(60) % 2
    data = table(tmp_path / "t", rng.normal(labels[:, None], 0.2, (60, 2)), labels)
    train(small("sssom", data, map__epochs=2), tmp_path / "run")
    assert export_model(tmp_path / "run", tmp_path / "m.onnx")["checked"] == 64
    content, model = (tmp_path / "m.onnx").read_bytes(), Predictor.load(tmp_path / "run")
    other = model.state.classes.where(model.state.classes < 0, 1 - model.state.classes)
    state = dataclasses.replace(model.state, classes=other)
    turned = Predictor(model.spec, state, model.config, model.class_names, None, model.about)
    with pytest.raises(MachineError, match="does not answer as the model does: .* equal nodes and classes"):
        _check(content, turned)
