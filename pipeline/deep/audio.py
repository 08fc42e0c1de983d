"""The audio front end: recordings to log-mel spectrograms in torch, and the CNN that reads them.

n recordings, S samples each, M mel bands, T frames, F frames that a word is stretched to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BANDS = 40
WINDOW_S, HOP_S = 0.032, 0.010
WORD_FRAMES = 48  # F
_QUIET = 0.01  # of the power of the loudest frame: 20 dB below it
_SILENCE = 1e-12  # power below which a recording has nothing to be measured against
_FLOOR = 1e-4  # of the power of the loudest band of any frame: what is quieter by 40 dB does not count


def mel_filters(sample_rate: int, num_bins: int, bands: int) -> Tensor:
    """(num_bins, bands) triangles of equal width on the mel scale, 2595 log10(1 + f / 700).

    Example:
        >>> mel_filters(8000, 129, 40).shape
        torch.Size([129, 40])
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    mel = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    edges = 700 * (torch.pow(10.0, mel / 2595) - 1)
    frequency = torch.linspace(0, sample_rate / 2, num_bins, dtype=torch.float64).unsqueeze(1)
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0).to(torch.float32)


class LogMel(nn.Module):
    """Scaled recordings (n, S) in [0, 1], silence at one half, to log-mel spectrograms (n, 1, M, T).

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self._window = 2 ** math.ceil(math.log2(max(16, WINDOW_S * sample_rate)))
        self._hop = max(1, round(HOP_S * sample_rate))
        filters = mel_filters(sample_rate, self._window // 2 + 1, BANDS)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("hann", torch.hann_window(self._window), persistent=False)

    def forward(self, recordings: Tensor) -> Tensor:
        """Power per band in nats, shifted and scaled per recording to mean 0 and deviation 1."""
        return self.scaled(torch.log(self.power(recordings) + 1e-6))

    def power(self, recordings: Tensor) -> Tensor:
        """(n, T, M) power per frame and band."""
        wave = (recordings.to(torch.float32) - 0.5) * 2
        hann, filters = self.get_buffer("hann"), self.get_buffer("filters")
        spectrum = torch.stft(wave, self._window, self._hop, window=hann, return_complex=True, pad_mode="constant")
        power = spectrum.real.square() + spectrum.imag.square()
        with torch.autocast(power.device.type, enabled=False):  # powers span more than narrow numbers tell apart
            return power.transpose(1, 2) @ filters

    @staticmethod
    def scaled(frames: Tensor) -> Tensor:
        """(n, T, M) to (n, 1, M, T) with mean 0 and deviation 1 each."""
        bands = frames.transpose(1, 2)
        mean, spread = bands.mean((1, 2), keepdim=True), bands.std((1, 2), keepdim=True, correction=0)
        scaled = ((bands - mean) / (spread + 1e-3)).unsqueeze(1)
        return scaled.contiguous(memory_format=torch.channels_last)  # the order that convolutions are fastest in


class LogMelWord(LogMel):
    """The same of a single word: what lies between its first and last loud frame, stretched to F frames.

    So a word begins and ends at the same places however fast it is spoken and wherever it lies in the recording. Each
    band loses its mean over the word: what voice and microphone add to all of it alike.

    Source: Atal 1974 (the mean of the cepstrum taken away), here of log-mel bands, which is the same up to a rotation.
    """

    def forward(self, recordings: Tensor) -> Tensor:
        """(n, S) to (n, 1, M, F)."""
        power = self.power(recordings)
        energy = power.sum(2)
        loud = (energy >= _QUIET * energy.amax(1, keepdim=True)).to(torch.int64)  # all of them in silence
        last = energy.shape[1] - 1
        start, stop = loud.argmax(1, keepdim=True), last - loud.flip(1).argmax(1, keepdim=True)
        places = start + (stop - start) * torch.linspace(0, 1, WORD_FRAMES, device=power.device)
        before = places.floor()
        loudest = power.amax((1, 2), keepdim=True).clamp_min(_SILENCE)
        frames = torch.log(power / loudest + _FLOOR)
        near = [(before.to(torch.int64) + step).clamp(max=last).unsqueeze(2) for step in (0, 1)]
        left, right = (frames.gather(1, place.expand(-1, -1, frames.shape[2])) for place in near)
        word = torch.lerp(left, right, (places - before).unsqueeze(2))
        return self.scaled(word - word.mean(1, keepdim=True))


class SpectrogramCNN(nn.Module):
    """Convolutions over a spectrogram; then mean and maximum over time, or, of words, all times.

    Args:
        dim: D, outputs.
        width: channels of the first layer; a multiple of 4.
        frames: F, where the time in a spectrogram has a meaning; None = it has none.
    """

    def __init__(self, dim: int, width: int, frames: int | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for step in range(3):
            outputs = width * 2**step
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.MaxPool2d(2, ceil_mode=True)]
            layers += [nn.GroupNorm(4, outputs), nn.ReLU()]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self._timed = frames is not None
        times = 2 if frames is None else math.ceil(frames / 8)
        self.head = nn.Linear(times * inputs * math.ceil(BANDS / 8), dim)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """(n, 1, M, T) to (n, D)."""
        features = self.body(spectrograms)
        if not self._timed:
            features = torch.cat([features.mean(3), features.amax(3)], dim=1)
        return self.head(features.flatten(1))
