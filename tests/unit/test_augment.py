"""Views of samples: drawn from (seed, epoch, position), near the sample, never mirrored where a class could change."""

import pytest
import torch

from pipeline.augment import KINDS, STRONG, WEAK, Draws, Strength, image_view, views_of

IMAGE = (1, 28, 28)


def shape_of(kind):
    return {"audio": (400,), "table": (9,)}.get(kind, IMAGE)


def draws(positions, seed=0, epoch=0, view="weak"):
    return Draws(seed, epoch, torch.as_tensor(positions), view)


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_depends_on_seed_epoch_and_position_and_on_nothing_else(kind, generator):
    shape = shape_of(kind)
    x = torch.rand(6, torch.Size(shape).numel(), generator=generator)
    for view in views_of(kind, shape):
        whole = view(x, draws(range(6)))
        torch.manual_seed(1)
        assert torch.allclose(view(x[2:4], draws([2, 3])), whole[2:4], atol=1e-6)  # whatever else is in the tile
        assert torch.equal(view(x, draws(range(6))), whole)
        assert whole.shape == x.shape and torch.isfinite(whole).all()
        if kind != "none":
            for other in (draws(range(6), seed=1), draws(range(6), epoch=1), draws(range(1, 7))):
                assert not torch.equal(view(x, other), whole)


@pytest.mark.parametrize("kind", sorted(WEAK))
def test_values_stay_in_the_unit_interval_and_the_strong_view_is_further_away(kind):
    bars = torch.zeros(64, *IMAGE)
    bars[:, :, 8:20, 12:16] = 1.0
    x = bars.flatten(1)
    weak, strong = (view(x, draws(range(64))) for view in views_of(kind, IMAGE))
    for view in (weak, strong):
        assert view.min() >= 0 and view.max() <= 1
    assert 0 < (weak - x).abs().mean() < (strong - x).abs().mean()


@pytest.mark.parametrize("kind", ["digits", "characters"])
@pytest.mark.parametrize("strengths", [WEAK, STRONG], ids=["weak", "strong"])
def test_digits_and_letters_are_never_mirrored(kind, strengths):
    assert not strengths[kind].mirror
    corner = torch.zeros(200, *IMAGE)
    corner[:, :, 10:18, 4:8] = 1.0  # a bar on the left
    view = image_view(corner.flatten(1), IMAGE, strengths[kind], draws(range(200))).view(200, 28, 28)
    left, right = view[:, :, :14].sum((1, 2)), view[:, :, 14:].sum((1, 2))
    assert (left > right).float().mean() > 0.99


def test_clothes_are_mirrored_half_of_the_time():
    corner = torch.zeros(400, *IMAGE)
    corner[:, :, 10:18, 4:8] = 1.0
    view = image_view(corner.flatten(1), IMAGE, Strength(mirror=True), draws(range(400))).view(400, 28, 28)
    share = (view[:, :, 14:].sum((1, 2)) > view[:, :, :14].sum((1, 2))).float().mean().item()
    assert 0.42 < share < 0.58


def test_no_strength_is_no_change():
    x = torch.rand(4, 784, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(image_view(x, IMAGE, Strength(), draws(range(4))), x, atol=1e-5)


def test_draws_are_uniform_and_differ_by_purpose_and_view():
    first = draws(range(4000)).uniform("turn", 2)
    assert first.shape == (4000, 2) and first.min() >= 0 and first.max() < 1
    assert abs(first.mean().item() - 0.5) < 0.02 and abs(first.var().item() - 1 / 12) < 0.005
    assert not torch.equal(first, draws(range(4000)).uniform("shift", 2))
    assert not torch.equal(first, draws(range(4000), view="strong").uniform("turn", 2))


def test_silence_stays_silence_and_loudness_changes():
    weak, strong = views_of("audio", (400,))
    silence = torch.full((3, 400), 0.5)
    assert torch.equal(weak(silence, draws(range(3))), silence)
    tone = torch.sin(torch.arange(400) / 5).expand(3, -1) * 0.3 + 0.5
    assert not torch.allclose(weak(tone, draws(range(3))), tone)
    assert (strong(tone, draws(range(3))) - 0.5).abs().max() <= 0.5


def test_a_recording_is_played_faster_or_slower_each_time():
    time = torch.arange(8000)
    tone = torch.sin(2 * torch.pi * 440 * time / 8000).expand(200, -1) * 0.3 + 0.5
    for view, reach in zip(views_of("audio", (8000,)), (0.05, 0.2), strict=True):
        spectrum = torch.fft.rfft(view(tone, draws(range(200))) - 0.5).abs()
        pitch = spectrum.argmax(1) / 440  # a bin is 1 Hz
        assert 1 - reach - 0.01 < pitch.min() < 1 - 0.8 * reach and 1 + 0.8 * reach < pitch.max() < 1 + reach + 0.01
