"""What the deep layer expects of the tensors it is given: kind, shape and, where asking is free, finite values.

Axes: n samples of a tile, D features, C classes.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from somcore.config import MapConfig
from somcore.device import asking_is_free
from somcore.losses import Views
from somcore.state import MapState
from somcore.topology import adjacency


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


def expect_map(state: MapState, shape: tuple[int, ...], config: MapConfig, num_classes: int) -> None:
    """Refuse a map that the layer cannot go on with: of other shape or classes, a lattice that should grow, or another.

    A map without classes, such as one grown before there were labels, fits every number of them.

    Args:
        state: the map.
        shape: (K, D).
        config: resolved hyper-parameters of the layer.
        num_classes: C of the layer.

    Raises:
        ValueError: what it must be, and what it is.
    """
    given = tuple(state.prototypes.shape)
    if given != shape:
        raise ValueError(f"The map must have prototypes of shape {shape}. Got {given}.")
    if state.num_classes not in (0, num_classes):
        raise ValueError(f"The map must have num_classes={num_classes}. Got {state.num_classes}.")
    if state.device.type == "meta":
        return
    if not bool(state.prototypes.isfinite().all()):
        raise ValueError("The map must have finite prototypes. Got one that is infinite or NaN.")
    if config.is_growing and _is_plain_lattice(state):
        raise ValueError(f"The map must be one that grows, for {config.variant}. Got a lattice.")
    if not config.is_growing:
        assert config.rows is not None and config.columns is not None
        links = adjacency(config.rows, config.columns, config.lattice, config.toroidal).to(state.device)
        if not (bool(state.alive.all()) and torch.equal(links, state.neighbours)):
            wanted = f"the {config.lattice} lattice of {config.rows} x {config.columns} nodes"
            raise ValueError(f"The map must be {wanted}, for {config.variant}. Got one of other links.")


def warn_of_fall(alive: Tensor, state: MapState, shared: bool) -> None:
    """Warn where a map of several nodes is replaced by one of a single node: it tells no samples apart any more.

    Args:
        alive: (K,) bool, nodes of the map that is replaced.
        state: the map that replaces it.
        shared: its nodes share a threshold, which can be calibrated.
    """
    if not (alive.is_meta or state.alive.is_meta) and state.num_nodes == 1 and (before := int(alive.sum())) > 1:
        warnings.warn(
            f"The map fell from {before} nodes to 1 in round {state.round}: its threshold or its nodes are not where "
            f"the features are. {'Call layer.calibrate in every round, and let' if shared else 'Let'} the encoder take "
            "shorter steps.",
            stacklevel=3,
        )


def _is_plain_lattice(state: MapState) -> bool:
    """Some nodes are linked and some are not, although nothing tells them apart: all relevances are 1, no class is set.

    Relevances link such nodes all or none. A DSSOM that has learned relevances looks like a map that grew.
    """
    links, nodes = int(state.neighbours.sum()), state.num_nodes
    plain = not state.growing and not bool(state.deviations.any()) and not bool((state.classes >= 0).any())
    return plain and 0 < links < nodes * (nodes - 1)


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
