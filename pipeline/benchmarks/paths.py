"""How samples change on the straight path between two prototypes: what a decoder makes of the features in between.

The decoder is the same for every representation and learns on frozen features, so that representations are compared,
not their decoders. n rows, P values of a sample, D features, K prototypes, S steps of a path.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.deep.encoders import initialise, make_decoder
from pipeline.deep.sample_shape import SampleShape
from somcore.sampling import sample_indices

_WIDTH, _BATCH, _EPOCHS, _RATE = 16, 128, 10, 2e-3
_STEPS = 16
Decode = Callable[[Tensor], Tensor]


def probe_decoder(features: Tensor, samples: Tensor, sample: SampleShape) -> nn.Module:
    """A decoder that has learned to give samples back from frozen features.

    Args:
        features: (n, D) float32.
        samples: (n, P) float32 in [0, 1].
        sample: what a sample is.
    """
    decoder = make_decoder(sample, features.shape[1], _WIDTH)
    initialise(decoder, 0)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=_RATE)
    count = len(features)
    for epoch in range(_EPOCHS):
        order = sample_indices(0, epoch, torch.arange(count), count)
        for rows in order.split(_BATCH):
            optimizer.zero_grad()
            functional.mse_loss(decoder(features[rows]), samples[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return decoder.eval()


@torch.no_grad()
def path_measures(decode: Decode, prototypes: Tensor, samples: Tensor) -> dict[str, float]:
    """Paths between all pairs of prototypes, in S equal steps of features.

    Args:
        decode: (m, D) features to (m, P) samples.
        prototypes: (K, D) float32, K at least 2.
        samples: (n, P) real samples.

    Returns:
        path_jump: the longest step of the decoded samples over their mean step, mean over the pairs: 1 is an even
        change, S a leap. path_distance: how far decoded samples between the prototypes are from the nearest real one,
        over how far the decoded prototypes are: 1 is as real as they, a plain blend is more.
    """
    first, second = torch.triu_indices(len(prototypes), len(prototypes), 1)
    shares = torch.linspace(0, 1, _STEPS + 1).view(1, -1, 1)
    between = torch.lerp(prototypes[first].unsqueeze(1), prototypes[second].unsqueeze(1), shares)
    decoded = torch.stack([decode(path) for path in between])
    steps = (decoded[:, 1:] - decoded[:, :-1]).norm(dim=2)
    jump = steps.amax(1) / steps.mean(1).clamp_min(1e-12)
    nearest = torch.stack([torch.cdist(path, samples).amin(1) for path in decoded])
    ends = nearest[:, [0, -1]].mean().clamp_min(1e-12)
    return {"path_jump": float(jump.mean()), "path_distance": float(nearest[:, 1:-1].mean() / ends)}
