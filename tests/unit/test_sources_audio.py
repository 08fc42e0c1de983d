"""Recordings from wav files and npz."""

import numpy as np
import pytest

from jobs._prepared import report
from jobs.prepare import prepare as prepare_job
from pipeline.errors import DataError, UserError
from pipeline.prepare import prepare
from pipeline.sources import SourceOptions, open_source
from tests.conftest import real_data
from tests.raw_files import collect, write_wav


def _audio(path, **options):
    return open_source("audio", path, SourceOptions(**{"test_fraction": 0.0, **options}))


def test_wav_files_are_cut_or_followed_by_silence(tmp_path, rng):
    short, long = rng.integers(-32768, 32768, 50), rng.integers(-32768, 32768, 300)
    write_wav(tmp_path / "no" / "a.wav", short)
    write_wav(tmp_path / "yes" / "b.wav", long)
    source = _audio(tmp_path, duration_s=0.02)
    features, labels, keys = collect(source)["train"]
    assert source.spec.shape == (160,)
    assert source.spec.details == {"sample_rate": 8000}
    assert keys.tolist() == ["no/a.wav", "yes/b.wav"]
    assert labels.tolist() == [0, 1]
    assert (features[0] == np.concatenate([short, np.zeros(110)])).all()
    assert (features[1] == long[:160]).all()


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([50, 60, 300, 160], "of 4 recordings 1 cut at the end and 2 followed by silence, to last 0.02 s (--duration)"),
        ([160, 300], "of 2 recordings 1 cut at the end, to last 0.02 s (--duration)"),
        ([160, 160], None),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["wav", "npz"])
def test_it_is_said_how_many_are_cut_and_how_many_padded(tmp_path, capsys, lengths, said, packed):
    root = tmp_path / "raw"
    for number, length in enumerate(lengths):
        write_wav(root / "yes" / f"{number}.wav", np.arange(length))
    if packed:
        root, offsets = tmp_path / "t.npz", np.cumsum([0, *lengths])
        np.savez(root, samples=np.arange(offsets[-1], dtype=np.int16), offsets=offsets, rate=8000)
    for _ in range(2):  # the second time it is there already
        manifest = prepare(_audio(root, duration_s=0.02), tmp_path / "out")
        assert sum(report("audio", tmp_path / "out", manifest, {})["fitted"].values()) == len(lengths)
        assert [line for line in capsys.readouterr().out.splitlines() if "recordings" in line] == [said] * bool(said)


def test_files_of_other_kinds_in_folders_of_classes_are_counted(tmp_path, capsys):
    root = tmp_path / "raw"
    for split in ("train", "test"):
        write_wav(root / split / "yes" / "a.WAV", np.arange(160))
        for name in ("b.flac", "c.FLAC", "d.mp3", "notes", ".hidden.mp3"):
            (root / split / "yes" / name).write_bytes(b"")
        (root / split / "readme.txt").write_bytes(b"")
    said = prepare_job("audio", tmp_path / "out", root=root, duration=0.02)
    assert said["not_read"] == {".flac": 4, ".mp3": 2, "without ending": 2}
    assert "8 files of other kinds not read: 4 .flac, 2 .mp3, 2 without ending\n" in capsys.readouterr().out


@pytest.mark.parametrize(("width", "error"), [(1, 255), (2, 0), (4, 0)])
def test_sample_widths(tmp_path, rng, width, error):
    samples = rng.integers(-32768, 32768, 200)
    write_wav(tmp_path / "x" / "a.wav", samples, width=width)
    features = collect(_audio(tmp_path, duration_s=0.025))["train"][0][0]
    assert np.abs(features.astype(int) - samples).max() <= error


def test_stereo_and_float(tmp_path, rng):
    from scipy.io import wavfile

    left, right = rng.integers(-30000, 30000, (2, 80))
    write_wav(tmp_path / "x" / "a.wav", np.stack([left, right], 1).ravel(), channels=2)
    wavfile.write(tmp_path / "x" / "b.wav", 8000, (left / 32768).astype(np.float32))
    features = collect(_audio(tmp_path, duration_s=0.01))["train"][0]
    assert np.abs(features[0] - (left + right) / 2).max() <= 0.5
    assert np.abs(features[1].astype(int) - left).max() <= 1


