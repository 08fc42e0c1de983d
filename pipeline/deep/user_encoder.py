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
    from pipeline.deep.sample_shape import SampleShape

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
        UserError: no such function, or it fails; no such module, a compiled one, or nothing to train in it; another
            end; features that are not finite or do not depend on their sample alone; samples that it changes; frozen
            values that are others the next time.
    """
    chance = torch.random.get_rng_state()
    made = _made(name, sample, dim, width)
    _refuse_compiled(made, name)
    if not any(parameter.requires_grad for parameter in made.parameters()):
        raise _refused("of a module with something to train", name, "where no parameter has requires_grad")
    _try(made, name, sample, dim)
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


def calls_of(module: nn.Module, samples: Tensor) -> tuple[Any, list[tuple[nn.Module, Any]]]:
    """What a module gives of samples, and the layers that it calls for that, in turn, each with what it gives.

    Layers are those without others in them, and linear ones.
    """
    calls: list[tuple[nn.Module, Any]] = []

    def note(layer: nn.Module, _: Any, given: Any) -> None:
        calls.append((layer, given.clone() if isinstance(given, Tensor) else given))  # it may be changed in place

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear) or not list(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        return module(samples), calls
    finally:
        for hook in hooks:
            hook.remove()


def _refuse_compiled(made: nn.Module, name: str) -> None:
    """What is compiled hides its layers, and its rounding may depend on which tiles came before."""
    for layer in made.modules():
        original = getattr(layer, "_orig_mod", layer)
        scripted = isinstance(layer, torch.jit.ScriptModule)
        if scripted or original is not layer or layer._compiled_call_impl is not None:
            raise _refused(
                "of a module that is not compiled, by torch.compile or torch.jit",
                name,
                f"whose {type(original).__name__} is: return it as it was before",
            )


def _refuse_end(calls: list[tuple[nn.Module, Any]], name: str, dim: int) -> None:
    """The last layer gives the features, has them to itself, and can be scaled by its weight and bias."""
    last = calls[-1][0] if calls else None
    if not isinstance(last, nn.Linear) or last.bias is None or last.out_features != dim:
        what = "which calls none of its layers" if last is None else f"which ends in {last}"
        raise _refused(f"of a module that ends in nn.Linear(..., {dim}) with a bias", name, what)
    own = [key for key, value in last.named_parameters(recurse=False) if value.requires_grad]
    if "weight" not in own or "bias" not in own:
        what = "where they are frozen, or made of others by weight_norm or its like; leave that out there"
        raise _refused("of a module whose last layer has a weight and a bias to train", name, what)
    if sum(layer is last for layer, _ in calls) > 1:
        raise _refused("of a module that calls its last nn.Linear once", name, f"which calls {last} more often")


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
def _try(made: nn.Module, name: str, sample: SampleShape, dim: int) -> None:
    """Features of few samples, twice and without the others, as in training, and once as the trained model gives them.

    Buffers are not part of a model: what a layer notes there of the samples it saw would be lost with it.
    """
    samples = torch.rand(_ROWS, torch.Size(sample.shape).numel(), generator=torch.Generator().manual_seed(0))
    before = {key: buffer.clone() for key, buffer in made.named_buffers()}
    try:
        given = [part.clone() for part in (samples, samples, samples[: _ROWS // 2], samples)]
        first, calls = calls_of(made.train(), given[0])
        again, alone = made(given[1]), made(given[2])
        later = made.eval()(given[3])
    except Exception as error:  # of the user's own code
        wanted = f"of a module that takes (n, {samples.shape[1]}) samples"
        raise _refused(wanted, name, f"which failed: {_reason(error)}") from error
    _refuse_end(calls, name, dim)
    if not isinstance(first, Tensor) or first.shape != (_ROWS, dim):
        got = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise _refused(
            f"of a module that gives ({_ROWS}, {dim}) features of {_ROWS} samples", name, f"which gave {got}"
        )
    if not all(torch.equal(part, samples[: len(part)]) for part in given):
        raise _refused("of a module that leaves its samples as they are", name, "which changes them in place")
    if not all(torch.isfinite(features).all() for features in (first, again, alone, later)):
        raise _refused("of a module whose features are finite", name, "which gave NaN or infinite ones")
    last, features = calls[-1]
    if not torch.equal(features, first):
        raise _refused("of a module that ends in its last nn.Linear", name, f"which does not give what {last} gives")
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
