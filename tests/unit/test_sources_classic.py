"""Digits, MNIST, Fashion-MNIST, SVHN and CIFAR-10: what comes out is what the files hold."""

import hashlib
import os
import pickle

import numpy as np
import pytest

from pipeline.errors import DataError, UserError
from pipeline.sources import SourceOptions, open_source
from tests.conftest import real_data
from tests.raw_files import collect, write_cifar, write_idx, write_svhn


def test_digits_are_scikit_learns_and_split_by_class():
    from sklearn.datasets import load_digits

    data = collect(open_source("digits"))
    keys = np.concatenate([data["train"][2], data["test"][2]])
    assert sorted(keys.tolist()) == list(range(1797))
    for split in ("train", "test"):
        features, labels, rows = data[split]
        assert (features[:, 0] == load_digits().images[rows]).all()
        assert (labels == load_digits().target[rows]).all()
    counts = np.bincount(load_digits().target)
    assert np.abs(np.bincount(data["test"][1]) - 0.2 * counts).max() <= 0.5


def test_digits_have_no_root(tmp_path):
    with pytest.raises(UserError, match="--root must be left out for digits, which come with scikit-learn"):
        open_source("digits", tmp_path)


def test_the_split_of_digits_depends_on_the_seed_alone():
    first, again, other = (collect(open_source("digits", None, SourceOptions(seed=s)))["test"][2] for s in (1, 1, 2))
    assert (first == again).all()
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("place", ["MNIST/raw", "raw", "."])
def test_mnist_from_small_idx_files(tmp_path, rng, packed, place):
    arrays = write_idx(tmp_path / place, rng, packed=packed)
    before = sorted(os.listdir(tmp_path / place))
    data = collect(open_source("mnist", tmp_path))
    for split, (images, labels) in arrays.items():
        assert (data[split][0][:, 0] == images).all()
        assert (data[split][1] == labels).all()
    assert data["test"][2].tolist() == list(range(12, 17)), "keys go on after the training rows"
    assert sorted(os.listdir(tmp_path / place)) == before, "nothing is written into the root"


@pytest.mark.data
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_the_real_idx_files_are_read_whole(name, folder):
    root = real_data(f"{folder}/raw").parents[1]
    source = open_source(name, root)
    counts, histogram = {"train": 0, "test": 0}, np.zeros(10, dtype=int)
    for batch in source.batches():
        counts[batch.split] += len(batch.labels)
        histogram += np.bincount(batch.labels, minlength=10)
        assert batch.features.shape[1:] == (1, 28, 28)
    assert counts == {"train": 60_000, "test": 10_000}
    known = [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958] if name == "mnist" else [7000] * 10
    assert histogram.tolist() == known


@pytest.mark.data
def test_the_nearest_neighbour_on_mnist_errs_as_rarely_as_is_known():
    """3.09 % on all of it; the first 500 test images alone give a few percent, a broken reader gives 90."""
    data = collect(open_source("mnist", real_data("MNIST/raw").parents[1]))
    train, classes, _ = data["train"]
    train = train.reshape(len(train), -1).astype(np.float32) / 255
    test = data["test"][0][:500].reshape(500, -1).astype(np.float32) / 255
    nearest = ((train**2).sum(1)[None] - 2 * test @ train.T).argmin(1)
    error = (classes[nearest] != data["test"][1][:500]).mean()
    assert 0.01 < error < 0.05


@pytest.mark.data
def test_real_svhn_crops_through_a_real_mat_file(tmp_path):
    with np.load(real_data("svhn_fragment/svhn_fragment.npz")) as fragment:
        images, labels = fragment["images"], fragment["label_by_eye"]
    usable = (labels >= 0) & (labels <= 9)
    images, labels = images[usable], labels[usable]
    write_svhn(tmp_path, images, labels)
    data = collect(open_source("svhn", tmp_path))
    read = np.concatenate([data["train"][0], data["test"][0]])
    assert (read == images.transpose(0, 3, 1, 2)).all()
    assert (np.concatenate([data["train"][1], data["test"][1]]) == labels).all()
    assert 0 in labels, "class 10 of the file must have been the digit 0"