def test_another_rate_is_an_error_or_resampled_on_demand(tmp_path):
    def tone(rate):
        return 10000 * np.sin(2 * np.pi * 200 * np.arange(rate) / rate)

    write_wav(tmp_path / "x" / "a.wav", tone(8000))
    write_wav(tmp_path / "x" / "b.wav", tone(16000), rate=16000)
    with pytest.raises(UserError, match="b.wav: sample rate must be 8000 Hz, as the first file. Got 16000"):
        collect(_audio(tmp_path))
    features = collect(_audio(tmp_path, sample_rate=8000))["train"][0].astype(float)
    assert np.abs(features[0] - features[1])[200:-200].max() < 200, "the same tone at either rate"
    np.savez(tmp_path / "t.npz", samples=tone(16000).astype(np.int16), offsets=[0, 16000], rate=16000)
    packed = collect(_audio(tmp_path / "t.npz", sample_rate=8000))["train"][0]
    assert np.abs(features[0] - packed[0])[200:-200].max() < 200


def test_broken_and_empty_wav_files_are_named(tmp_path):
    write_wav(tmp_path / "x" / "a.wav", np.arange(100))
    for size in (30, 200):  # inside the header, inside the samples
        (tmp_path / "x" / "b.wav").write_bytes((tmp_path / "x" / "a.wav").read_bytes()[:size])
        with pytest.raises(DataError, match=r"b.wav is not a readable wav file .* pass --drop-invalid to leave such"):
            collect(_audio(tmp_path))
    write_wav(tmp_path / "x" / "b.wav", [])
    with pytest.raises(DataError, match="b.wav holds no samples"):
        collect(_audio(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": np.zeros(10)}, "samples must be a vector of int16"),
        ({"offsets": np.array([0, 4])}, "offsets must be rising from 0 to 10"),
        ({"offsets": np.array([0, 12, 4, 10])}, "offsets must be rising from 0 to 10"),
        ({"rate": [8000]}, r"array 'rate' must be one whole number of Hz, 1 to 768000. Got 'shape \(1,\), int64'"),
        ({"rate": "8000"}, "array 'rate' must be one whole number of Hz, 1 to 768000. Got 'shape"),
        ({"rate": 0}, "array 'rate' must be one whole number of Hz, 1 to 768000. Got 0"),
        ({"rate": 0.5}, "array 'rate' must be one whole number of Hz, 1 to 768000. Got 0.5"),
        ({"rate": 800_000}, "array 'rate' must be one whole number of Hz, 1 to 768000. Got 800000"),
        ({"rate": np.nan}, "array 'rate' must be one whole number of Hz, 1 to 768000. Got nan"),
        ({"labels": np.arange(3)}, r"array 'labels' must be of shape \(2,\)"),
    ],
)
def test_npz_with_a_fault_is_refused(tmp_path, change, message):
    arrays = {"samples": np.arange(10, dtype=np.int16), "offsets": np.array([0, 4, 10]), "rate": 8000, **change}
    np.savez(tmp_path / "t.npz", **arrays)
    for options in ({}, {"sample_rate": 4000}):
        with pytest.raises(UserError, match=message):
            _audio(tmp_path / "t.npz", **options)


def test_an_empty_recording_of_an_npz_is_no_silence(tmp_path):
    offsets = np.array([0, 4, 4, 10])
    np.savez(tmp_path / "t.npz", samples=np.arange(10, dtype=np.int16), offsets=offsets, rate=8000, labels=[0, 1, 1])
    undecoded, batch = _audio(tmp_path / "t.npz", test_fraction=0.0).batches()
    assert str(undecoded.error) == (
        "t.npz: recording 1 holds no samples. Clean it, or pass --drop-invalid to leave such recordings out."
    )
    assert (batch.keys.tolist(), batch.labels.tolist(), batch.features[:, 0].tolist()) == ([0, 2], [0, 1], [0, 4])


def test_npz_in_the_byte_order_of_other_machines(tmp_path):
    arrays = {"offsets": np.array([0, 4, 10], ">i4"), "rate": np.array(5, ">f8"), "labels": np.array([300, 7], ">i8")}
    np.savez(tmp_path / "t.npz", samples=np.arange(10, dtype=np.int16), **arrays)
    source = _audio(tmp_path / "t.npz")
    features, labels, _ = collect(source)["train"]
    assert (source.spec.details, source.spec.class_names) == ({"sample_rate": 5}, ("7", "300"))
    assert features.tolist() == [[0, 1, 2, 3, 0], [4, 5, 6, 7, 8]]
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("duration", "message"),
    [
        (float("inf"), "--duration must be at least 0.001 seconds, and finite. Got inf"),
        (float("nan"), "--duration must be at least 0.001 seconds, and finite. Got nan"),
        (0.0, "--duration must be at least 0.001 seconds, and finite. Got 0.0"),
        (0.00001, "--duration must be at least 0.001 seconds, and finite. Got 1e-05"),
        (1e300, "--duration must be at most 268435 seconds at 8000 Hz. Got 1e\\+300"),
    ],
)
def test_a_duration_that_no_recording_has_is_refused(tmp_path, duration, message):
    write_wav(tmp_path / "x" / "a.wav", np.arange(100))
    with pytest.raises(UserError, match=message):
        _audio(tmp_path, duration_s=duration)


