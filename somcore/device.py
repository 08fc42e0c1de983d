"""Where a question to the device is free, and where it would stall its queue."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor

_ROUNDOFF = {"tf32": 2.0**-11, "bf16": 2.0**-8}
_within = ContextVar("within", default=False)  # of each of Python's threads
_others: list[int] = []  # what those within had before


def asking_is_free(tensor: Tensor) -> bool:
    """Whether values may be read at once: on a CPU. Elsewhere the work is done for all rows and masked.

    Both ways give the same bits of a map, since its sums are whole numbers.
    """
    return tensor.device.type == "cpu" and not is_recorded()


def is_recorded() -> bool:
    """Whether `torch.export` or `torch.jit.trace` records: for other samples, and other numbers of them, too."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def factor_roundoff(tensor: Tensor) -> float:
    """How much the factors of a float32 matrix product may be rounded beforehand, relative; 0 unless torch may.

    `torch.set_float32_matmul_precision("high")` and its kin allow it for speed. Bounds of products must know, or a
    sample would win the wrong node unseen.
    """
    backend = torch.backends.cuda if tensor.device.type == "cuda" else torch.backends.mkldnn
    allowed = backend.matmul.fp32_precision
    if allowed == "none":  # nothing said of products: what is said of everything
        allowed = getattr(torch.backends, "fp32_precision", "none")
    return _ROUNDOFF.get(allowed, 0.0)


def unnarrowed(tensor: Tensor) -> AbstractContextManager[object]:
    """Products as wide as their factors, also where a network around them runs under `torch.autocast`.

    Half precision would round distances further than their bounds say, unseen.
    """
    kind = tensor.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """For products of numbers that are not whole: their bits may depend on the number of threads.

    Python's threads may be in here at the same time. Each has a number of its own, but begins with that which another
    one has set last: there it is what that one had before.
    """
    if _within.get():
        yield
        return
    own = torch.get_num_threads()
    before = next(iter(_others), own) if own == 1 else own
    try:
        _within.set(True)
        _others.append(before)
        torch.set_num_threads(1)
        yield
    finally:
        _within.set(False)
        if before in _others:
            _others.remove(before)
        torch.set_num_threads(before)


def writes_of(tensor: Tensor) -> int:
    """How often a tensor was written to; −1 where torch does not count."""
    return -1 if tensor.is_inference() else tensor._version