def test_svhn_says_what_is_wrong(tmp_path, rng):
    with pytest.raises(DataError, match="train_32x32.mat is missing"):
        open_source("svhn", tmp_path)
    write_svhn(tmp_path, rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), np.arange(8))
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="test_32x32.mat: not a complete .mat file"):
        collect(open_source("svhn", tmp_path))


def test_cifar_batches_are_what_torchvision_reads(tmp_path, rng, monkeypatch):
    from torchvision.datasets import CIFAR10

    images, labels = write_cifar(tmp_path, rng)
    data = collect(open_source("cifar10", tmp_path))
    assert (np.concatenate([data["train"][0], data["test"][0]]) == images).all()
    assert (np.concatenate([data["train"][1], data["test"][1]]) == labels).all()

    def md5(name):
        return hashlib.md5((tmp_path / "cifar-10-batches-py" / name).read_bytes()).hexdigest()

    monkeypatch.setattr(CIFAR10, "train_list", [[n, md5(n)] for n, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [[n, md5(n)] for n, _ in CIFAR10.test_list])
    meta = {**CIFAR10.meta, "md5": md5("batches.meta")}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    for split in ("train", "test"):
        theirs = CIFAR10(str(tmp_path), train=split == "train", download=False)
        assert (data[split][0] == np.asarray(theirs.data).transpose(0, 3, 1, 2)).all()
        assert data[split][1].tolist() == theirs.targets


class _Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["SOMGRAD_TEST_EVIL"],)


def test_a_batch_of_cifar_cannot_run_code(tmp_path, rng, monkeypatch):
    write_cifar(tmp_path, rng)
    trap = tmp_path / "trap"
    monkeypatch.setenv("SOMGRAD_TEST_EVIL", str(trap))
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({"data": _Evil(), "labels": []}))
    with pytest.raises(DataError, match="data_batch_1: not a readable batch"):
        collect(open_source("cifar10", tmp_path))
    assert not trap.exists()


@pytest.mark.data
def test_cifar_from_the_real_parquet_of_jpegs():
    from PIL import Image

    path = real_data("cifar10/cifar10_jpeg.parquet")
    source = open_source("cifar10", path.parent)
    batch = next(iter(source.batches()))
    import io

    import pyarrow.parquet as pq

    first = next(pq.ParquetFile(path, pre_buffer=False).iter_batches(batch_size=3)).to_pylist()
    assert source.spec.class_names[:3] == ("airplane", "automobile", "bird")
    for index, row in enumerate(first):
        pixels = np.asarray(Image.open(io.BytesIO(row["image"])))
        assert (batch.features[index] == pixels.transpose(2, 0, 1)).all()
        assert batch.labels[index] == row["label"]


def test_more_images_than_labels_are_refused(tmp_path, rng):
    write_idx(tmp_path, rng)
    write_idx(tmp_path / "other", rng, {"train": 3})
    labels = "train-labels-idx1-ubyte"
    (tmp_path / labels).write_bytes((tmp_path / "other" / labels).read_bytes())
    with pytest.raises(UserError, match="number of labels must be 12, as the images. Got 3"):
        collect(open_source("mnist", tmp_path))


def test_a_label_beyond_the_classes_is_refused(tmp_path, rng):
    write_idx(tmp_path, rng)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([11]))
    with pytest.raises(UserError, match=r"row 11: label must be in 0..9. Got 11"):
        collect(open_source("mnist", tmp_path))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_a_truncated_idx_file_is_refused_by_name(tmp_path, rng, packed):
    write_idx(tmp_path, rng, packed=packed)
    path = next(tmp_path.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        collect(open_source("mnist", tmp_path))


def test_unknown_sources_roots_and_options_are_refused(tmp_path):
    with pytest.raises(UserError, match="SOURCE must be one of digits"):
        open_source("imagenet", tmp_path)
    with pytest.raises(UserError, match="--root must be given"):
        open_source("mnist")
    with pytest.raises(UserError, match="--root must be an existing"):
        open_source("mnist", tmp_path / "absent")
    with pytest.raises(UserError, match="--root must hold MNIST/raw"):
        open_source("mnist", tmp_path)
    with pytest.raises(UserError, match="--label-column does not apply to the source 'digits'"):
        open_source("digits", None, SourceOptions(label_column="y"))
    with pytest.raises(UserError, match=r"--test-fraction must be in \[0, 1\). Got 1.0"):
        open_source("digits", None, SourceOptions(test_fraction=1.0))
