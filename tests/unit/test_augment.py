"""Views of samples: drawn from (seed, epoch, position), near the sample, never mirrored where a class could change."""

import pytest
import torch

from pipeline.deep.augment import KINDS, STRONG, WEAK, Draws, Strength, image_view, views_of

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


def test_samples_and_directions_have_numbers_of_their_own():
    across_and_down = draws(range(5)).uniform("shift", 2)
    assert len(set(across_and_down.flatten().tolist())) == 10


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


SIDE = 65
ACROSS = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1  # places as -1 ... 1, of columns and rows
SPOT = torch.tensor([0.4, -0.3])  # x, y


def spots(count, strength):
    """Where a spot of an image is in its views: (count, 2), x and y."""
    image = torch.exp(-((ACROSS - SPOT[0]).square() + (ACROSS[:, None] - SPOT[1]).square()) / 0.02)
    view = image_view(image.flatten().expand(count, -1), (1, SIDE, SIDE), strength, draws(range(count)))
    mass = view.view(count, SIDE, SIDE)
    total = mass.sum((1, 2))
    return torch.stack([mass.sum(1) @ ACROSS / total, mass.sum(2) @ ACROSS / total], 1)


def angle(places):
    return torch.atan2(places[..., 1], places[..., 0])


@pytest.mark.parametrize(
    ("strength", "moved"),
    [
        (Strength(shift=0.1), lambda seen: (SPOT - seen) / 2),  # shares of 2, the whole width
        (Strength(turn=0.3), lambda seen: (angle(SPOT) - angle(seen))[:, None]),
        (Strength(scale=0.2), lambda seen: SPOT / seen - 1),
        (Strength(shear=0.3), lambda seen: ((SPOT - seen)[:, 0] / seen[:, 1])[:, None]),
    ],
    ids=["shift", "turn", "scale", "shear"],
)
def test_a_view_goes_as_far_as_it_may_to_both_sides_and_no_further(strength, moved):
    seen = spots(400, strength)
    reach = max(strength.shift, strength.turn, strength.scale, strength.shear)
    share = moved(seen) / reach
    assert share.abs().max() < 1.03
    assert (share.amax(0) > 0.9).all() and (share.amin(0) < -0.9).all() and share.mean(0).abs().max() < 0.1
    if strength.turn:
        assert torch.allclose(seen.norm(dim=1), SPOT.norm(), atol=0.01)
    elif strength.shear:
        assert torch.allclose(seen[:, 1], SPOT[1], atol=0.01)
    else:
        assert abs(torch.corrcoef(share.T)[0, 1]) < 0.2  # across and down apart


@pytest.mark.parametrize(("height", "width"), [(40, 160), (160, 40)])
@pytest.mark.parametrize("strength", [Strength(turn=0.3), Strength(shear=0.3)], ids=["turn", "shear"])
def test_images_that_are_not_square_are_turned_and_sheared_as_far_as_others(strength, height, width):
    """In a picture of four times its height a bar down was turned four times as far, one across a quarter as far."""
    rows, columns = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    for x, y in ((14.0, 0.0), (0.0, 14.0)):
        image = torch.exp(-((columns - x).square() + (rows[:, None] - y).square()) / 10)
        seen = image_view(image.flatten().expand(200, -1), (1, height, width), strength, draws(range(200)))
        mass = seen.view(200, height, width)
        places = torch.stack([mass.sum(1) @ columns, mass.sum(2) @ rows], 1) / mass.sum((1, 2)).unsqueeze(1)
        if strength.turn:
            assert torch.allclose(places.norm(dim=1), torch.tensor(14.0), atol=0.1)
            moved = angle(torch.tensor([x, y])) - angle(places)
        else:
            moved = (x - places[:, 0]) / 14
        most = 0.3 if strength.turn or y else 0.0  # shear leaves what lies in the middle of the height
        assert moved.abs().max() == pytest.approx(most, abs=0.01)


