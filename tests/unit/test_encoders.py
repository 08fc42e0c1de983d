"""Encoders: features in (0, 1) that depend on the sample alone; the same values from the same seed."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.deep.audio import WORD_FRAMES, LogMel, LogMelWord, mel_filters
from pipeline.deep.encoders import initialise, make_decoder, make_encoder, spread_features
from pipeline.deep.network import narrowed
from pipeline.deep.pretrained import FrozenFeatures
from pipeline.deep.sample_shape import SampleShape
from pipeline.errors import UserError

GREY, COLOUR = SampleShape("image", (1, 28, 28)), SampleShape("image", (3, 32, 32))
SPEECH, TABLE = SampleShape("audio", (8000,), 8000), SampleShape("table", (13,))
CASES = [
    ("auto", GREY),
    ("cnn", COLOUR),
    ("residual", COLOUR),
    ("standardised", GREY),
    ("auto", SPEECH),
    ("word", SPEECH),
    ("auto", TABLE),
    ("mlp", GREY),
]


def samples(sample, count, generator):
    size = torch.Size(sample.shape).numel()
    return torch.rand(count, size, generator=generator)


@pytest.mark.parametrize(("name", "sample"), CASES, ids=[f"{n}-{s.kind}-{s.shape[0]}" for n, s in CASES])
def test_features_lie_in_the_unit_interval_and_depend_on_the_sample_alone(name, sample, generator):
    encoder = make_encoder(name, sample, dim=6, width=8)
    initialise(encoder, seed=0)
    x = samples(sample, 5, generator)
    z = encoder(x)
    assert z.shape == (5, 6) and z.min() >= 0 and z.max() <= 1
    assert torch.allclose(encoder(x[2:3]), z[2:3], atol=1e-5)  # no normalisation over the batch
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in encoder.modules())
    z.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


@pytest.mark.parametrize(("name", "sample"), CASES, ids=[f"{n}-{s.kind}-{s.shape[0]}" for n, s in CASES])
def test_narrow_numbers_change_features_little_and_carry_the_gradient(name, sample, generator):
    encoder = make_encoder(name, sample, dim=6, width=8)
    initialise(encoder, seed=0)
    x = samples(sample, 5, generator)
    with narrowed("bfloat16", "cpu"):
        z = encoder(x)
    assert (z - encoder(x)).abs().max() < 0.05
    z.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_the_length_and_the_mean_of_a_standardised_filter_do_not_matter(generator):
    encoder = make_encoder("standardised", GREY, dim=6, width=8)
    initialise(encoder, seed=0)
    x = samples(GREY, 4, generator)
    before = encoder(x)
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.mul_(3.0).add_(0.5)
    assert torch.allclose(encoder(x), before, atol=1e-4)


@pytest.mark.parametrize("sample", [GREY, COLOUR, SPEECH, TABLE, SampleShape("image", (1, 8, 8))])
def test_a_decoder_gives_back_the_shape_of_the_samples(sample, generator):
    decoded = make_decoder(sample, dim=6, width=8)(torch.rand(3, 6, generator=generator))
    assert decoded.shape == samples(sample, 3, generator).shape and decoded.min() >= 0 and decoded.max() <= 1


def test_parameters_come_from_the_seed_alone():
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 7)  # the global generator has no say
        encoder = make_encoder("cnn", GREY, dim=4, width=4)
        initialise(encoder, seed)
        values.append(torch.cat([p.flatten() for p in encoder.parameters()]))
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


@pytest.mark.parametrize(("name", "sample"), CASES, ids=[f"{n}-{s.kind}-{s.shape[0]}" for n, s in CASES])
def test_first_features_are_spread_over_the_samples(name, sample, generator):
    encoder = make_encoder(name, sample, dim=6, width=8)
    initialise(encoder, seed=0)
    x = samples(sample, 300, generator) * torch.rand(300, 1, generator=generator)
    before = encoder(x).std(0).min()
    spread_features(encoder, x)
    z = encoder(x)
    assert z.std(0).min() > max(0.2, before.item()) and (z.mean(0) - 0.5).abs().max() < 0.1
    spread_features(encoder, torch.zeros_like(x))  # samples that do not differ leave it finite
    assert torch.isfinite(encoder(x)).all()


def test_mel_filters_cover_the_spectrum_with_triangles():
    filters = mel_filters(8000, 129, 40)
    assert filters.shape == (129, 40) and filters.min() == 0 and filters.max() <= 1
    assert (filters.argmax(0).diff() >= 0).all()


def test_mel_filters_are_as_far_apart_on_the_mel_scale_and_one_rises_as_the_last_falls():
    frequency = np.linspace(0, 4000, 40_001)  # a bin is 0.1 Hz
    filters = mel_filters(8000, len(frequency), 40).numpy()
    top = 2595 * np.log10(1 + 4000 / 700)
    centres = 2595 * np.log10(1 + frequency[filters.argmax(0)] / 700)
    assert centres == pytest.approx(top * np.arange(1, 41) / 41, abs=0.2)
    first, last = filters.argmax(0)[[0, -1]]
    assert filters[first:last].sum(1) == pytest.approx(1, abs=1e-3) and ((filters > 0).sum(1) <= 2).all()
    assert filters[[0, -1]].max() < 1e-6  # from silence to the highest frequency


@pytest.mark.parametrize(("rate", "window"), [(8000, 256), (16_000, 512), (22_050, 1024), (100, 16)])
def test_a_spectrogram_has_a_frame_each_ten_milliseconds_and_windows_of_at_least_32(rate, window, generator):
    front = LogMel(rate)
    wave = torch.rand(2, rate, generator=generator)
    seen = front(wave)
    hop = max(1, round(rate / 100))
    assert front.get_buffer("hann").shape == (window,) and seen.shape == (2, 1, 40, 1 + rate // hop)
    assert seen.mean((1, 2, 3)).abs().max() < 1e-4 and (seen.std((1, 2, 3)) - 1).abs().max() < 1e-2
    padded = np.pad(wave[1].numpy() * 2 - 1, window // 2)
    frame = padded[7 * hop : 7 * hop + window] * np.hanning(window + 1)[:-1]  # the periodic window
    power = np.abs(np.fft.rfft(frame)) ** 2 @ front.get_buffer("filters").numpy()
    assert front.power(wave)[1, 7].numpy() == pytest.approx(power, rel=1e-3, abs=1e-4)


def test_a_higher_tone_lands_in_a_higher_band():
    time = torch.arange(8000) / 8000
    tones = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (300.0, 1000.0, 3000.0)]) * 0.4 + 0.5
    bands = LogMel(8000)(tones)[:, 0].mean(2).argmax(1)
    assert bands[0] < bands[1] < bands[2]


def test_silence_is_no_reason_for_nan():
    assert torch.isfinite(LogMel(8000)(torch.full((2, 8000), 0.5))).all()


def test_a_word_looks_alike_wherever_it_lies_and_however_long_it_is():
    def word(start, seconds):  # a tone that rises from 500 to 2,000 Hz
        time = torch.arange(8000) / 8000 - start
        tone = torch.sin(2 * torch.pi * (500 * time + 750 * time.square() / seconds))
        return 0.5 + 0.3 * tone * ((time >= 0) & (time < seconds))

    words = torch.stack([word(0.1, 0.3), word(0.6, 0.3), word(0.2, 0.6)])
    found = {front: front(8000)(words)[:, 0] for front in (LogMel, LogMelWord)}
    off = {front: [(z - y[0]).square().mean().item() for z in y[1:]] for front, y in found.items()}
    assert found[LogMelWord].shape == (3, 40, WORD_FRAMES)
    assert max(off[LogMelWord]) < 0.2 < 1.0 < min(off[LogMel])
    softer = LogMelWord(8000)(0.5 + 0.02 * (words - 0.5))[:, 0]
    assert torch.allclose(softer, found[LogMelWord], atol=0.01), "nor however loud it is"
    assert torch.isfinite(LogMelWord(8000)(torch.full((2, 8000), 0.5))).all()


def test_what_colours_a_whole_word_alike_matters_less():
    time = torch.arange(8000) / 8000
    noise = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    duller = (noise + noise.roll(1) + noise.roll(2)) / 3
    word = torch.where(time < 0.4, noise, duller) * ((time >= 0.2) & (time < 0.6))
    brighter = torch.cat([word[:1], word[1:] - 0.7 * word[:-1]])
    off = []
    for front in (LogMel, LogMelWord):
        one, other = front(8000)(torch.stack([word, brighter]) + 0.5)
        off.append((one - other).square().mean().item())
    assert off[1] < off[0] / 3


def test_frozen_features_are_never_trained_and_need_no_labels(generator):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))
    features = FrozenFeatures(network, (1, 28, 28)).train()
    before = network[1].running_mean.clone()
    assert features(torch.rand(2, 784, generator=generator)).shape == (2, 4)
    assert torch.equal(network[1].running_mean, before) and not any(p.requires_grad for p in features.parameters())


def test_pretrained_weights_come_from_a_file_or_not_at_all(tmp_path, monkeypatch, generator):
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="weights of 'squeezenet1_1' must be in torchvision's cache"):
        make_encoder("pretrained", COLOUR, 4, 4, "squeezenet1_1")
    with pytest.raises(UserError, match="must name a torchvision model"):
        make_encoder("pretrained", COLOUR, 4, 4, "resnet1000")
    with pytest.raises(UserError, match="which does not exist"):
        make_encoder("pretrained", COLOUR, 4, 4, f"squeezenet1_1:{tmp_path / 'none.pth'}")
    torch.save(models.squeezenet1_1(weights=None).state_dict(), tmp_path / "weights.pth")
    encoder = make_encoder("pretrained", COLOUR, 4, 4, f"squeezenet1_1:{tmp_path / 'weights.pth'}")
    z = encoder(samples(COLOUR, 2, generator))
    assert z.shape == (2, 4)
    assert sum(p.requires_grad for p in encoder.parameters()) == 4  # LayerNorm and the last linear map


@pytest.mark.parametrize(("name", "sample"), [("cnn", TABLE), ("audio", GREY), ("word", TABLE), ("residual", SPEECH)])
def test_an_encoder_that_does_not_fit_the_data_is_named(name, sample):
    with pytest.raises(UserError, match=rf"encoder.name '{name}' must be used on"):
        make_encoder(name, sample, 4, 4)


def test_no_convolution_of_single_pixels_has_a_stride():
    """On processors with AVX2 the gradient of one with 4 channels writes beyond its memory (oneDNN of torch 2.14)."""
    encoder = make_encoder("residual", COLOUR, dim=6, width=4)
    single = [c for c in encoder.modules() if isinstance(c, nn.Conv2d) and c.kernel_size == (1, 1)]
    assert single and all(convolution.stride == (1, 1) for convolution in single)
    assert encoder(torch.rand(3, 3 * 32 * 32)).shape == (3, 6)
