"""Images from folders, parquet and npz."""

import contextlib
import io
import os
import warnings
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.prepare import prepare as prepare_job
from pipeline.errors import DataError, UserError
from pipeline.sources import SourceOptions, Undecoded, open_source
from pipeline.sources.decoding import Decoder
from tests.conftest import real_data
from tests.raw_files import collect


def _images(path, **options):
    return open_source("images", path, SourceOptions(**options))


def _pixels(rng, count, size=(4, 6), channels=3):
    return rng.integers(0, 256, (count, *size, channels)[: 3 + (channels > 1)], dtype=np.uint8)


def _png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _folder(root, pixels, names):
    for number, (image, name) in enumerate(zip(pixels, names, strict=True)):
        path = root / name / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_png(image))
    return root


def test_a_folder_per_class(tmp_path, rng):
    pixels = _pixels(rng, 6)
    source = _images(_folder(tmp_path, pixels, ["b", "a", "b", "10", "9", "unlabelled"]), test_fraction=0.0)
    assert source.spec.class_names == ("9", "10", "a", "b")
    assert source.spec.shape == (3, 4, 6)
    features, labels, keys = collect(source)["train"]
    by_key = dict(zip(keys.tolist(), zip(features, labels.tolist(), strict=True), strict=True))
    assert {key: label for key, (_, label) in by_key.items()} == {
        "b/000.png": 3, "a/001.png": 2, "b/002.png": 3, "10/003.png": 1, "9/004.png": 0, "unlabelled/005.png": -1,
    }  # fmt: skip
    for key, (image, _) in by_key.items():
        assert (image == pixels[int(key[-7:-4])].transpose(2, 0, 1)).all()


def test_a_folder_for_unlabelled_that_is_not_there_is_refused(tmp_path, rng):
    _folder(tmp_path, _pixels(rng, 3), ["a", "b", "other"])
    with pytest.raises(UserError, match=r"must be the name of a folder in .* \(a, b, other\). Got 'Other'."):
        _images(tmp_path, unlabelled_value="Other")
    assert _images(tmp_path, unlabelled_value="other").spec.class_names == ("a", "b")


@pytest.mark.parametrize("word", ["none", "None"])
def test_a_folder_may_be_called_none_where_no_name_is_that_of_the_unlabelled(tmp_path, rng, word):
    _folder(tmp_path, _pixels(rng, 3), ["a", "none", "unlabelled"])
    assert _images(tmp_path, unlabelled_value=word).spec.class_names == ("a", "none", "unlabelled")


@pytest.mark.parametrize("name", ["unlabelled", "Unlabelled", "unlabeled", "UNLABELED"])
def test_the_folder_for_unlabelled_in_other_spellings(tmp_path, rng, name):
    _folder(tmp_path, _pixels(rng, 3), ["a", name, "b"])
    source = _images(tmp_path, test_fraction=0.0)
    assert source.spec.class_names == ("a", "b")
    assert sorted(collect(source)["train"][1].tolist()) == [-1, 0, 1]
    assert name in _images(tmp_path, unlabelled_value="none").spec.class_names


@pytest.mark.parametrize("unlabelled", [None, "N\u00e4", "Na\u0308"])
def test_names_of_classes_are_the_same_however_letters_are_composed(tmp_path, rng, unlabelled):
    _folder(tmp_path / "train", _pixels(rng, 3), ["A\u0308pfel", "cats", "Na\u0308"])
    _folder(tmp_path / "test", _pixels(rng, 2), ["\u00c4pfel", "cats"])
    source = _images(tmp_path, unlabelled_value=unlabelled)
    known = (*([] if unlabelled else ["N\u00e4"]), "cats", "\u00c4pfel")
    assert source.spec.class_names == known
    assert sorted(collect(source)["test"][1].tolist()) == [known.index("cats"), known.index("\u00c4pfel")]


