"""An encoder of the user, "module:function", and what it must keep: the same run on any number of workers.

Its code runs where the user has named it: in settings, or in the environment. The file of a model names it too, but is
data: what it names is not run for that.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.errors import OutputError, UserError, must

if TYPE_CHECKING:
    from pipeline.deep.encoders import SampleShape

ALLOWED = "SOMGRAD_ENCODERS"  # in the environment: "module:function", more than one with commas between
_ROWS = 4
_TOLERANCE = 1e-3  # rounding is less, what batch normalisation and dropout do is more
_named_here: set[str] = set()  # in settings, since this process began


def allow(name: str) -> None:
    """The user has named this encoder: from now on this process opens models that name it."""
    _named_here.add(name)


def refuse_unnamed(name: str, file: object) -> None:
    """Nobody but the user chooses whose code runs.

    Args:
        name: the encoder of a model.
        file: of that model.

    Raises:
        OutputError: it is the code of somebody whom the user has not named.
    """
    allowed = _named_here | {part.strip() for part in os.environ.get(ALLOWED, "").split(",")}
    if ":" in name and name not in allowed:
        raise OutputError(
            f"'{file}' has an encoder of somebody's own: opening it would run {name!r}. Where that is code you trust, "
            f"set {ALLOWED}={name} in the environment."
        )


def user_encoder(name: str, sample: SampleShape, dim: int, width: int) -> nn.Module:
    """The module that the user's function makes, tried on some random samples.

    Args:
        name: "module:function"; the module must be importable on every node.
        sample: what it will see; P scaled values.
        dim: D.
        width: for the function to use as it likes.

    Returns:
        A module from (n, P) to (n, D) that ends in a linear layer, its values those of torch's global generator.

    Raises:
        UserError: no such function, or it fails; no such module, or nothing to train in it; features that are not
            finite or do not depend on their sample alone; samples that it changes; frozen values that are others the
            next time.
    """
    chance = torch.random.get_rng_state()
    made = _made(name, sample, dim, width)
    leaves = [layer for layer in made.modules() if not list(layer.children())]
    last = leaves[-1]
    if not isinstance(last, nn.Linear) or last.bias is None or last.out_features != dim:
        raise _refused(f"of a module that ends in nn.Linear(..., {dim}) with a bias", name, f"which ends in {last}")
    if not any(parameter.requires_grad for parameter in made.parameters()):
        raise _refused("of a module with something to train", name, "where no parameter has requires_grad")
    _try(made, last, name, sample)
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(chance)
        _compare(made, _made(name, sample, dim, width), name)
    return made


def _made(name: str, sample: SampleShape, dim: int, width: int) -> nn.Module:
    function = _function(name)
    try:
        made = function(sample, dim, width)
    except Exception as error:  # of the user's own code
        raise _refused("a function of sample, dim and width", name, f"which failed: {_reason(error)}") from error
    if not isinstance(made, nn.Module):
        raise _refused("a function that returns a torch module", name, f"which returns {type(made).__name__}")
    return made


def _compare(made: nn.Module, again: nn.Module, name: str) -> None:
    """What is frozen is not kept with the run: a module made again, wherever that is, must have the same."""
    frozen = _frozen(again)
    for key, value in _frozen(made).items():
        if key not in frozen or not torch.equal(value, frozen[key]):
            raise _refused(
                "of a module whose frozen values are the same each time it is made (read from a file, drawn by torch)",
                name,
                f"whose '{key}' is another one the second time",
            )


def _frozen(module: nn.Module) -> dict[str, Tensor]:
    parameters = {key: value.detach() for key, value in module.named_parameters() if not value.requires_grad}
    return parameters | dict(module.named_buffers())


@torch.no_grad()
def _try(made: nn.Module, last: nn.Linear, name: str, sample: SampleShape) -> None:
    """Features of few samples, twice and without the others, as in training, and once as the trained model gives them.

    Buffers are not part of a model: what a layer notes there of the samples it saw would be lost with it.
    """
    samples = torch.rand(_ROWS, torch.Size(sample.shape).numel(), generator=torch.Generator().manual_seed(0))
    before = {key: buffer.clone() for key, buffer in made.named_buffers()}
    dim, ends = last.out_features, []
    hook = last.register_forward_hook(lambda _, __, features: ends.append(features))
    try:
        given = [part.clone() for part in (samples, samples, samples[: _ROWS // 2], samples)]
        first, again, alone = (made.train()(part) for part in given[:3])
        later = made.eval()(given[3])
    except Exception as error:  # of the user's own code
        wanted = f"of a module that takes (n, {samples.shape[1]}) samples"
        raise _refused(wanted, name, f"which failed: {_reason(error)}") from error
    finally:
        hook.remove()
    if not isinstance(first, Tensor) or first.shape != (_ROWS, dim):
        got = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise _refused(
            f"of a module that gives ({_ROWS}, {dim}) features of {_ROWS} samples", name, f"which gave {got}"
        )
    if not all(torch.equal(part, samples[: len(part)]) for part in given):
        raise _refused("of a module that leaves its samples as they are", name, "which changes them in place")
    if not all(torch.isfinite(features).all() for features in (first, again, alone, later)):
        raise _refused("of a module whose features are finite", name, "which gave NaN or infinite ones")
    if not ends or not torch.equal(ends[0], first):
        what = f"which does not give what {last} gives" if ends else f"which never calls {last}"
        raise _refused("of a module that ends in its last nn.Linear", name, what)
    alike = [_close(first, again), _close(first[: len(alone)], alone)]
    if not all(alike):
        why = "the other samples of its tile" if alike[0] else "chance"
        raise _refused(
            "of a module whose features depend on their sample alone (GroupNorm, LayerNorm; no BatchNorm, no dropout)",
            name,
            f"where they depend on {why}",
        )
    noted = [key for key, buffer in made.train().named_buffers() if not torch.equal(buffer, before.get(key, buffer))]
    if noted or not _close(first, later):
        which = f"whose buffer '{noted[0]}' changes with what it sees" if noted else "whose eval() differs from train()"
        raise _refused("of a module that is the same in training and after it", name, which)


def _refused(wanted: str, name: str, what: str) -> UserError:
    return UserError(f"encoder.name must be {wanted}. Got '{name}', {what}.", field="encoder.name")


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _close(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one.float(), other.float(), rtol=_TOLERANCE, atol=_TOLERANCE))


def _function(name: str) -> Callable[[SampleShape, int, int], Any]:
    module, _, function = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        remedy = f"{error}. Is it on PYTHONPATH, on every node?"
        raise must("encoder.name", "a function that can be imported", name, remedy=remedy) from None
    except Exception as error:  # of the user's own module
        raise _refused("a function that can be imported", name, f"whose module failed: {_reason(error)}") from error
    if not callable(made):
        raise _refused("a function", name, f"which is of type {type(made).__name__}")
    found: Callable[[SampleShape, int, int], Any] = made
    return found
