"""Frozen networks: where their weights are, and weights that are none."""

import numpy as np
import pytest
import torch
from torchvision import models

from pipeline.config import RunConfig
from pipeline.deep.model import DeepModel
from pipeline.deep.pretrained import FrozenFeatures, frozen_features
from pipeline.errors import UserError
from pipeline.prepare import prepare
from pipeline.prepared.shards import Dataset
from pipeline.sources import SourceOptions, open_source
from pipeline.training.plan import make_plan
from pipeline.training.trainer import train
from tests.training import small


@pytest.mark.parametrize(("content", "said"), [(b"a,b\n1,2\n", "which holds none"), (None, "does not exist")])
def test_a_file_that_holds_no_weights_is_one_line(tmp_path, content, said):
    if content:
        (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        frozen_features(f"resnet18:{tmp_path / 'w.pth'}", (1, 8, 8))
    assert "weights_only" not in str(error.value)


def test_weights_that_are_not_finite_are_named(tmp_path):
    weights = models.shufflenet_v2_x0_5(weights=None).state_dict()
    weights["conv1.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(
        UserError, match="must hold finite numbers. Got infinity or NaN in 'conv1.0.weight' of '.*w.pth'"
    ):
        frozen_features(f"shufflenet_v2_x0_5:{tmp_path / 'w.pth'}", (1, 8, 8))


@pytest.mark.parametrize("form", ["plain", "state_dict", "module"])
def test_weights_of_an_own_training_are_read_without_their_head(tmp_path, form):
    whole = models.shufflenet_v2_x0_5(weights=None, num_classes=5).eval()
    weights = whole.state_dict()
    if form == "module":
        weights = {f"module.{key}": value for key, value in weights.items()}
    torch.save(weights if form == "plain" else {"state_dict": weights, "epoch": 3}, tmp_path / "w.pth")
    features, count = frozen_features(f"shufflenet_v2_x0_5:{tmp_path / 'w.pth'}", (1, 8, 8))
    seen = []
    whole.fc.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    FrozenFeatures(whole, (1, 8, 8))(samples := torch.rand(2, 64))
    assert count == 1024 and torch.equal(features(samples), seen[0])
    with pytest.raises(UserError, match=r"must name weights of resnet18\. Got .* \.\.\. It must hold what torch\.save"):
        frozen_features(f"resnet18:{tmp_path / 'w.pth'}", (1, 8, 8))


def test_a_pooling_in_the_head_of_a_network_stays(tmp_path):
    torch.save(models.squeezenet1_1(weights=None).state_dict(), tmp_path / "w.pth")
    assert frozen_features(f"squeezenet1_1:{tmp_path / 'w.pth'}", (1, 8, 8))[1] == 512  # not 512 x 13 x 13


def test_a_model_that_torchvision_does_not_have_is_one_line(digits):
    run = RunConfig.build(small("deep", digits) | {"encoder.name": "pretrained", "encoder.weights": "foo"})
    with pytest.raises(UserError, match=r"encoder.weights must name a torchvision model, such as resnet18. Got 'foo'."):
        make_plan(run, Dataset.open(digits))


def test_another_file_of_weights_under_the_same_name_is_another_run(digits, tmp_path):
    place = tmp_path / "w.pth"
    changes = {"encoder.name": "pretrained", "encoder.weights": f"resnet18:{place}", "encoder.dim": 4}

    def written(seed):
        torch.manual_seed(seed)
        torch.save(models.resnet18(weights=None).state_dict(), place)
        return make_plan(RunConfig.build(small("deep", digits) | changes), Dataset.open(digits))

    first = written(0)
    first.deep.network()
    second = written(1)
    assert first.config_hash != second.config_hash
    with pytest.raises(UserError, match="encoder.weights must be the file with sha256 .* Give the file that the run"):
        first.deep.network()
    place.unlink()
    with pytest.raises(UserError, match="does not exist"):
        second.deep.network()


def test_a_model_of_frozen_features_is_opened_from_another_folder(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=pixels, labels=np.arange(12) % 2)
    prepare(open_source("images", tmp_path / "few.npz", SourceOptions(test_fraction=0.0)), tmp_path / "few")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    torch.save(models.shufflenet_v2_x0_5(weights=None).state_dict(), tmp_path / "here" / "w.pth")
    changes = {"encoder.name": "pretrained", "encoder.weights": "shufflenet_v2_x0_5:w.pth", "encoder.dim": 4}
    settings = small("deep", tmp_path / "few") | changes | {"map.epochs": 1, "deep.on_collapse": "go_on"}
    monkeypatch.chdir(tmp_path / "here")
    trained = train(settings, "run")
    assert train(settings, "run", resume=True)["map_digest"] == trained["map_digest"]
    samples = torch.rand(3, 64)
    features = DeepModel.load("run").encode(samples)
    monkeypatch.chdir(tmp_path / "there")
    assert torch.equal(DeepModel.load(tmp_path / "here" / "run").encode(samples), features)
    (tmp_path / "here" / "w.pth").unlink()
    with pytest.raises(UserError, match=r"Got '/.*/here/w.pth', which does not exist. Put it there. .* sha256"):
        DeepModel.load(tmp_path / "here" / "run")