@pytest.mark.parametrize(("form", "option"), [("npz", "size"), ("folders", "label_column")])
def test_an_option_for_another_form_of_images_names_the_form(tmp_path, rng, form, option):
    """Images in general understand it."""
    root, value = tmp_path / "a.npz", {"size": (8, 8), "label_column": "label"}[option]
    np.savez(root, images=_pixels(rng, 2), labels=[0, 1])
    if form == "folders":
        root = _folder(tmp_path / "raw", _pixels(rng, 2), ["a", "b"])
    with pytest.raises(UserError, match=f"does not apply to the source 'images in (an )?{form}'. It understands: "):
        _images(root, **{option: value})


def test_folders_are_listed_as_torchvision_does(tmp_path, rng):
    from torchvision.datasets import ImageFolder

    _folder(tmp_path, _pixels(rng, 7), list("babcabc"))
    theirs = ImageFolder(str(tmp_path))
    _, labels, keys = collect(_images(tmp_path, test_fraction=0.0))["train"]
    assert [str(tmp_path / key) for key in keys] == [path for path, _ in theirs.samples]
    assert labels.tolist() == theirs.targets


def test_train_and_test_folders_are_the_split(tmp_path, rng):
    _folder(tmp_path / "train", _pixels(rng, 3), ["a", "b", "a"])
    _folder(tmp_path / "test", _pixels(rng, 2), ["b", "c"])
    source = _images(tmp_path)
    data = collect(source)
    assert source.spec.class_names == ("a", "b", "c")
    assert {split: rows[1].tolist() for split, rows in data.items()} == {"train": [0, 0, 1], "test": [1, 2]}