def test_local_displacements_are_as_large_as_they_may_be():
    moved = (spots(400, Strength(elastic=0.05)) - SPOT) / 2
    assert 0.02 < moved.abs().max() < 0.06 and moved.mean(0).abs().max() < 0.005


def test_tone_changes_brightness_by_half_of_what_it_changes_contrast_by():
    grey = 0.5 + 0.1 * torch.rand(1, 784, generator=torch.Generator().manual_seed(0))
    view = image_view(grey.expand(400, -1), IMAGE, Strength(tone=0.4), draws(range(400)))
    brightness, contrast = view.mean(1) / grey.mean() - 1, view.std(1) / grey.std() - 1
    for change, reach in ((brightness, 0.2), (contrast, 0.4)):
        assert 0.95 * reach < change.max() < 1.01 * reach and -1.01 * reach < change.min() < -0.95 * reach


def test_a_square_of_the_mean_covers_at_most_its_share_of_height_and_width():
    ramp = torch.linspace(0.1, 0.9, 784).view(1, 28, 28)
    view = image_view(ramp.flatten().expand(4000, -1), IMAGE, Strength(cover=0.5), draws(range(4000)))
    covered = (view.view(4000, 28, 28) - ramp).abs() > 1e-4
    assert torch.allclose(view.view(4000, 28, 28)[covered], ramp.mean(), atol=1e-4)
    for axis in (1, 2):
        extent = covered.any(axis).sum(1)
        assert 13 <= extent.max() <= 14 and extent.float().mean() < 8
        often = covered.any(axis).double().mean(0)
        assert 0.08 < often[0] < 0.2 and abs(often[0] - often[-1]) < 0.02  # as far beyond one edge as beyond the other
    assert covered.any(0).all()


@pytest.mark.parametrize(("strong", "reach", "louder"), [(False, 0.05, 0.3), (True, 0.1, 0.7)])
def test_a_recording_is_moved_and_made_louder_or_softer(strong, reach, louder):
    length, count = 1001, 400
    wave = 0.2 * torch.exp(-((torch.arange(length) - 500) / 20.0).square())
    view = views_of("audio", (length,))[strong](wave.expand(count, -1) + 0.5, draws(range(count))) - 0.5
    heard = view.amax(1) > 0.08  # the silenced part is not on it
    moved, gain = (view[heard].argmax(1) - 500) / length, torch.log(view[heard].amax(1) / 0.2)
    slower = 0.2 if strong else 0.05
    assert 0.9 * reach < moved.abs().max() < reach / (1 - slower) + 0.005
    assert 0.9 * louder < gain.max() < louder + 0.05 and gain.min() < -0.9 * louder
    assert moved.min() < 0 < moved.max() and heard.float().mean() > 0.8


def test_a_strong_view_of_a_recording_has_a_silenced_part_and_a_little_noise():
    view = views_of("audio", (1000,))[1](torch.full((300, 1000), 0.7), draws(range(300))) - 0.5
    middle = view[:, 250:750]  # what comes in at an end is silence too
    silent = middle < 0.05
    assert 130 < silent.sum(1).max() <= 151 and silent.any(1).float().mean() > 0.2
    high, low = middle.amax(1), middle.masked_fill(silent, 1.0).amin(1)
    noise = (high - low) / (high + low)
    assert 0.017 < noise.max() < 0.021 and noise.min() < 0.002


@pytest.mark.parametrize(("strong", "noise", "dropped"), [(False, 0.02, 0.0), (True, 0.1, 0.2)])
def test_a_row_has_a_little_noise_and_some_values_are_dropped(strong, noise, dropped):
    rows = torch.full((500, 9), 0.25)
    view = views_of("table", (9,))[strong](rows, draws(range(500)))
    gone = view == 0.5
    moved = (view - rows)[~gone]
    assert abs(gone.float().mean().item() - dropped) < 0.02 and 0.97 * noise < moved.abs().max() <= noise * 1.0001
    assert abs(moved.mean().item()) < 0.05 * noise


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
