"""A trained model as one ONNX file: raw samples in; node, class, activation and novelty out.

Scaling, encoder and map are one graph, so whoever runs it needs neither torch nor this program. The map computes in
float64, as here; an encoder in float32, so its features, and what depends on them, may differ in the last digits.
n samples, A living nodes, D features, P scaled values of a sample.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import MachineError, UserError, line_of, must
from pipeline.places import check_writable, write_atomically
from pipeline.predictor import Predictor
from pipeline.prepared.scaling import Scaling
from somcore.config import LABEL_AWARE
from somcore.distance import Tile, exact_errors
from somcore.matching import box

OUTPUTS = ("node", "class", "activation", "novelty")
OPSET = 18
_EXAMPLE_ROWS = 2
_ROUNDING = 64 * 2.0**-52  # of mean squares of samples within [0, 1]


class MapGraph(nn.Module):
    """A frozen map in operations that ONNX knows.

    Args:
        predictor: the model.
    """

    nodes: Tensor
    classes: Tensor
    prototypes: Tensor
    relevances: Tensor
    centre: Tensor
    linear: Tensor
    squares: Tensor
    threshold: Tensor
    accepted: Tensor
    box: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        state, config = predictor.state, predictor.config
        alive = state.alive.nonzero().squeeze(1)
        if len(alive) == 0:
            raise must("The map", "one with nodes", "none")
        prototypes, relevances = state.prototypes[alive], state.relevances[alive]
        centre = prototypes.mean(0)
        centred = prototypes - centre
        self._keep(nodes=alive, classes=state.classes[alive], prototypes=prototypes, relevances=relevances)
        self._keep(centre=centre, linear=(relevances * centred).T, squares=(relevances * centred * centred).T)
        self.masked = predictor.spec.missing == "mask" and config.missing == "mask"
        accepted = 1.0 / config.outlier_threshold - 1.0 if config.variant == "dssom" else predictor.novelty_error
        self._keep(threshold=_double(predictor.novelty_error), accepted=_double(accepted))
        self.local = predictor.config.has_boxes
        self.filtering = config.noise_filter
        self.strict = config.fallback == "threshold"
        self.labelled = config.variant in LABEL_AWARE and bool((state.classes[alive] >= 0).any())
        if self.local:
            self._keep(box=box(state, config)[alive])

    def _keep(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.clone())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(n, D) features to node, class, activation, novelty, each (n,); −1, −1, NaN, NaN where one is not finite."""
        x = features.to(torch.float64)
        observed = (~torch.isnan(x)).to(torch.float64) if self.masked else torch.ones_like(x)
        x = torch.where(torch.isnan(x), torch.zeros_like(x), x) if self.masked else x
        errors = self._errors(x, observed)
        place = errors.argmin(1)
        rho = errors.gather(1, place.unsqueeze(1)).squeeze(1)
        wrong = ~torch.isfinite(rho)
        rho = torch.where(wrong, torch.full_like(rho, torch.nan), rho.clamp_min(0.0))
        node = torch.where(wrong, -torch.ones_like(place), self.nodes[place])
        if self.filtering:
            node = torch.where(self._accepted(x, observed, place, rho), node, -torch.ones_like(node))
        activation = 1 / (1 + rho)
        return node, self._class(x, observed, errors, node, place), activation, self._novelty(x, observed, place, rho)

    def _errors(self, x: Tensor, observed: Tensor) -> Tensor:
        """(n, A) relevance-weighted mean squared errors, centred so that little cancels."""
        centred = (x - self.centre) * observed
        mass = observed @ self.relevances.T
        return ((centred * centred) @ self.relevances.T - 2 * centred @ self.linear + observed @ self.squares) / mass

    def _accepted(self, x: Tensor, observed: Tensor, place: Tensor, rho: Tensor) -> Tensor:
        if self.local:
            inside = (x - self.prototypes[place]).abs() <= self.box[place]
            return (inside | (observed == 0)).all(1)
        return rho <= self.accepted

    def _novelty(self, x: Tensor, observed: Tensor, place: Tensor, rho: Tensor) -> Tensor:
        """As `Predictor.novelty` has it."""
        if not self.local:
            return rho / (rho + self.threshold)
        gap = (x - self.prototypes[place]).abs() * observed
        ratio = torch.where(gap > 0, gap / self.box[place], torch.zeros_like(gap)).amax(1)
        novelty = torch.where(torch.isinf(ratio), torch.ones_like(ratio), ratio / (1 + ratio))
        return torch.where(torch.isnan(rho), rho, novelty)

    def _class(self, x: Tensor, observed: Tensor, errors: Tensor, node: Tensor, place: Tensor) -> Tensor:
        """Class of the BMU, else of the nearest node that has one; −1 where none can be said."""
        nothing = -torch.ones_like(node)
        if not self.labelled:
            return nothing
        far = torch.where((self.classes >= 0).unsqueeze(0), errors, torch.full_like(errors, torch.inf))
        other = far.argmin(1)
        found = self.classes[other]
        if self.strict:
            rho = errors.gather(1, other.unsqueeze(1)).squeeze(1)
            found = torch.where(self._accepted(x, observed, other, rho), found, nothing)
        own = self.classes[place]
        return torch.where(node < 0, nothing, torch.where(own >= 0, own, found))