@pytest.mark.parametrize(
    "names",
    [("train", "valid", "test"), ("training", "val", "testing"), ("Train", "Validation", "TEST"), ("train", "dev")],
    ids="-".join,
)
@pytest.mark.parametrize("form", ["folders", "parquet"])
def test_every_name_of_a_split_is_one_of_a_folder_and_of_a_file(tmp_path, rng, names, form):
    for name, count in zip(names, (6, 4, 2), strict=False):
        classes = ["cat", "dog"] * (count // 2)
        if form == "folders":
            _folder(tmp_path / name, _pixels(rng, count), classes)
            (tmp_path / "notes").mkdir(exist_ok=True)  # without samples it is neither a class nor a split
        else:
            table = pa.table({"image": [_png(p) for p in _pixels(rng, count)], "label": classes})
            pq.write_table(table, tmp_path / f"{name}-00000-of-00001.parquet")
    source = _images(tmp_path)
    wanted = dict(zip(("train", "validation", "test"), (6, 4, 2)[: len(names)], strict=False))
    assert source.spec.class_names == ("cat", "dog")
    assert {split: len(rows[1]) for split, rows in collect(source).items()} == wanted


def test_a_folder_beside_train_that_is_no_split_is_named(tmp_path, rng):
    for name in ("train", "test", "extra"):
        _folder(tmp_path / name, _pixels(rng, 2), ["a", "b"])
    line = (
        r"Folders beside .*train must be called as a split too \(train, .*\)\. Got 'extra'\. Rename it or move it away"
    )
    for share in (None, 0.5):  # which classes there are is no matter of the split
        with pytest.raises(DataError, match=line):
            _images(tmp_path, test_fraction=share)
    (tmp_path / "extra").rename(tmp_path / "validation")
    _folder(tmp_path / "val", _pixels(rng, 1), ["a"])
    with pytest.raises(DataError, match="must hold one folder per split. Got 'val' and 'validation'"):
        _images(tmp_path)


def test_a_class_may_be_called_train(tmp_path, rng):
    source = _images(_folder(tmp_path, _pixels(rng, 3), ["bus", "train", "valid"]), test_fraction=0.0)
    assert source.spec.class_names == ("bus", "train", "valid")
    assert collect(source)["train"][1].tolist() == [0, 1, 2]


def test_hidden_files_and_folders_hold_no_samples(tmp_path, rng):
    _folder(tmp_path, _pixels(rng, 3), ["a", "b", "a"])
    _folder(tmp_path / "a", _pixels(rng, 2), [".ipynb_checkpoints", "more"])
    _folder(tmp_path, _pixels(rng, 1), [".trash"])
    (tmp_path / "a" / "._000.png").write_bytes(b"what another system notes of a file")
    keys = collect(_images(tmp_path, test_fraction=0.0))["train"][2]
    assert keys.tolist() == ["a/000.png", "a/002.png", "a/more/001.png", "b/001.png"]


@pytest.mark.parametrize(("classes", "loose"), [("", "x.png"), ("train", "x.png"), ("train", "train/x.png")])
def test_a_picture_in_no_class_is_named(tmp_path, rng, classes, loose):
    _folder(tmp_path / classes, _pixels(rng, 2), ["a", "b"])
    (tmp_path / loose).write_bytes(_png(_pixels(rng, 1)[0]))
    (tmp_path / "notes.txt").write_text("no sample")
    with pytest.raises(DataError, match=f"Files must lie in the folder of a class. Got .*{loose}. Move it into one"):
        _images(tmp_path)


def test_a_link_that_leads_nowhere_is_told(tmp_path, rng):
    _folder(tmp_path, _pixels(rng, 2), ["a", "b"])
    (tmp_path / "a" / "notes.txt").symlink_to("gone.txt")  # no picture: only counted
    (tmp_path / "a" / "linked.png").symlink_to("../b/001.png")
    assert len(_images(tmp_path, test_fraction=0.0).spec.files) == 3
    (tmp_path / "b" / "later.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"b/later.png must be a file. It is a link that leads nowhere. Fetch"):
        _images(tmp_path)


def test_a_name_that_is_not_utf_8_is_told(tmp_path, rng):
    _folder(tmp_path, _pixels(rng, 2), ["a", "b"])
    os.rename(tmp_path / "a" / "000.png", os.fsencode(tmp_path / "a") + b"/\xff.png")
    with pytest.raises(UserError, match=r"Names of files must be text in UTF-8. Got 'a/\\udcff.png'. Rename it."):
        _images(tmp_path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photo_stands_as_its_camera_was_held(form, orientation):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :32] = 255
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(out, form, exif=exif)
    got = Decoder(SourceOptions())(out.getvalue(), "x").transpose(1, 2, 0)
    wanted = np.rot90(pixels, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    assert got.shape == wanted.shape
    assert np.abs(got.astype(int) - wanted).mean() < 1


def test_a_photo_with_damaged_notes_is_read():
    """Any byte of the notes: Pillow fails at some of them while it turns the image."""
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "a garden", 72.5
    Image.new("RGB", (4, 6)).save(out, "JPEG", exif=exif)
    whole = out.getvalue()
    for place in range(20, whole.index(b"garden") + 20):
        for value in (0, 2, 3, 7, 255):
            damaged = whole[:place] + bytes([value]) + whole[place + 1 :]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    Image.open(io.BytesIO(damaged)).load()
                except (OSError, SyntaxError):  # Pillow does not know it for an image
                    continue
                assert sorted(Decoder(SourceOptions())(damaged, "x").shape) == [3, 4, 6]


def test_another_size_is_an_error_or_resized_on_demand(tmp_path, rng):
    _folder(tmp_path, _pixels(rng, 2), ["a", "a"])
    (tmp_path / "a" / "big.png").write_bytes(_png(_pixels(rng, 1, (8, 6))[0]))
    with pytest.raises(UserError, match=r"big.png: image must be 4x6 pixels .* Got '8x6 pixels'. Pass --size"):
        collect(_images(tmp_path))
    features = collect(_images(tmp_path, size=(5, 5), test_fraction=0.0))["train"][0]
    assert features.shape == (3, 3, 5, 5)


def test_gray_among_colour_is_an_error_or_converted_on_demand(tmp_path, rng):
    _folder(tmp_path, _pixels(rng, 2), ["a", "a"])
    (tmp_path / "a" / "gray.png").write_bytes(_png(_pixels(rng, 1, channels=1)[0]))
    with pytest.raises(UserError, match="gray.png: image must be in colour, as the first. Got 'gray'"):
        collect(_images(tmp_path))
    assert collect(_images(tmp_path, channels=1, test_fraction=0.0))["train"][0].shape == (3, 1, 4, 6)


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("I;16", "x.png"), ("I;16", "x.tif"), ("I;16B", "x.tif"), ("I", "x.tif"), ("I", "x.pgm"), ("F", "x.tif"),
        ("CMYK", "x.jpg"), ("CMYK", "x.tif"), ("LAB", "x.tif"), ("YCbCr", "x.tif"),
    ],
)  # fmt: skip
def test_a_mode_that_8_bits_do_not_hold_is_refused(tmp_path, mode, name, channels):
    (tmp_path / "a").mkdir()
    Image.new(mode, (6, 4)).save(tmp_path / "a" / name)
    line = (
        rf"a/{name}: image must be 8-bit gray, RGB or palette \(mode 1, L, .*\)\. Got 'mode {mode}'\. Scale or convert"
    )
    with pytest.raises(UserError, match=line):
        _images(tmp_path, channels=channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_modes_of_8_bits_are_read_as_pillow_means_them_and_a_deeper_one_among_them_is_named(tmp_path, rng, channels):
    (tmp_path / "a").mkdir()
    colour = Image.fromarray(_pixels(rng, 1)[0])
    wanted = {}
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        path = tmp_path / "a" / f"{mode}.tif"
        colour.convert("P").convert(mode).save(path) if mode == "PA" else colour.convert(mode).save(path)
        with Image.open(path) as written:
            assert written.mode == mode
            pixels = np.asarray(written.convert("L" if channels == 1 else "RGB"))
        wanted[f"a/{mode}.tif"] = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    features, _, keys = collect(_images(tmp_path, channels=channels, test_fraction=0.0))["train"]
    assert sorted(keys) == sorted(wanted)
    assert all((image == wanted[key]).all() for key, image in zip(keys.tolist(), features, strict=True))
    Image.fromarray(rng.integers(256, 65536, (4, 6), dtype=np.uint16)).save(tmp_path / "a" / "deep.png")
    with pytest.raises(UserError, match=r"a/deep\.png: image must be .* Got 'mode I;16'"):
        collect(_images(tmp_path, channels=channels, test_fraction=0.0))


def test_a_broken_image_and_an_empty_class_are_named(tmp_path, rng):
    _folder(tmp_path, _pixels(rng, 2), ["a", "b"])
    (tmp_path / "b" / "x.png").write_bytes(_png(_pixels(rng, 1)[0])[:60])
    with pytest.raises(DataError, match=r"b/x.png cannot be decoded"):
        collect(_images(tmp_path))
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="Class folder .*c must hold files"):
        _images(tmp_path)
    with pytest.raises(DataError, match="one folder per class"):
        _images(tmp_path / "c")


@pytest.mark.parametrize("nested", [False, True], ids=["bytes", "struct"])
def test_parquet_with_encoded_images(tmp_path, rng, nested):
    pixels = _pixels(rng, 5)
    raw = [_png(image) for image in pixels]
    column = [{"bytes": b, "path": None} for b in raw] if nested else raw
    table = pa.table({"image": column, "label": [2, 0, -1, 2, 5], "split": ["train", "test", "train", "train", "test"]})
    pq.write_table(table, tmp_path / "t.parquet")
    source = _images(tmp_path / "t.parquet")
    data = collect(source)
    assert source.spec.class_names == ("0", "2", "5")
    assert (data["train"][0] == pixels[[0, 2, 3]].transpose(0, 3, 1, 2)).all()
    assert data["train"][1].tolist() == [1, -1, 1]
    assert data["test"][1].tolist() == [0, 2]


def test_parquet_files_named_by_split_and_names_of_classes_in_the_file(tmp_path, rng):
    for name, labels in (("train-00000-of-00001", [1, 0, 1]), ("test-00000-of-00001", [0, -1])):
        table = pa.table({"img": [_png(p) for p in _pixels(rng, len(labels))], "label": labels})
        pq.write_table(table.replace_schema_metadata({"classes": "cat,dog,bird"}), tmp_path / f"{name}.parquet")
    source = _images(tmp_path)
    data = collect(source)
    assert source.spec.class_names == ("cat", "dog", "bird")
    assert data["train"][1].tolist() == [1, 0, 1]
    assert data["test"][1].tolist() == [0, -1]
    pq.write_table(table.replace_schema_metadata({"classes": "cat"}), tmp_path / "train-00000-of-00001.parquet")
    table = pa.table({"img": [_png(_pixels(rng, 1)[0])], "label": [3]}).replace_schema_metadata({"classes": "a,b,c"})
    pq.write_table(table, tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match="'label' must be in 0..2 or unlabelled. Got 3"):
        _images(tmp_path / "test-00000-of-00001.parquet")


def test_what_lies_below_parquet_files_is_counted(tmp_path, rng, capsys):
    table = pa.table({"image": [_png(image) for image in _pixels(rng, 6)], "label": [0, 1] * 3})
    for name in ("all.parquet", "more/b.parquet", "more/deep/c.PNG", ".hidden/d.png", "_old/e.png", "more/notes.txt"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / "raw" / name)
    said = prepare_job("images", tmp_path / "out", root=tmp_path / "raw")
    assert said["not_read"] == {".parquet": 1, ".png": 1}
    assert "2 files in subfolders not read: 1 .parquet, 1 .png\n" in capsys.readouterr().out
    assert prepare_job("images", tmp_path / "one", root=tmp_path / "raw" / "all.parquet")["not_read"] == {}


def test_a_parquet_file_beside_train_that_is_no_split_is_named(tmp_path, rng):
    for name in ("train-0", "test-0", "extra-0"):
        table = pa.table({"image": [_png(p) for p in _pixels(rng, 4)], "label": [0, 1, 0, 1]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    line = r"Files beside train-0.parquet must be called as a split too .* Got 'extra-0.parquet'\. .* --test-fraction"
    with pytest.raises(DataError, match=line):
        _images(tmp_path)
    data = collect(_images(tmp_path, test_fraction=0.5))
    assert {split: len(rows[1]) for split, rows in data.items()} == {"train": 6, "test": 6}


@pytest.mark.parametrize("other", [{"fine": [0, 1]}, {"label": [0, 1], "img": [b"", b""]}])
def test_parquet_files_of_other_columns_are_refused(tmp_path, rng, other):
    images = {"image": [_png(p) for p in _pixels(rng, 2)]}
    pq.write_table(pa.table(images | {"label": [0, 1]}), tmp_path / "train-0.parquet")
    pq.write_table(pa.table((images if "fine" in other else {}) | other), tmp_path / "test-0.parquet")
    line = r"^train-0.parquet must have the columns of test-0.parquet. '(fine|image)' differs.$"
    with pytest.raises(DataError, match=line):
        _images(tmp_path)


def test_rows_behind_an_image_that_is_left_out_stay_in_their_split(tmp_path, rng):
    raw = [_png(image) for image in _pixels(rng, 4)]
    raw[1] = b"broken"
    pq.write_table(pa.table({"image": raw, "split": ["train", "train", "test", "train"]}), tmp_path / "t.parquet")
    batches = [batch for batch in _images(tmp_path / "t.parquet").batches() if not isinstance(batch, Undecoded)]
    found = {int(row): batch.split for batch in batches for row in batch.rows}
    assert found == {0: "train", 2: "test", 3: "train"}


@pytest.mark.parametrize("form", ["folders", "npz"])
def test_a_share_of_test_rows_that_is_given_replaces_the_split_that_is_there(tmp_path, rng, form):
    names, path = ["a", "b"] * 10, tmp_path
    if form == "folders":
        for split in ("train", "test"):
            _folder(tmp_path / split, _pixels(rng, 20), names)
    else:
        path = tmp_path / "t.npz"
        np.savez(path, images=_pixels(rng, 40), labels=np.array(names * 2), split=np.repeat(["train", "test"], 20))
    for share, sizes in ((None, (20, 20)), (0.25, (30, 10))):
        data = collect(_images(path, test_fraction=share))
        assert (len(data["train"][1]), len(data["test"][1])) == sizes


@pytest.mark.parametrize("nested", [False, True], ids=["bytes", "struct"])
def test_an_image_that_is_missing_can_be_left_out(tmp_path, rng, nested):
    raw = [None, *map(_png, _pixels(rng, 2))]
    column = [{"bytes": b, "path": "x"} for b in raw] if nested else raw
    pq.write_table(pa.table({"image": column, "label": [0, 1, 0]}), tmp_path / "t.parquet")
    first, *rest = _images(tmp_path / "t.parquet", test_fraction=0.0).batches()
    assert isinstance(first, Undecoded)
    assert str(first.error).startswith("Shard 0 (t.parquet): row 0: the image is missing. Clean it, or pass --drop-inv")
    assert np.concatenate([batch.keys for batch in rest]).tolist() == [1, 2]


def test_a_missing_key_is_refused(tmp_path, rng):
    table = pa.table({"image": [_png(p) for p in _pixels(rng, 2)], "k": ["a", None]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="key column 'k' must have no missing value"):
        collect(_images(tmp_path / "t.parquet", key_column="k", test_fraction=0.0))


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_a_batch_stays_small_whatever_the_size_of_the_images(tmp_path, rng, form):
    pixels = _pixels(rng, 40)
    if form == "folder":
        path = _folder(tmp_path, pixels, ["a"] * 40)
    else:
        path = tmp_path / "t.parquet"
        pq.write_table(pa.table({"image": [_png(p) for p in pixels]}), path)
    source = _images(path, size=(700, 700))
    assert max(batch.features.nbytes for batch in source.batches()) <= 4 << 20


def test_parquet_without_images_is_refused(tmp_path, rng):
    pq.write_table(pa.table({"x": [1], "label": [0]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="--image-column must be a column of t.parquet"):
        _images(tmp_path / "t.parquet")
    pq.write_table(pa.table({"image": ["text"], "label": [0]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="row 0: image must be the bytes of an encoded image. Got 'str'"):
        _images(tmp_path / "t.parquet")


def test_a_mode_that_8_bits_do_not_hold_is_named_by_its_row_of_a_parquet(tmp_path, rng):
    gray = _pixels(rng, 3, channels=1)
    raw = [_png(gray[0]), _png(gray[1]), _png(gray[2].astype(np.uint16) * 257)]
    pq.write_table(pa.table({"image": raw, "label": [0, 1, 0]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"^Shard 0 \(t\.parquet\): row 2: image must be .* Got 'mode I;16'"):
        collect(_images(tmp_path / "t.parquet", test_fraction=0.0))
    pq.write_table(pa.table({"image": raw[::-1], "label": [0, 1, 0]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"^t\.parquet: row 0: image must be .* Got 'mode I;16'"):
        _images(tmp_path / "t.parquet")


@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_npz_is_streamed(tmp_path, rng, channels, save):
    images = rng.integers(0, 256, (700, 40, 50, *([channels] if channels else [])), dtype=np.uint8)
    labels = rng.integers(3, 6, 700)
    split = np.where(np.arange(700) < 500, "train", "test")
    save(tmp_path / "t.npz", images=images, labels=labels, split=split)
    source = _images(tmp_path / "t.npz")
    sizes = [len(batch.labels) for batch in source.batches()]
    assert max(sizes) * images[0].nbytes <= 4 << 20, "a batch stays small whatever the file holds"
    data = collect(source)
    wanted = images.reshape(700, 40, 50, -1).transpose(0, 3, 1, 2)
    assert (data["train"][0] == wanted[:500]).all()
    assert (data["test"][0] == wanted[500:]).all()
    assert (data["test"][1] == labels[500:] - 3).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((3, 4, 4), np.float32)}, "images must be .* uint8"),
        ({"images": np.zeros((3, 16), np.uint8)}, "images must be"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "N >= 1"),
        ({"labels": np.zeros(2, int)}, r"array 'labels' must be of shape \(3,\). Got \(2,\)"),
        ({"labels": np.array([0.5, 1, 1])}, "must hold integers or names of classes. Got 0.5"),
        ({"labels": np.array([1j, 1, 1])}, "must hold integers or names of classes. Got complex128"),
        ({"labels": np.array([None, 1, 1], dtype=object)}, "Python objects"),
        ({"split": np.array(["train", "x", "test"])}, "split must be train, test or validation. Got 'x'"),
    ],
)
def test_npz_with_a_fault_is_refused(tmp_path, change, message):
    arrays = {"images": np.zeros((3, 4, 4), np.uint8), "labels": np.arange(3), **change}
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(UserError, match=message):
        _images(tmp_path / "t.npz")


@pytest.mark.parametrize("kind", [">i8", ">f4", ">U3"])
def test_npz_in_the_byte_order_of_other_machines(tmp_path, rng, kind):
    np.savez(tmp_path / "t.npz", images=_pixels(rng, 3), labels=np.array([7, 300, 7]).astype(kind))
    source = _images(tmp_path / "t.npz", test_fraction=0.0)
    assert set(source.spec.class_names) == {"7", "300"}
    assert [source.spec.class_names[code] for code in collect(source)["train"][1]] == ["7", "300", "7"]


def test_npz_without_labels_or_truncated(tmp_path, rng):
    path = tmp_path / "t.npz"
    np.savez(path, images=_pixels(rng, 10))
    data = collect(_images(path))
    assert len(data["test"][1]) == 2
    assert set(data["train"][1].tolist()) == {-1}
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"t.npz is not a readable .npz file"):
        _images(path)
    np.savez(path, pictures=_pixels(rng, 1))
    with pytest.raises(DataError, match="must hold an array 'images'. It holds: pictures"):
        _images(path)


def test_a_damaged_npz_is_read_as_it_was_or_refused(tmp_path):
    """Any byte: of a stream that is compressed, of how it is compressed, of the list at the end."""
    path, images = tmp_path / "t.npz", np.arange(60 * 64, dtype=np.uint8).reshape(60, 8, 8)
    np.savez_compressed(path, images=images, labels=np.arange(60) % 2)
    whole = path.read_bytes()
    for place in range(30, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(DataError):
            assert (collect(_images(path, test_fraction=0.0))["train"][0][:, 0] == images).all()


@pytest.mark.parametrize(
    "method, mark, field", [(zipfile.ZIP_BZIP2, b"BZh", 4), (zipfile.ZIP_LZMA, b"PK\1\2", -20), (0, b"PK\5\6", 17)]
)
def test_what_readers_of_zip_say_of_a_damaged_npz_is_told_in_one_line(tmp_path, method, mark, field):
    """Streams of bzip2 and LZMA, and a list that is said to begin before the file: none is a fault of the disk."""
    path = tmp_path / "t.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("images.npy")
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", content)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(mark) + field] ^= 127
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"^t.npz is not a readable .npz file \([^\n]+\)\.$"):
        _images(path)


@pytest.mark.data
def test_the_real_street_characters_keep_their_unlabelled_part_in_training():
    path = real_data("streetchars/streetchars32_webp.parquet")
    with pytest.raises(UserError, match="Got 'labelled'. Pass --test-fraction"):
        next(iter(_images(path).batches()))
    source = _images(path, test_fraction=0.2, seed=3)
    first = next(iter(source.batches()))
    row = next(pq.ParquetFile(path, pre_buffer=False).iter_batches(batch_size=1)).to_pylist()[0]
    assert (first.features[0] == np.asarray(Image.open(io.BytesIO(row["image"]))).transpose(2, 0, 1)).all()
    assert source.spec.class_names[first.labels[0]] == row["char"]
    labels = pq.read_table(path, columns=["label"])["label"].to_numpy()
    held_out = source._is_test
    assert not held_out[labels == -1].any()
    assert abs(held_out.sum() - 0.2 * (labels >= 0).sum()) < 31
