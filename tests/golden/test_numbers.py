"""Numbers do not drift silently: maps of the packaged digits and encoders, as they were when last agreed on.

After a change that is meant to move them: `python -m tests.golden.test_numbers` writes the file anew, and CHANGELOG
says why under "Numerics". Orders of samples are whole numbers and hold everywhere to the bit; values of maps hold to
1e-9, because another kind of processor may round the last bit of exp or of a product differently. Encoders as they
begin, by their seed, hold to 1e-4: what else they say, a model that was saved would say too.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.deep.encoders import initialise, make_encoder
from pipeline.deep.sample_shape import SampleShape
from somcore import ALTSSSOM, DSSOM, LARFDSSOM, SSSOM, KohonenSOM, sample_indices
from somcore.state import blank_state, digest_of

FILE = Path(__file__).with_name("numbers.json")
MAPS = {
    "kohonen": KohonenSOM(rows=6, columns=6, epochs=5, seed=1),
    "dssom": DSSOM(rows=5, columns=5, epochs=3, radius=0.3, rate=0.01, initialisation="sample", seed=1),
    "larfdssom": LARFDSSOM(epochs=4, pruning_epochs=2, batch_size=128, seed=1),
    "sssom": SSSOM(epochs=4, pruning_epochs=2, batch_size=128, seed=1),
    "altsssom": ALTSSSOM(epochs=4, pruning_epochs=2, batch_size=128, seed=1),
}

_IMAGE, _SOUND = SampleShape("image", (3, 16, 16)), SampleShape("audio", (4000,), 8000)
ENCODERS = {"cnn": _IMAGE, "standardised": _IMAGE, "residual": _IMAGE, "mlp": _IMAGE, "audio": _SOUND, "word": _SOUND}


DIGEST = "dc2f5067a885e7e50b74b19a58e1b9521e124591aeac01184fa5c488344a367c"  # of an empty map


def order() -> list[int]:
    return sample_indices(3, 7, torch.arange(12), 1797).tolist()


def numbers(name: str) -> dict[str, Any]:
    features, classes = load_digits(return_X_y=True)
    classes[::2] = -1
    model = MAPS[name].fit(features / 16, classes)
    state = model.state_
    return {
        "nodes": state.num_nodes,
        "rounds": state.round,
        "classes": state.classes.tolist(),
        "wins": state.wins.tolist(),
        "prototypes": state.prototypes.sum(1).tolist(),
        "relevances": state.relevances.sum(1).tolist(),
        "deviations": state.deviations.sum(1).tolist(),
    }


def features(name: str) -> list[list[float]]:
    """Of two samples, the second of higher frequency."""
    sample = ENCODERS[name]
    encoder = make_encoder(name, sample, dim=3, width=4)
    initialise(encoder, seed=1)
    places = torch.arange(torch.Size(sample.shape).numel())
    samples = torch.stack([0.5 + 0.4 * torch.sin(speed * places) * torch.sin(0.002 * places) for speed in (0.2, 0.7)])
    with torch.no_grad():
        return encoder(samples).tolist()


def test_order_of_samples():
    assert order() == json.loads(FILE.read_text())["order"]


def test_the_digest_of_a_map():
    assert blank_state(3, 2, 2).digest() == DIGEST


@pytest.mark.parametrize("other", [{"b": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2)}, {"a": torch.zeros(2, 3).int()}])
def test_equal_bytes_of_another_name_shape_or_type_have_another_digest(other):
    assert digest_of(other) != digest_of({"a": torch.zeros(2, 3)}) == digest_of({"a": torch.zeros(2, 3)})


@pytest.mark.parametrize("name", MAPS)
def test_map(name):
    agreed = json.loads(FILE.read_text())[name]
    found = numbers(name)
    for key in ("nodes", "rounds", "classes", "wins"):
        assert found[key] == agreed[key], key
    for key in ("prototypes", "relevances", "deviations"):
        assert found[key] == pytest.approx(agreed[key], rel=1e-9, abs=1e-12), key


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name):
    agreed = json.loads(FILE.read_text())[name]
    for found, wanted in zip(features(name), agreed, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)


if __name__ == "__main__":
    found = {"order": order()} | {name: numbers(name) for name in MAPS} | {name: features(name) for name in ENCODERS}
    FILE.write_text(json.dumps(found) + "\n")
