"""Encoders of the user: tried before they are trained, so that a run does not depend on tiles, workers or chance."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.comparison.cells import measure
from pipeline.comparison.contestants import contestants
from pipeline.config import RunConfig
from pipeline.deep import user_encoder
from pipeline.deep.encoders import make_encoder, spread_features
from pipeline.deep.model import DeepModel
from pipeline.deep.sample_shape import SampleShape
from pipeline.errors import OutputError, UserError
from pipeline.prepared.shards import Dataset
from pipeline.training.plan import make_plan
from pipeline.training.trainer import train
from tests.training import small

SAMPLE = SampleShape("image", (1, 8, 8))


class Wave(nn.Module):
    """What `initialise` does not know: a convolution over a line, a parameter of its own, and one that is frozen."""

    def __init__(self, dim):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(64))
        self.frozen = nn.Parameter(torch.rand(64), requires_grad=False)
        self.line = nn.Conv1d(1, 2, 5)
        self.last = nn.Linear(120, dim)

    def forward(self, samples):
        return self.last(self.line((samples * self.frozen + self.shift).unsqueeze(1)).flatten(1))


def function(make):
    """The name of a function that can be imported, as a user's module has it."""
    module = types.ModuleType("encoders_of_a_user")
    module.made = make
    sys.modules[module.__name__] = module
    return f"{module.__name__}:made"


def rows(*layers):
    return function(lambda sample, dim, width: nn.Sequential(*layers, nn.Linear(64, dim)))


@pytest.mark.parametrize(
    "layers",
    [
        (),
        (nn.Linear(64, 64), nn.LayerNorm(64), nn.Dropout(0.0)),
        (nn.Unflatten(1, (4, 16)), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4), nn.Flatten()),
    ],
)
def test_layers_that_treat_each_sample_alone_are_taken(layers):
    encoder = make_encoder(rows(*layers), SAMPLE, dim=6, width=8)
    features = encoder(torch.rand(3, 64))
    assert features.shape == (3, 6) and features.min() > 0 and features.max() < 1


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ((nn.BatchNorm1d(64),), "depend on the other samples of its tile"),
        ((nn.Softmax(dim=0),), "depend on the other samples of its tile"),
        ((nn.Dropout(0.5),), "depend on chance"),
        ((nn.AlphaDropout(0.5),), "depend on chance"),
    ],
)
def test_features_that_depend_on_others_or_on_chance_are_refused(layers, why):
    with pytest.raises(
        UserError, match=f"depend on their sample alone .* Got 'encoders_of_a_user:made', where they {why}"
    ):
        make_encoder(rows(*layers), SAMPLE, dim=6, width=8)


