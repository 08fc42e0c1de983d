"""What every form of every map shares: the map, relevances, distances, neighbourhoods, pruning, phases.

Axis letters: K nodes, D features, C classes. One sample is a vector `x` of D floats, NaN where a value is
missing; one label is an integer `y`, -1 = unlabelled. Section numbers are those of the algorithms document.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

UNLABELLED = -1


@dataclass
class Map:
    """All there is to know about a map (1.1). Edited in place, unlike the state of `somcore`."""

    prototypes: np.ndarray
    relevances: np.ndarray
    deviations: np.ndarray
    alive: np.ndarray
    neighbours: np.ndarray
    classes: np.ndarray
    wins: np.ndarray
    updates: np.ndarray
    born: np.ndarray
    num_classes: int
    clock: int = 0
    round: int = 0
    growing: bool = True
    finished: bool = False

    @property
    def capacity(self) -> int:
        return len(self.alive)

    def nodes(self) -> list[int]:
        """Alive slots, ascending."""
        return [j for j in range(self.capacity) if self.alive[j]]

    def copy(self) -> Map:
        return copy.deepcopy(self)


def empty_map(capacity: int, num_features: int, num_classes: int) -> Map:
    """A growing map without nodes; every slot holds the canonical values of a dead one (1.1)."""
    return Map(
        prototypes=np.zeros((capacity, num_features)),
        relevances=np.ones((capacity, num_features)),
        deviations=np.zeros((capacity, num_features)),
        alive=np.zeros(capacity, dtype=bool),
        neighbours=np.zeros((capacity, capacity), dtype=bool),
        classes=np.full(capacity, UNLABELLED, dtype=np.int64),
        wins=np.zeros(capacity, dtype=np.int64),
        updates=np.zeros(capacity, dtype=np.int64),
        born=np.zeros(capacity, dtype=np.int64),
        num_classes=num_classes,
    )


def bury(m: Map, j: int) -> None:
    """Slot j dies: canonical values, so equal maps have equal bytes (1.1)."""
    m.prototypes[j] = 0.0
    m.deviations[j] = 0.0
    m.relevances[j] = 1.0
    m.alive[j] = False
    m.classes[j] = UNLABELLED
    m.wins[j] = m.updates[j] = m.born[j] = 0


def free_slot(m: Map) -> int | None:
    """The lowest free slot."""
    for j in range(m.capacity):
        if not m.alive[j]:
            return j
    return None


# ---------------------------------------------------------------- relevances and boxes


def logistic_relevances(deviation: np.ndarray, slope: float, floor: float) -> np.ndarray:
    """1.3: small deviation, large relevance; all ones if every feature deviates alike, to 2^-1000."""
    low, high, mean = min(deviation), max(deviation), sum(deviation) / len(deviation)
    if high - low <= 2.0**-1000:
        return np.ones(len(deviation))
    out = np.empty(len(deviation))
    for d, value in enumerate(deviation):
        exponent = (value - mean) / (slope * (high - low))
        out[d] = max(0.0 if exponent > 700.0 else 1.0 / (1.0 + math.exp(exponent)), floor)
    return out


def linear_relevances(deviation: np.ndarray, floor: float) -> np.ndarray:
    """Section 3 (DSSOM): 1 - deviation / largest deviation."""
    high = max(deviation)
    if high == 0.0:
        return np.ones(len(deviation))
    return np.array([max(floor, 1.0 - value / high) for value in deviation])


def corrected_deviation(deviation: np.ndarray, updates: int, kept: float) -> np.ndarray:
    """Section 6: the bias-corrected moving mean; 0 for a node that was never updated."""
    if updates == 0:
        return np.zeros(len(deviation))
    return deviation / (1.0 - kept ** int(updates))


def node_relevances(m: Map, j: int, config: Any) -> np.ndarray:
    if config.variant == "dssom":
        return linear_relevances(m.deviations[j], config.relevance_floor)
    if config.variant == "altsssom":
        hat = corrected_deviation(m.deviations[j], m.updates[j], config.deviation_decay)
        return logistic_relevances(hat, config.relevance_slope, config.relevance_floor)
    return logistic_relevances(m.deviations[j], config.relevance_slope, config.relevance_floor)


def box(m: Map, j: int, config: Any) -> np.ndarray:
    """Section 6: half the edges of node j's acceptance box.

    The box is closed at the resolution of the sums: a prototype pulled to x lands beside x by their rounding, and
    must not reject x for it where the deviation is 0 (a newborn, a constant feature).
    """
    resolution = max(2.0**-32 * max(abs(m.prototypes[node]).max() for node in m.nodes()), 2.0**-38)
    half = corrected_deviation(m.deviations[j], m.updates[j], config.deviation_decay) / m.relevances[j]
    return half + resolution


def inside(x: np.ndarray, centre: np.ndarray, half_edges: np.ndarray) -> bool:
    """The closed box, over the observed features."""
    return all(math.isnan(x[d]) or abs(x[d] - centre[d]) <= half_edges[d] for d in range(len(x)))


# ---------------------------------------------------------------- distance and winners

RESOLUTION = 2.0**-40


def gap(value: float, centre: float) -> float:
    """|x - c|; below the resolution of the sums it is none.

    Relevances look at deviations relative to their range, so rounding must not pass for a deviation: a node that
    wins but one sample, again and again, has deviations of 0 and relevances of 1, not the image of the last bits.
    """
    distance = abs(value - centre)
    return 0.0 if distance < RESOLUTION else float(distance)


def squared_distance(x: np.ndarray, centre: np.ndarray, relevance: np.ndarray) -> float:
    """1.2: the relevance-weighted sum over the observed features."""
    terms = zip(x, centre, relevance, strict=True)
    return float(sum(r * (v - c) ** 2 for v, c, r in terms if not math.isnan(v)))


def rho(x: np.ndarray, centre: np.ndarray, relevance: np.ndarray) -> float:
    """1.2: mean squared error per unit of relevance, over the observed features."""
    mass = float(sum(r for v, r in zip(x, relevance, strict=True) if not math.isnan(v)))
    return squared_distance(x, centre, relevance) / mass


def rho_of(m: Map, x: np.ndarray, j: int) -> float:
    return rho(x, m.prototypes[j], m.relevances[j])


def nearest(m: Map, x: np.ndarray, nodes: list[int]) -> int | None:
    """argmin of rho; nodes come in ascending order and only a smaller value wins: ties go to the lowest."""
    best, least = None, math.inf
    for j in nodes:
        value = rho_of(m, x, j)
        if best is None or value < least:
            best, least = j, value
    return best


def threshold(config: Any) -> float:
    """1.2: the activation threshold, said in rho."""
    return (1.0 - config.activation_threshold) / config.activation_threshold


def compatible(node_class: int, y: int) -> bool:
    """Section 5: same class, no class, or an unlabelled sample."""
    return y == UNLABELLED or node_class == UNLABELLED or node_class == y


def own_label(y: int, config: Any) -> int:
    """LARFDSSOM and the lattices see no labels."""
    return int(y) if config.variant in ("sssom", "altsssom") else UNLABELLED


# ---------------------------------------------------------------- pruning, neighbourhood, phases


def prune(m: Map, config: Any) -> list[int]:
    """1.7: remove who won too little in its time; all counters start anew. Returns the removed nodes."""
    losers = []
    for j in m.nodes():
        age = m.clock - (m.born[j] if config.newborn_credit else 0)
        if m.wins[j] < config.min_win_share * age:
            losers.append(j)
    if losers and len(losers) == len(m.nodes()):
        best = losers[0]
        for j in losers:
            if m.wins[j] > m.wins[best]:
                best = j
        losers.remove(best)
    for j in losers:
        bury(m, j)
    m.wins[:] = 0
    m.born[:] = 0
    m.clock = 0
    return losers


def reconnect(m: Map, config: Any) -> None:
    """1.5: neighbours care about the same features, and their classes do not contradict."""
    m.neighbours[:] = False
    limit = config.connection_threshold * math.sqrt(m.prototypes.shape[1])
    for j in m.nodes():
        for other in m.nodes():
            apart = math.sqrt(float(sum((m.relevances[j] - m.relevances[other]) ** 2)))
            allowed = compatible(m.classes[j], m.classes[other])
            m.neighbours[j, other] = j != other and apart < limit and allowed


def end_round(m: Map, pruned: bool, config: Any) -> None:
    """1.8: organisation, then growth until a period ends, then exactly one more full period."""
    m.round += 1
    if config.num_rounds is None:
        return
    if config.variant in ("kohonen", "dssom"):
        m.finished = m.round >= config.num_rounds
    elif m.growing and m.round >= config.num_rounds and pruned:
        m.growing = False
    elif not m.growing and pruned:
        m.finished = True
