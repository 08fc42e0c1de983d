"""What all estimators share: reading data, training, node indices, quality, saving.

Axes: N samples, D features, K nodes of the fitted map (alive ones; the slots of `state_` may be more), C classes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from somcore.config import MapConfig
from somcore.estimators.persistence import read_map, saved_indices, write_map
from somcore.estimators.scales import refuse_missing, warn_of_constants, warn_of_scale
from somcore.estimators.training import Samples, resolved, resume, start, train
from somcore.estimators.weights import counts_of
from somcore.matching import activations, predict_nodes, subspace_members
from somcore.metrics import MapQuality, map_quality, u_matrix
from somcore.parameters import plain
from somcore.state import MapState

_ROWS = 2048  # samples looked at together outside of training: every decision is exact, so any number would do


@dataclass(kw_only=True, eq=False, repr=False)
class MapEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the estimators: a map with the interface of scikit-learn.

    The fields, here and in each kind of map, are its parameters; all are given by name.

    Attributes:
        state_: the map, a `MapState` of as many slots as its capacity.
        config_: `MapConfig` with every number that was derived from the data.
        prototypes_: (K, D) positions of the nodes.
        relevances_: (K, D) relevances of the features for each node.
        node_classes_: (K,) class of each node, -1 = none.
        node_slots_: (K,) slot of each node in `state_`.
        n_nodes_: K.
        labels_: (N,) node of each training sample, an index into `prototypes_`; -1 = noise.
        n_features_in_: D.
        feature_names_in_: (D,) names, if the training data had them.
    """

    _variant: ClassVar[str]

    epochs: int | None = None
    batch_size: int = 512
    sampling: str = "permutation"
    missing: str = "error"
    seed: int = 0
    device: str = "cpu"

    # ---------------------------------------------------------------- training

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A fit that is refused or interrupted leaves the former one, or an unfitted estimator."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _map_config(self) -> MapConfig:
        used = set(MapConfig.fields_of(self._variant)) & set(self.get_params(deep=False))
        return MapConfig(variant=self._variant, **{name: getattr(self, name) for name in used})

    def _features(self, X: Any, y: Any = None, *, reset: bool) -> tuple[Tensor, Any]:
        """Validated features on the device of the map, and the validated target if there is one."""
        checks: dict[str, Any] = {
            "dtype": (np.float64, np.float32),
            "ensure_all_finite": "allow-nan",
            "order": "C",
            "reset": reset,
        }
        if y is None:
            X = validate_data(self, X, **checks)
        else:
            X, y = validate_data(self, X, y, **checks)
        refuse_missing(X, masked=self.missing == "mask")
        return torch.from_numpy(X if X.flags.writeable else X.copy()).to(self._device()), y

    def _device(self) -> torch.device:
        try:
            device = torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"device must be a device of torch, such as 'cpu'. Got {self.device!r}.") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device must be one that is here. Got {self.device!r}, but torch finds no CUDA device.")
        return device

    def _samples(self, features: Tensor, labels: np.ndarray | None, sample_weight: Any) -> Samples:
        """Training samples; those of weight 0 are left out."""
        codes = None if labels is None else torch.from_numpy(labels).to(self._device())
        if sample_weight is None:
            return Samples(features, codes)
        weights = counts_of(sample_weight, features.cpu().numpy())
        samples = Samples(features, codes, torch.from_numpy(weights).to(self._device()))
        kept = torch.from_numpy(np.flatnonzero(weights)).to(self._device())
        return samples.take(kept)

    def _train(
        self, features: Tensor, labels: np.ndarray | None = None, num_classes: int = 0, sample_weight: Any = None
    ) -> None:
        """Train from the beginning."""
        config = self._map_config()
        warn_of_scale(features, config.is_growing)
        if config.variant != "kohonen":
            warn_of_constants(features)
        state, config, bmu = train(config, self._samples(features, labels, sample_weight), num_classes)
        self._install(state, config)
        self.labels_ = self._nodes(features) if bmu is None else bmu.numpy()

    def _train_further(
        self, features: Tensor, labels: np.ndarray | None = None, num_classes: int = 0, sample_weight: Any = None
    ) -> None:
        """One pass over further samples; the first call makes the map."""
        samples = self._samples(features, labels, sample_weight)
        if not hasattr(self, "state_"):
            given = self._map_config()
            warn_of_scale(features, given.is_growing)
            config = resolved(given, samples, num_classes, num_rows=max(len(samples), given.batch_size))
            self._install(start(config, samples, num_classes), config)
        self._install(resume(self.state_, self._endless(self.config_), samples), self.config_)
        self.labels_ = self._nodes(features)

    def _endless(self, config: MapConfig) -> MapConfig:
        """The configuration under which a stream of samples is learned: a growing map never ends."""
        return dataclasses.replace(config, num_rounds=None) if config.is_growing else config

    def _install(self, state: MapState, config: MapConfig) -> None:
        slots = state.alive.nonzero().squeeze(1)
        self.state_, self.config_ = state, config
        self.node_slots_ = slots.cpu().numpy()
        self.n_nodes_ = len(slots)
        self.prototypes_ = state.prototypes[slots].cpu().numpy()
        self.relevances_ = state.relevances[slots].cpu().numpy()
        self.node_classes_ = state.classes[slots].cpu().numpy()

    # ---------------------------------------------------------------- using the map

    def _by_parts(self, features: Tensor, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        """Apply a row-wise function of features to all rows, a bounded number at a time."""
        return torch.cat([function(part).cpu() for part in features.split(_ROWS)]).numpy()

    def _nodes(self, features: Tensor) -> np.ndarray:
        """(N,) node of each sample, -1 = noise."""
        index = np.append(np.cumsum(self.state_.alive.cpu().numpy()) - 1, -1)  # slot -1 stays -1
        slots = self._by_parts(features, lambda part: predict_nodes(self.state_, part, self.config_)[0])
        nodes: np.ndarray = index[slots]
        return nodes

    def _read(self, X: Any) -> Tensor:
        check_is_fitted(self, "state_")
        features, _ = self._features(X, reset=False)
        return features

    def transform(self, X: Any) -> np.ndarray:
        """Activation of every node by every sample.

        Args:
            X: (N, D) samples.

        Returns:
            (N, K) activations in [0, 1]; 1 = the sample is the prototype.
        """
        features, slots = self._read(X), torch.from_numpy(self.node_slots_).to(self._device())
        return self._by_parts(features, lambda part: activations(self.state_, part, self.config_)[:, slots])

    def predict_members(self, X: Any) -> csr_array:
        """Every node that a sample belongs to: subspace clustering, where clusters may share samples.

        Args:
            X: (N, D) samples.

        Returns:
            (N, K) sparse matrix of True: row i lists the nodes of sample i, `matrix[[i]].indices`.
        """
        features, slots = self._read(X), torch.from_numpy(self.node_slots_).to(self._device())
        return csr_array(
            self._by_parts(features, lambda part: subspace_members(self.state_, part, self.config_)[:, slots])
        )

    def _quality(self, X: Any) -> MapQuality:
        features, total = self._read(X), MapQuality()
        for part in features.split(_ROWS):
            total = total.merge(map_quality(self.state_, part, self.config_))
        return total

    def quantization_error(self, X: Any) -> float:
        """Mean distance (not squared, weighted by relevances) of the samples to their BMU, feature units."""
        return self._quality(X).quantization_error

    def topographic_error(self, X: Any) -> float:
        """Share of samples whose first and second BMU are no neighbours; 1 for growing maps whose nodes have none."""
        return self._quality(X).topographic_error

    def u_matrix(self) -> np.ndarray:
        """(K,) mean distance of each prototype to those of its neighbours; 0 for a node without any."""
        check_is_fitted(self, "state_")
        return u_matrix(self.state_.prototypes, self.state_.neighbours)[self.state_.alive].cpu().numpy()

    @property
    def relevant_features_(self) -> np.ndarray:
        """(K, D) bool: features that matter to a node, of relevance at or above its mean."""
        check_is_fitted(self, "state_")
        relevant: np.ndarray = self.relevances_ >= self.relevances_.mean(axis=1, keepdims=True)
        return relevant

    @property
    def _n_features_out(self) -> int:
        return self.n_nodes_

    # ---------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one file: tensors and JSON, no pickle; atomically.

        Args:
            path: the file; replaced if it exists.
        """
        check_is_fitted(self, "state_")
        parameters = {name: plain(value) for name, value in self.get_params(deep=False).items()}
        document = {
            "estimator": type(self).__name__,
            "parameters": parameters | {"device": str(self.device)},
            "config": self.config_.to_dict(),
            "state_digest": self.state_.digest(),
            "feature_names": list(getattr(self, "feature_names_in_", [])) or None,
        }
        arrays = {name: torch.from_numpy(array) for name, array in self._saved_arrays().items()}
        state = {f"state.{name}": tensor for name, tensor in self.state_.to_tensors().items()}
        write_map(path, document, state | arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an estimator that `save` wrote; executes nothing from the file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: not such a file, damaged, or of another estimator.
        """
        document, tensors = read_map(path)
        if document.get("estimator") != cls.__name__:
            raise ValueError(f"'{path}' must hold a {cls.__name__}. Got {document.get('estimator')!r}.")
        try:
            estimator = cls(**document["parameters"])
            state = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("state.")}
            estimator._restore(document, MapState.from_tensors(state), tensors)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"'{path}' must hold a complete {cls.__name__}. It does not: {error}.") from error
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        """What pickle, joblib and skops write: the map as arrays of NumPy, which all of them know."""
        fields: dict[str, Any] = super().__getstate__()
        if "state_" not in fields:
            return fields
        return fields | {"state_": {name: each.cpu().numpy() for name, each in self.state_.to_tensors().items()}}

    def __setstate__(self, fields: dict[str, Any]) -> None:
        super().__setstate__(fields)
        if isinstance(state := fields.get("state_"), dict):  # in older pickles it is a `MapState`
            tensors = {name: torch.tensor(array, device=self.device) for name, array in state.items()}
            self.state_ = MapState.from_tensors(tensors)

    def _saved_arrays(self) -> dict[str, np.ndarray]:
        """Fitted arrays that are not part of the state."""
        return {"labels": self.labels_}

    def _restore(self, document: dict[str, Any], state: MapState, tensors: dict[str, Tensor]) -> None:
        config = MapConfig.from_dict(document["config"])
        slots = config.capacity if config.is_growing else (config.rows or 0) * (config.columns or 0)
        good = config.variant == self._variant and state.capacity == slots
        good = good and state.digest() == document["state_digest"]
        good = good and int(state.classes.min()) >= -1 and int(state.classes.max()) < state.num_classes
        if not (good and all(bool(torch.isfinite(t).all()) for t in state.to_tensors().values())):
            raise ValueError(f"The saved map must fit its own configuration ({config.variant}). It does not.")
        self._install(state.to(self._device()), config)
        self.labels_ = saved_indices(tensors, "labels", np.arange(self.n_nodes_))
        self.n_features_in_ = state.num_features
        if document["feature_names"] is not None:
            self.feature_names_in_ = np.asarray([str(name) for name in document["feature_names"]], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "mask"
        return tags