class Does(nn.Module):
    """A layer that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, samples):
        return self.function(samples)


@pytest.mark.parametrize(
    ("does", "sentence"),
    [
        (lambda samples: samples / 0 * 0, "whose features are finite. Got .* which gave NaN or infinite ones"),
        (lambda samples: samples / 0, "whose features are finite"),
        (lambda samples: samples.sub_(0.5), "leaves its samples as they are. Got .* which changes them in place"),
    ],
)
def test_features_without_a_value_and_changed_samples_are_refused_for_what_they_are(does, sentence):
    with pytest.raises(UserError, match=f"^encoder.name must be of a module (that )?{sentence}"):
        make_encoder(rows(Does(does)), SAMPLE, dim=6, width=8)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda sample, dim, width: None, "a function that returns a torch module. Got .* which returns NoneType"),
        (lambda sample, dim, width: nn.Sequential(nn.Linear(64, dim), nn.ReLU()), "ends in nn.Linear.* ends in ReLU"),
        (lambda sample, dim, width: nn.Linear(64, dim, bias=False), "with a bias"),
        (lambda sample, dim, width: nn.Linear(64, dim + 1), r"ends in nn.Linear\(..., 6\)"),
        (lambda sample, dim, width: nn.Linear(65, dim), r"takes \(n, 64\) samples.* which failed: RuntimeError: mat1"),
        (lambda sample, dim, width: nn.Sequential(nn.Unflatten(1, (1, 64)), nn.Linear(64, dim)), r"gave \(4, 1, 6\)"),
    ],
)  # fmt: skip
def test_what_is_no_encoder_is_refused_in_one_line(make, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        make_encoder(function(make), SAMPLE, dim=6, width=8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda sample, dim: None, "a function of sample, dim and width. Got .* which failed: TypeError: .* 2 pos"),
        (lambda sample, dim, width: {}["depth"], "a function of sample.* which failed: KeyError: 'depth'"),
        (7, "a function. Got 'encoders_of_a_user:made', which is of type int"),
        (lambda sample, dim, width: nn.Linear(64, dim).requires_grad_(False), "to train. .* no parameter has requires"),
    ],
)  # fmt: skip
def test_errors_of_the_function_name_the_setting(make, sentence):
    with pytest.raises(UserError, match=f"^encoder.name must be .*{sentence}") as caught:
        make_encoder(function(make), SAMPLE, dim=6, width=8)
    assert "\n" not in str(caught.value) and caught.value.field == "encoder.name"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def made(:", r"whose module failed: SyntaxError: .*\(encoder_of_a_file.py, line 1\)"),
        ("1 / 0", "whose module failed: ZeroDivisionError"),
        ("import not_there_at_all", "No module named 'not_there_at_all'. Is it on PYTHONPATH, on every node"),
        ("other = 1", "has no attribute 'made'"),
    ],
)
def test_errors_of_the_module_name_the_setting(tmp_path, monkeypatch, text, sentence):
    (tmp_path / "encoder_of_a_file.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "encoder_of_a_file", raising=False)
    with pytest.raises(UserError, match=f"^encoder.name must be a function that can be imported. Got .*{sentence}"):
        make_encoder("encoder_of_a_file:made", SAMPLE, dim=6, width=8)


def test_all_its_values_come_from_the_seed_and_frozen_ones_are_the_same_everywhere(digits):
    name = function(lambda sample, dim, width: Wave(dim))
    run = RunConfig.build(small("deep", digits, encoder__name=name, encoder__dim=6))
    plan = make_plan(run, Dataset.open(digits)).deep
    samples = torch.rand(50, 64, generator=torch.Generator().manual_seed(0))
    digests, frozen = [], []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 7)  # the global generator has no say
        digests.append(plan.first_network(seed, samples).digest())
        frozen.append(plan.drawn_network(seed).encoder[0].frozen)
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(frozen[0], frozen[2]) and torch.equal(frozen[0], plan.network().encoder[0].frozen)


class Chance(nn.Module):
    """A buffer that torch's generator has no say in."""

    def __init__(self, draw):
        super().__init__()
        self.register_buffer("noise", torch.from_numpy(draw.random(64)).float())

    def forward(self, samples):
        return samples * self.noise


def test_frozen_values_that_are_others_the_next_time_are_refused():
    draw = np.random.default_rng(0)
    name = function(lambda sample, dim, width: nn.Sequential(Chance(draw), nn.Linear(64, dim)))
    with pytest.raises(UserError, match="whose frozen values are the same .* whose '0.noise' is another one"):
        make_encoder(name, SAMPLE, dim=6, width=8)


class Twisted(nn.Module):
    """Its last layer is registered first, and one that it does not call last."""

    def __init__(self, dim):
        super().__init__()
        self.last, self.body, self.unused = nn.Linear(48, dim), nn.Linear(64, 48), nn.Linear(64, dim)

    def forward(self, samples):
        return self.last(self.body(samples).relu())


class After(Twisted):
    """Something follows its last linear layer."""

    def forward(self, samples):
        return super().forward(samples).relu()


class AfterInPlace(Twisted):
    """The same, in the memory of the layer's own answer."""

    def forward(self, samples):
        return super().forward(samples).relu_()


class Twice(nn.Module):
    """Its last layer has two places: scaling it for one would change the other."""

    def __init__(self, dim):
        super().__init__()
        self.first, self.last = nn.Linear(64, dim), nn.Linear(dim, dim)

    def forward(self, samples):
        return self.last(self.last(self.first(samples)).relu())