class ModelGraph(nn.Module):
    """Raw samples to the answers of a model.

    Args:
        predictor: the model.
    """

    low: Tensor
    span: Tensor
    varies: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        low = torch.tensor(predictor.spec.low, dtype=torch.float64)
        span = torch.tensor(predictor.spec.high, dtype=torch.float64) - low
        self.register_buffer("low", low)
        self.register_buffer("span", torch.where(span == 0, torch.ones_like(span), span))
        self.register_buffer("varies", (span != 0).to(torch.float64))
        self.encoder = predictor.deep.network.encoder if predictor.deep else nn.Identity()
        self.map = MapGraph(predictor)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(n, *shape) samples as the source has them."""
        scaled = (samples.flatten(1).to(torch.float64) - self.low) / self.span * self.varies
        answers: tuple[Tensor, Tensor, Tensor, Tensor] = self.map(self.encoder(scaled.to(torch.float32)))
        return answers


def export_model(directory: str | Path, out: str | Path) -> dict[str, Any]:
    """Writes a trained model as ONNX, and compares it with torch on a few random samples.

    Args:
        directory: of a run or any other place with its map file.
        out: the file; replaced if it exists.

    Returns:
        out, model, bytes, inputs and outputs by name, checked (rows compared; 0 without onnxruntime).

    Raises:
        UserError: there is no model, the packages are missing, or the file cannot be written.
        MachineError: the file does not answer as the model does, or the exporter fails on what is not the user's.
    """
    _require("onnx")
    _require("onnxscript")
    out = Path(out)
    if out.suffix != ".onnx" or out.is_dir():
        raise must("--out", "a file that ends in .onnx", str(out))
    check_writable(out, "a file")
    import onnx

    predictor = Predictor.load(directory)
    graph = ModelGraph(predictor).eval()
    own = predictor.deep is not None and ":" in predictor.about["deep"]["encoder"]["name"]
    proto = _converted(graph, torch.from_numpy(_examples(predictor, _EXAMPLE_ROWS)), own)
    about = {"model": predictor.about.get("model"), "map_digest": predictor.about["digest"]}
    about |= {"class_names": list(predictor.class_names), "input": predictor.spec.to_dict()}
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in about.items()})
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    checked = _check(content, predictor)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content)
    return {
        "out": str(out),
        "model": about["model"],
        "bytes": len(content),
        "inputs": {"samples": f"{predictor.spec.dtype} (n, {', '.join(map(str, predictor.spec.shape))})"},
        "outputs": list(OUTPUTS),
        "checked": checked,
    }


def _double(value: float) -> Tensor:
    """A number as a tensor: the exporter writes plain numbers in float32."""
    return torch.tensor(value, dtype=torch.float64)


def _converted(graph: nn.Module, example: Tensor, own_encoder: bool) -> Any:
    with _quiet():
        try:
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=["samples"],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = line_of(error.__cause__ or error)[:300]
            if not own_encoder:
                raise MachineError(f"This version of torch cannot write the model as ONNX. It says: {cause}") from error
            raise UserError(
                "The model must be a graph that torch.export can follow: an encoder of your own without branches and "
                f"loops that depend on values or on the number of samples. It says: {cause}"
            ) from error
    assert program is not None
    return program.model_proto


def _examples(predictor: Predictor, count: int) -> np.ndarray:
    """Random samples within the range of the training data."""
    spec, generator = predictor.spec, np.random.default_rng(0)
    low, high = np.asarray(spec.low), np.asarray(spec.high)
    if len(low) > 1:
        low, high = low.reshape(spec.shape), high.reshape(spec.shape)
    values = low + (high - low) * generator.random((count, *spec.shape))
    return (values if spec.dtype.startswith("float") else values.round()).astype(spec.dtype)


def _check(content: bytes, predictor: Predictor) -> int:
    """Compares row by row; where rounding decides between two nodes they may differ, after an encoder one in fifty."""
    try:
        import onnxruntime
    except ImportError:
        return 0
    samples = _examples(predictor, 64)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    nodes, classes, activation, novelty = session.run(list(OUTPUTS), {"samples": samples})
    expected = predictor.predict(samples)
    codes = {name: code for code, name in enumerate(predictor.class_names)}
    wanted = np.array([codes.get(name, -1) for name in expected["class"]])
    equal = (nodes == expected["node"].to_numpy()) & (classes == wanted)
    same = (equal if predictor.deep else equal | _level(predictor, samples, nodes, expected["node"].to_numpy())).mean()
    gap = np.abs(activation - expected["activation"].to_numpy()).max()
    alike = nodes == expected["node"].to_numpy()  # another node has another box
    off = np.abs(novelty - expected["novelty"].to_numpy()).max(where=alike, initial=0.0)
    if same < (0.98 if predictor.deep else 1.0) or not gap < 1e-3 or not off < 1e-2:
        raise MachineError(
            f"The ONNX file does not answer as the model does: {same:.1%} equal nodes and classes, "
            f"activation {gap:.1e} and novelty {off:.1e} off."
        )
    return len(samples)


def _level(predictor: Predictor, samples: np.ndarray, nodes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) whether two different nodes are equally near to a sample, within rounding."""
    features = Scaling(predictor.spec.low, predictor.spec.high)(samples)
    pairs = torch.from_numpy(np.stack([nodes, others], axis=1))
    errors = exact_errors(predictor.state, Tile.of(features, predictor.config.missing), pairs.clamp_min(0))
    near: np.ndarray = ((errors[:, 0] - errors[:, 1]).abs() <= _ROUNDING).numpy()
    return near & (nodes != others) & (nodes >= 0) & (others >= 0)


def _require(package: str) -> None:
    try:
        __import__(package)
    except ImportError:
        raise UserError(
            f"{package} must be installed to write ONNX. Run: pip install '.[onnx]' in the repository."
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter without its progress and advice; what went wrong is in its exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        told = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