@pytest.mark.parametrize("wrong", [0, 2**31 - 1])
def test_a_wav_file_of_a_rate_that_no_recorder_has_is_named(tmp_path, wrong):
    write_wav(tmp_path / "x" / "a.wav", np.arange(100))
    content = bytearray((tmp_path / "x" / "a.wav").read_bytes())
    content[24:28] = wrong.to_bytes(4, "little")
    content[28:32] = (2 * wrong % 2**32).to_bytes(4, "little")  # bytes per second
    (tmp_path / "x" / "a.wav").write_bytes(content)
    for rate in (None, 8000):
        with pytest.raises(UserError, match=f"a.wav: sample rate must be 1 to 768000 Hz. Got {wrong}"):
            collect(_audio(tmp_path, sample_rate=rate))


def test_a_wanted_rate_that_no_recorder_has_is_refused(tmp_path):
    write_wav(tmp_path / "x" / "a.wav", np.arange(100))
    with pytest.raises(UserError, match="--sample-rate must be at most 768000 Hz. Got 800000"):
        _audio(tmp_path, sample_rate=800_000)


def test_float_samples_of_another_scale_are_named_instead_of_clipped(tmp_path):
    from scipy.io import wavfile

    (tmp_path / "x").mkdir()
    wavfile.write(tmp_path / "x" / "a.wav", 8000, np.float32([0.5, 1.5]))  # a peak that was mixed too high is clipped
    assert collect(_audio(tmp_path))["train"][0][0][:2].tolist() == [16384, 32767]
    wavfile.write(tmp_path / "x" / "b.wav", 8000, np.float32([100.0, -20000.0]))
    with pytest.raises(DataError, match="b.wav: float samples must lie in -1 to 1. Got 20000, of another scale"):
        collect(_audio(tmp_path))


def test_a_wav_file_that_ends_behind_its_header_is_named(tmp_path):
    write_wav(tmp_path / "x" / "a.wav", np.arange(100))
    content = bytearray((tmp_path / "x" / "a.wav").read_bytes()[:44])
    content[4:8] = content[40:44] = bytes(4)  # as a recorder leaves it that was killed
    (tmp_path / "x" / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match="a.wav (is not a readable wav file .no samples|holds no samples)"):
        collect(_audio(tmp_path))


def test_a_wav_file_without_channels_is_named(tmp_path):
    write_wav(tmp_path / "x" / "a.wav", np.arange(100))
    content = bytearray((tmp_path / "x" / "a.wav").read_bytes())
    content[22:24] = bytes(2)
    (tmp_path / "x" / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match="a.wav is not a readable wav file"):
        _audio(tmp_path)


def test_folders_of_splits(tmp_path):
    for number, split in enumerate(("train", "valid", "test")):
        for name in ("no", "yes"):
            write_wav(tmp_path / split / name / "a.wav", np.full(80, number))
    source = _audio(tmp_path, duration_s=0.01, test_fraction=None)
    data = collect(source)
    assert source.spec.class_names == ("no", "yes")
    assert {split: set(rows[0].ravel().tolist()) for split, rows in data.items()} == {
        "train": {0}, "validation": {1}, "test": {2},
    }  # fmt: skip
    write_wav(tmp_path / "extra" / "no" / "a.wav", np.zeros(80))
    with pytest.raises(DataError, match="must be called as a split too .* Got 'extra'"):
        _audio(tmp_path)


def test_npz_without_a_rate_asks_for_it(tmp_path):
    np.savez(tmp_path / "t.npz", samples=np.arange(10, dtype=np.int16), offsets=np.array([0, 4, 10]))
    with pytest.raises(UserError, match="Pass --sample-rate"):
        _audio(tmp_path / "t.npz")
    features = collect(_audio(tmp_path / "t.npz", sample_rate=5))["train"][0]
    assert features.tolist() == [[0, 1, 2, 3, 0], [4, 5, 6, 7, 8]]


@pytest.mark.data
def test_the_real_spoken_digits():
    path = real_data("fsdd/fsdd.npz")
    source = _audio(path.parent, test_fraction=None)
    data = collect(source)
    assert {split: len(rows[1]) for split, rows in data.items()} == {"train": 2700, "test": 300}
    with np.load(path) as raw:
        for row in (0, 7, 2999):
            split = str(raw["split"][row])
            place = np.flatnonzero(data[split][2] == row)[0]
            samples = raw["samples"][raw["offsets"][row] : raw["offsets"][row + 1]][:8000]
            assert (data[split][0][place][: len(samples)] == samples).all()
            assert not data[split][0][place][len(samples) :].any()
            assert data[split][1][place] == raw["labels"][row]
