"""A map file from somebody else: it is refused, or read as numbers; nothing in it is executed."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.predictor import Predictor
from pipeline.training.trainer import train
from tests.training import small


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("untrusted") / "run"
    train(small("sssom", digits), out)
    return out


def parts(run):
    from safetensors import safe_open

    with safe_open(run / "map.safetensors", framework="pt") as file:
        header = dict(file.metadata())
        del header["header_sha256"]  # whoever makes a file of nonsense can leave it out, or make it anew
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118


def refused(folder, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        Predictor.load(folder)
    assert "\n" not in str(caught.value)


def test_a_pickle_in_its_place_is_not_opened(tmp_path):
    for name, content in (("a", pickle.dumps(Bomb(tmp_path / "fired"))), ("b", None)):
        (tmp_path / name).mkdir()
        if content is None:
            torch.save({"state": Bomb(tmp_path / "fired")}, tmp_path / name / "map.safetensors")
        else:
            (tmp_path / name / "map.safetensors").write_bytes(content)
        refused(tmp_path / name, "cannot be used")
    assert not (tmp_path / "fired").exists()


def test_what_was_altered_is_refused(run, tmp_path):
    tensors, header = parts(run)
    (tmp_path / "m").mkdir()
    moved = {**tensors, "prototypes": tensors["prototypes"] + 1}
    save_file(moved, tmp_path / "m" / "map.safetensors", header)
    refused(tmp_path / "m", "do not match its digest")
    save_file({"prototypes": tensors["prototypes"]}, tmp_path / "m" / "map.safetensors", header)
    refused(tmp_path / "m", "must include")
    wide = {**tensors, "classes": tensors["classes"].to(torch.float32)}
    save_file(wide, tmp_path / "m" / "map.safetensors", header)
    refused(tmp_path / "m", "must be torch.int64")


def test_a_header_that_was_damaged_is_refused(run, tmp_path):
    content = (run / "map.safetensors").read_bytes()
    assert content.count(b'[\\"0\\", \\"1\\"') == 1
    (tmp_path / "map.safetensors").write_bytes(content.replace(b'[\\"0\\", \\"1\\"', b'[\\"1\\", \\"0\\"'))
    refused(tmp_path, "header does not match its checksum")


def test_an_encoder_that_only_the_file_names_is_not_run(digits, tmp_path, monkeypatch):
    """A folder from somebody else has a map and, beside it, a module: opening the one does not run the other."""
    out = tmp_path / "run"
    train(small("deep", digits, encoder__width=4, encoder__dim=8, map__epochs=1, deep__on_collapse="go_on"), out)
    tensors, header = parts(out)
    deep = json.loads(header["deep"])
    deep["encoder"]["name"] = "payload:made"
    save_file(tensors, out / "map.safetensors", header | {"deep": json.dumps(deep)})
    (out / "payload.py").write_text("open('fired', 'w')\ndef made(sample, dim, width): pass\n", encoding="utf-8")
    monkeypatch.chdir(out)
    monkeypatch.syspath_prepend(str(out))
    refused(out, "would run 'payload:made'. Where that is code you trust, set SOMGRAD_ENCODERS=payload:made")
    assert not (out / "fired").exists()
    monkeypatch.setenv("SOMGRAD_ENCODERS", "another:one, payload:made")
    refused(out, "Got 'payload:made', which returns NoneType")
    assert (out / "fired").exists(), "the user has named it"


def test_an_altered_encoder_is_refused(digits, tmp_path):
    train(small("deep", digits, encoder__width=4, encoder__dim=8, map__epochs=1, deep__on_collapse="go_on"), tmp_path)
    tensors, header = parts(tmp_path)
    assert Predictor.load(tmp_path).about["digest"] == json.loads(header["digest"])
    save_file({**tensors, "encoder.values": tensors["encoder.values"] + 1}, tmp_path / "map.safetensors", header)
    refused(tmp_path, "do not match its digest")


@pytest.mark.parametrize(
    "key, value",
    [
        ("config", "__import__('os').system('touch fired')"),
        ("config", json.dumps({"variant": "sssom", "epochs": "__import__('os')"})),
        ("config", json.dumps({"variant": "sssom", "no_such": 1})),
        ("input", json.dumps({"kind": "image"})),
        ("input", json.dumps(["nonsense"])),
    ],
)
def test_a_header_of_nonsense_is_one_line(run, tmp_path, monkeypatch, key, value):
    monkeypatch.chdir(tmp_path)
    tensors, header = parts(run)
    save_file(tensors, tmp_path / "map.safetensors", header | {key: value})
    refused(tmp_path, "map.safetensors' cannot be used|hyper-parameter|must")
    assert not (tmp_path / "fired").exists()
