"""What the deep layer expects of the tensors it is given: kind, shape and, where asking is free, finite values.

Axes: n samples of a tile, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from somcore.device import asking_is_free
from somcore.losses import Views


def expect(name: str, given: Tensor, shape: tuple[int, ...], kind: str = "floating point") -> None:
    """Refuse a tensor of another kind or shape and, on a CPU, one with a value that is not finite.

    Args:
        name: of the tensor, for the error.
        given: the tensor.
        shape: that it must have.
        kind: floating point, int64 or, for any, numbers.

    Raises:
        ValueError: what it must be, and what it is.
    """
    right = {"floating point": given.is_floating_point(), "int64": given.dtype == torch.int64, "numbers": True}[kind]
    if given.shape != shape or not right:
        raise ValueError(f"{name} must be {kind} of shape {shape}. Got {given.dtype} of {tuple(given.shape)}.")
    if asking_is_free(given) and not bool((finite := given.isfinite()).all()):
        place = tuple((~finite).nonzero()[0].tolist())
        raise ValueError(
            f"{name} must be finite. Got {given[place].item()} in row {place[0]} of the tile; "
            "clean the samples or mend the network."
        )


def expect_tile(
    features: Tensor,
    labels: Tensor,
    views: Views | None,
    positions: Tensor | None,
    shape: tuple[int, ...],
    num_classes: int,
) -> None:
    """`expect` of all that a tile brings: features of the shape (n, D), rows for each, decoded as the inputs are."""
    views = views or Views()
    expect("features", features, shape)
    for name, wide in (("strong", shape[1]), ("scores", num_classes), ("strong_scores", num_classes)):
        if (view := getattr(views, name)) is not None:
            expect(f"views.{name}", view, (shape[0], wide))
    if views.inputs is not None and views.decoded is not None:
        expect("views.inputs", views.inputs, (shape[0], *views.inputs.shape[1:]), "numbers")
        expect("views.decoded", views.decoded, tuple(views.inputs.shape))
    expect("labels", labels, shape[:1], "int64")
    if positions is not None:
        expect("positions", positions, shape[:1], "int64")


def expect_saved(
    saved: dict[str, Tensor], own: dict[str, Tensor], kind: list[float], variant: str, num_classes: int
) -> None:
    """Refuse a saved map of another variant, of other classes or of other shapes than the layer has.

    Args:
        saved: its tensors.
        own: those of the layer, by the same names.
        kind: its number of classes and the letters of its variant; empty where it was saved without them.
        variant: of the layer.
        num_classes: C of the layer.

    Raises:
        ValueError: of which kind both are.
    """
    wanted = got = f"{variant} with num_classes={num_classes}"
    if kind:
        got = f"{bytes(map(int, kind[1:])).decode()} with num_classes={int(kind[0])}"
    elif (highest := int(saved.get("classes", own["classes"]).max())) >= num_classes:
        got = f"class {highest}"
    for name, tensor in saved.items():
        if got == wanted and tensor.shape != own[name].shape:
            wanted, got = (f"one with {name} of shape {tuple(t.shape)}" for t in (own[name], tensor))
    if got != wanted:
        raise ValueError(f"The saved map must be {wanted}. Got {got}; build the layer as the saved one was.")
