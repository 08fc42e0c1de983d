"""Where things stand on paper: nodes by their lattice or by their distances, samples by an embedding.

Axes: A nodes, D features, m samples, E edges.
"""

from __future__ import annotations

import warnings

import numpy as np

from somcore.config import LATTICES, MapConfig
from somcore.topology import lattice_positions

_FEW, _MANY = 12, 100  # nodes that need no more than their distances; that need no care
_MOST_EDGES = 6000
_WIDE = 50


def node_places(config: MapConfig, nodes: np.ndarray, prototypes: np.ndarray, relevances: np.ndarray) -> np.ndarray:
    """Where each node is drawn: (A, 2), x to the right and y upwards.

    Nodes of a lattice stand on it, the first row on top. Nodes of a growing map stand so that near prototypes are near.

    Args:
        config: of the map.
        nodes: (A,) slots.
        prototypes: (A, D).
        relevances: (A, D).
    """
    if config.variant in LATTICES:
        assert config.rows is not None and config.columns is not None
        places = lattice_positions(config.rows, config.columns, config.lattice).numpy()[nodes]
        return np.stack([places[:, 1], -places[:, 0]], axis=1)
    return by_distance(distances(prototypes, relevances))


def distances(prototypes: np.ndarray, relevances: np.ndarray) -> np.ndarray:
    """(A, A): relevance-weighted distance between prototypes, with the mean relevances of both."""
    squares = (relevances * prototypes**2).sum(1)[:, None] - 2 * (relevances * prototypes) @ prototypes.T
    squares += relevances @ (prototypes**2).T
    both = np.sqrt(np.maximum(squares + squares.T, 0) / 2)
    np.fill_diagonal(both, 0.0)
    return both


def by_distance(between: np.ndarray) -> np.ndarray:
    """Places (A, 2) whose distances resemble the given ones: classical scaling, for many t-SNE from there.

    The same distances give the same places.
    """
    count = len(between)
    if count < 3:
        return np.stack([np.arange(count) * (between[0] if count else 0.0), np.zeros(count)], axis=1)
    start = _classical(between)
    if count <= _FEW:
        return start
    from sklearn.manifold import TSNE

    spread = start[:, 0].std() or 1.0
    model = TSNE(
        perplexity=min(30.0, (count - 1) / 3),
        metric="precomputed",
        init=start / spread * (1.0 if count < _MANY else 1e-4),
        random_state=0,
        max_iter=500,
        learning_rate=5.0 if count < _MANY else "auto",  # the automatic one throws some of few nodes far away
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.fit_transform(between), dtype=np.float64)


def _classical(between: np.ndarray) -> np.ndarray:
    """Classical multidimensional scaling to two axes, signs fixed."""
    squares = between**2
    centred = -0.5 * (squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean())
    values, vectors = np.linalg.eigh(centred)
    places = vectors[:, -1:-3:-1] * np.sqrt(np.maximum(values[-1:-3:-1], 1e-12))
    signs = np.sign(places[np.abs(places).argmax(0), [0, 1]])
    return places * np.where(signs == 0, 1, signs)


def shown_edges(edges: np.ndarray, places: np.ndarray, most: int = _MOST_EDGES) -> np.ndarray:
    """(E, 2): the edges that are drawn: all, or the shortest ones where there are too many to see anything."""
    if len(edges) <= most:
        return edges
    lengths = np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1)
    return edges[np.sort(np.argsort(lengths, kind="stable")[:most])]


class Plane:
    """The plane of the two main directions of samples, to see others in it.

    Args:
        features: (m, D).
    """

    def __init__(self, features: np.ndarray) -> None:
        from sklearn.decomposition import PCA

        kept = min(2, *features.shape)
        self._model = PCA(kept, svd_solver="full" if features.shape[1] <= 1024 else "randomized", random_state=0)
        with np.errstate(invalid="ignore"):  # shares of a variance of 0, where all samples are the same
            self._model.fit(np.asarray(features, dtype=np.float64))
        shares = self._model.explained_variance_ratio_
        self.explained = float(np.nan_to_num(shares).sum())

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, D) to (n, 2)."""
        places = self._model.transform(np.asarray(features, dtype=np.float64))
        return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def embeddings(
    features: np.ndarray, prototypes: np.ndarray, wanted: tuple[str, ...], plane: Plane
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Samples and prototypes in two dimensions, by the name of the method.

    Args:
        features: (m, D).
        prototypes: (A, D).
        wanted: of "pca", "tsne" and "umap"; those that are not installed are left out.
        plane: of the samples.

    Returns:
        Per method places of the samples (m, 2) and of the prototypes (A, 2), which are embedded together.
    """
    together = np.concatenate([features, prototypes]).astype(np.float32)
    found = {}
    for name in wanted:
        method = {"pca": lambda _: plane(together), "tsne": _tsne, "umap": _umap}[name]
        places = method(together) if name == "pca" or len(together) >= 10 else None
        if places is not None:
            found[name] = (places[: len(features)], places[len(features) :])
    return found


def _tsne(features: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    start = "pca" if features.shape[1] > 1 else "random"  # a line has one main direction, and would stay a line
    model = TSNE(perplexity=perplexity, init=start, random_state=0, max_iter=500, learning_rate="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.fit_transform(_narrow(features)))


def _umap(features: np.ndarray) -> np.ndarray | None:
    try:
        import umap
    except ImportError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(umap.UMAP(random_state=0, n_neighbors=min(15, len(features) - 1)).fit_transform(features))


def _narrow(features: np.ndarray) -> np.ndarray:
    """What is left of wide features in their fifty main directions: enough for neighbours, and quick."""
    if features.shape[1] <= _WIDE or len(features) <= _WIDE:
        return features
    from sklearn.decomposition import PCA

    return np.asarray(PCA(_WIDE, svd_solver="randomized", random_state=0).fit_transform(features))


def regions(places: np.ndarray, nodes: np.ndarray, size: int = 220) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which node each spot of an embedding belongs to: that of the sample shown nearest to it.

    Args:
        places: (m, 2) of samples with a node.
        nodes: (m,) their BMU.
        size: spots along each axis.

    Returns:
        x (size,), y (size,), and the nodes (size, size), one row per y; −1 far from all samples.
    """
    from scipy.spatial import cKDTree

    low, high = places.min(0), places.max(0)
    margin = np.maximum((high - low) * 0.07, 1e-9)
    x, y = (np.linspace(low[a] - margin[a], high[a] + margin[a], size) for a in (0, 1))
    extent = np.maximum(high - low, 1e-9)
    spots = np.stack([part.ravel() for part in np.meshgrid(x, y)], axis=1)
    apart, nearest = cKDTree(places / extent).query(spots / extent)
    found = np.where(apart < 0.06, nodes[nearest], -1)
    return x, y, found.reshape(size, size)


def borders(spots: np.ndarray) -> np.ndarray:
    """(size, size) bool: where one region ends and another begins."""
    edge = np.zeros(spots.shape, dtype=bool)
    edge[:-1] |= spots[:-1] != spots[1:]
    edge[:, :-1] |= spots[:, :-1] != spots[:, 1:]
    return edge & (spots >= 0)
