"""The rivals: other ways to learn from few or no labels, under the same commands, data, encoders and bookkeeping.

Each is one module with one class (see `pipeline.rivals.base`), found here by the name of the model.
"""

from __future__ import annotations

import importlib

from pipeline.rivals.base import Rival
from pipeline.rivals.config import RIVALS

__all__ = ["RIVALS", "Rival", "rival_class"]

_CLASSES = {
    "kmeans": ("kmeans", "KMeansRival"),
    "autoencoder-kmeans": ("autoencoder", "AutoencoderRival"),
    "dec": ("dec", "DecRival"),
    "deepcluster": ("deepcluster", "DeepClusterRival"),
    "vqvae": ("vqvae", "VqVaeRival"),
    "supervised": ("supervised", "SupervisedRival"),
    "fixmatch": ("fixmatch", "FixMatchRival"),
}


def rival_class(name: str) -> type[Rival]:
    """The class of a rival, imported when it is asked for."""
    module, attribute = _CLASSES[name]
    found: type[Rival] = getattr(importlib.import_module(f"pipeline.rivals.{module}"), attribute)
    return found