class Alone(nn.Module):
    """It multiplies, and calls no layer."""

    def __init__(self, dim):
        super().__init__()
        self.layer = nn.Linear(64, dim)

    def forward(self, samples):
        return samples @ self.layer.weight.T + self.layer.bias


def test_the_last_layer_is_the_one_that_is_called_last(generator):
    encoder = make_encoder(function(lambda sample, dim, width: Twisted(dim)), SAMPLE, dim=6, width=8)
    samples = torch.rand(300, 64, generator=generator)
    spread_features(encoder, samples)
    with torch.no_grad():
        before = encoder[:-1](samples)
    torch.testing.assert_close(before.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(before.std(0, correction=0), torch.full((6,), 0.7))


def test_a_cell_that_was_trained_before_is_measured_in_another_process(digits, tmp_path, monkeypatch):
    (one,) = contestants(["deep"], [], {})
    name = rows(nn.LayerNorm(64))
    settings = small("deep", digits, encoder__name=name, encoder__dim=6, map__epochs=1, train__seed=0,
                     deep__on_collapse="go_on")  # fmt: skip
    train(settings, tmp_path)
    monkeypatch.setattr(user_encoder, "_named_here", set())  # as another process has it
    with pytest.raises(OutputError, match=f"would run '{name}'"):
        DeepModel.load(tmp_path)
    assert measure(one, settings, tmp_path, [settings["train.labelled_fraction"]], 50)["accuracy"]


def normed(norm):
    return lambda dim: nn.Sequential(nn.Linear(64, 48), nn.ReLU(), norm(nn.Linear(48, dim)))


def compiled_in_place(dim):
    made = Twisted(dim)
    made.body.compile()
    return made


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (After, r"that ends in its last nn.Linear. .* which does not give what Linear\(in_features=48, .* gives"),
        (
            AfterInPlace,
            r"that ends in its last nn.Linear. .* which does not give what Linear\(in_features=48, .* gives",
        ),
        (Twice, r"that calls its last nn.Linear once. .* which calls Linear\(in_features=6, .* more often"),
        (Alone, r"that ends in nn.Linear\(..., 6\) with a bias. .* which calls none of its layers"),
        (
            normed(nn.utils.weight_norm),
            "whose last layer has a weight and a bias to train. .* leave that out there",
        ),
        (normed(nn.utils.spectral_norm), "whose last layer has a weight and a bias to train"),
        (normed(lambda last: last.requires_grad_(False)), "whose last layer has a weight and a bias to train"),
        (normed(nn.utils.parametrizations.weight_norm), "whose last layer has a weight and a bias to train"),
        (
            lambda dim: torch.compile(Twisted(dim)),
            "that is not compiled, .* whose Twisted is: return it as it was before",
        ),
        (compiled_in_place, "that is not compiled, .* whose Linear is: return"),
        (lambda dim: torch.jit.trace(Twisted(dim), torch.rand(4, 64)), "that is not compiled, .* whose TopLevelTraced"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, of what is old
def test_a_last_layer_that_is_not_what_it_must_be_is_refused_for_what_it_is(kind, sentence):
    with pytest.raises(UserError, match=f"^encoder.name must be of a module {sentence}") as caught:
        make_encoder(function(lambda sample, dim, width: kind(dim)), SAMPLE, dim=6, width=8)
    assert "\n" not in str(caught.value)


def test_a_layer_that_is_not_the_last_may_be_normed():
    make_encoder(rows(nn.utils.parametrizations.weight_norm(nn.Linear(64, 64))), SAMPLE, dim=6, width=8)


class Doubled(nn.Linear):
    """Another function in training than after it."""

    def forward(self, samples):
        return super().forward(samples * (2 if self.training else 1))


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        (
            (nn.Unflatten(1, (4, 4, 4)), nn.InstanceNorm2d(4, track_running_stats=True), nn.Flatten()),
            "buffer '1.running",
        ),
        ((Doubled(64, 64),), r"whose eval\(\) differs from train\(\)"),
    ],
)
def test_encoders_that_answer_otherwise_after_training_are_refused(layers, what):
    with pytest.raises(UserError, match=f"the same in training and after it.* Got .*{what}"):
        make_encoder(rows(*layers), SAMPLE, dim=6, width=8)
