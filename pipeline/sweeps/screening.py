"""Screening: the rounds of `somcore` as compiled loops, to look at many parameter sets; winners are trained again.

A search over hundreds of sets, nine folds and seven label fractions takes days at the estimators' cost per round.
`screening.c` repeats their rules in plain loops, about twenty times faster on tables of a few hundred rows. What a
report shows is never its score: the chosen sets are trained again by `somcore`. Needs a C compiler; without one the
whole search runs on `somcore`.

Axes: N samples, K nodes, D features, C classes.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from pipeline.places import private_folder
from somcore.config import MapConfig
from somcore.fixed_point import fixed_point_scale
from somcore.sampling import _keys, sample_indices
from somcore.state import MapState, blank_state

SOURCE = Path(__file__).with_name("screening.c")
MAX_BATCH = 4096
_VARIANTS = {"larfdssom": 0, "sssom": 1, "altsssom": 2}
_FLAGS = ["-O3", "-march=native", "-mprefer-vector-width=512", "-std=c11", "-shared", "-fPIC"]

_INTEGERS = [
    "variant",
    "samples",
    "features",
    "classes",
    "capacity",
    "batch",
    "rounds",
    "period",
    "per_group",
    "mantissa",
    "headroom",
    "credit",
]
_REALS = [
    "threshold",
    "bmu_rate",
    "neighbour_rate",
    "push_rate",
    "relevance_rate",
    "decay",
    "slope",
    "floor",
    "connection",
]


class _Settings(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _INTEGERS),
        *((name, ctypes.c_double) for name in _REALS),
        ("win_share", ctypes.c_double),
        ("max_abs", ctypes.c_double),
    ]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled loops, built once per source and compiler; None without a working compiler."""
    with contextlib.suppress(OSError, ValueError):  # a compiler that is not there, or a CC that no shell would take
        compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or "cc"]
        return _built(compiler)
    return None


def _built(compiler: list[str]) -> ctypes.CDLL | None:
    name = hashlib.sha256(SOURCE.read_bytes() + " ".join([*compiler, *_FLAGS, sys.platform]).encode()).hexdigest()[:16]
    owner = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = private_folder(Path(tempfile.gettempdir()) / f"somgrad-screening-{owner}")
    except OSError:  # somebody else made it: what lies in it would be run here
        folder = Path(tempfile.mkdtemp(prefix="somgrad-screening-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / f"{name}.so"
    if not target.exists():
        part = folder / f"{name}.{uuid.uuid4().hex[:12]}.part"
        built = subprocess.run([*compiler, *_FLAGS, str(SOURCE), "-o", str(part), "-lm"], capture_output=True)
        if built.returncode:
            return None
        os.replace(part, target)
    loops = ctypes.CDLL(str(target))
    loops.somgrad_screen.restype = ctypes.c_int64
    return loops


def can_screen(config: MapConfig) -> bool:
    """Whether the loops cover a configuration: growing maps on dense rows."""
    return (
        library() is not None
        and config.variant in _VARIANTS
        and config.missing == "error"
        and config.batch_size <= MAX_BATCH
    )


def screen_map(
    config: MapConfig, features: Tensor, labels: Tensor | None, num_classes: int, max_abs: float | None = None
) -> MapState:
    """Train a map by the compiled loops.

    Args:
        config: resolved hyper-parameters with a number as threshold.
        features: (N, D) float64, contiguous.
        labels: (N,) int64 or None.
        num_classes: C.
        max_abs: bound of |x| that the scale of the sums is made for; None = the largest one there is.

    Returns:
        Prototypes, relevances, deviations, alive, classes and updates of the finished map; no neighbours, no wins.
    """
    loops = library()
    assert loops is not None and config.capacity is not None and can_screen(config)
    bound = float(features.abs().max()) if max_abs is None else max_abs
    settings = _settings(config, features, 0 if labels is None else num_classes, bound)
    draws = _draws(config, features.shape[0])
    pointer, nothing = ctypes.c_void_p(draws.data_ptr()), ctypes.c_void_p(None)
    keys, order = (pointer, nothing) if config.sampling == "replacement" else (nothing, pointer)
    state = blank_state(config.capacity, features.shape[1], num_classes, "cpu")
    labels = torch.full((len(features),), -1, dtype=torch.int64) if labels is None else labels.contiguous()
    out = {name: getattr(state, name).clone() for name in ("prototypes", "relevances", "deviations")}
    alive = torch.zeros(config.capacity, dtype=torch.uint8)
    classes, updates = state.classes.clone(), state.updates.clone()
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (*out.values(), alive, classes, updates)]
    rounds = loops.somgrad_screen(
        ctypes.byref(settings),
        ctypes.c_void_p(features.contiguous().data_ptr()),
        ctypes.c_void_p(labels.data_ptr()),
        keys,
        order,
        ctypes.c_int64(len(draws)),
        *pointers,
    )
    assert rounds > 0, "the convergence phase outlasted its bound"
    values = {**out, "alive": alive.bool(), "classes": classes, "updates": updates}
    return MapState(**{**state.__dict__, **values, "round": rounds, "growing": False, "finished": True})


def screened_classes(state: MapState, features: Tensor) -> Tensor:
    """(n,) int64: class of the BMU, or of the nearest node that has one (`predict_classes`, fallback "nearest")."""
    loops = library()
    assert loops is not None
    features = features.contiguous()
    answer = torch.empty(len(features), dtype=torch.int64)
    alive = state.alive.to(torch.uint8)
    tensors = (features, state.prototypes, state.relevances, alive, state.classes, answer)
    sizes = (len(features), state.num_features, state.capacity)
    loops.somgrad_classes(*map(ctypes.c_int64, sizes), *(ctypes.c_void_p(t.data_ptr()) for t in tensors))
    return answer


def _settings(config: MapConfig, features: Tensor, num_classes: int, max_abs: float) -> _Settings:
    adaptive = config.variant == "altsssom"
    return _Settings(
        variant=_VARIANTS[config.variant],
        samples=features.shape[0],
        features=features.shape[1],
        classes=num_classes,
        capacity=config.capacity,
        batch=config.batch_size,
        rounds=config.num_rounds,
        period=config.pruning_period,
        per_group=config.candidates_per_group,
        mantissa=fixed_point_scale(1.0, 1),
        headroom=fixed_point_scale(1.0, 2**30) + 30,
        credit=bool(config.newborn_credit),
        threshold=0.0 if adaptive else config.error_threshold,
        bmu_rate=config.bmu_rate,
        neighbour_rate=config.neighbour_rate,
        push_rate=config.push_rate or 0.0,
        relevance_rate=config.relevance_rate or 0.0,
        decay=config.deviation_decay,
        slope=config.relevance_slope,
        floor=config.relevance_floor,
        connection=config.connection_threshold,
        win_share=config.min_win_share,
        max_abs=max_abs,
    )


def _draws(config: MapConfig, num_samples: int) -> Tensor:
    """What decides the draws of every epoch that can be needed: organisation and two more pruning periods.

    Returns:
        (E, 2) keys for draws with replacement, (E, N) rows for permutations.
    """
    assert config.pruning_period is not None and config.num_rounds is not None
    longest = config.num_rounds / config.rounds_per_epoch(num_samples) + 2 * config.pruning_period / num_samples
    epochs = range(int(longest) + 4)
    if config.sampling == "replacement":
        return torch.tensor([_keys(2, "hash", config.seed, f"replacement/{epoch}") for epoch in epochs])
    positions = torch.arange(num_samples)
    return torch.stack([sample_indices(config.seed, epoch, positions, num_samples) for epoch in epochs])
