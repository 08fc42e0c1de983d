"""A named variant: the rule that reads the classes out of a trained map is one more drawn parameter.

The map is trained by its own rules; only the last step changes. Each row is spread over its m nearest nodes,
z_ij ∝ exp(−ρ_ij / ρ_im), Σ_j z_ij = 1, and nodes get soft classes from the labelled training rows.

- "own": the method's rule, the class of the BMU.
- "vote": a node takes the shares of the classes among the labelled rows around it.
- "graph": soft classes that are smooth over the graph of nodes which all rows, labelled or not, weave together:
  A = (Z_lᵀ Z_l + γ L)⁻¹ Z_lᵀ Y, L = ZᵀZ − ZᵀZ Λ⁻¹ ZᵀZ, Λ = diag(Σ_i z_ij). Source: Liu, He & Chang, ICML 2010,
  with the map's nodes as anchors.

Axes: N training rows, n rows asked about, K nodes alive, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.sweeps.published_spaces import ParameterSet
from somcore.state import MapState

DRAWN = "drawn"


def read_out(state: MapState, features: Tensor, labels: Tensor, asked: Tensor, values: ParameterSet) -> Tensor | None:
    """Classes of the asked rows by the drawn rule.

    Args:
        state: a trained map.
        features: (N, D) training rows.
        labels: (N,) their classes, −1 where unknown.
        asked: (n, D).
        values: readout, readout_nodes (m) and readout_smoothness (γ).

    Returns:
        (n,) int64; None for the method's own rule, which is also that of the default parameters.
    """
    rule = values.get("readout", "own")
    if rule == "own":
        return None
    num_nodes, smoothness = int(values["readout_nodes"]), float(values["readout_smoothness"])
    known = labels >= 0
    there = memberships(state, asked, num_nodes)
    y = torch.nn.functional.one_hot(labels[known], state.num_classes).to(torch.float64)
    prior = y.mean(0)
    if rule == "vote":
        own = memberships(state, features[known], num_nodes)
        shares = (own.T @ y + smoothness * prior) / (own.sum(0).unsqueeze(1) + smoothness)
        return (there @ shares).argmax(1)
    z = memberships(state, features, num_nodes)
    own, overlap = z[known], z.T @ z
    laplacian = overlap - overlap @ (overlap / z.sum(0).clamp_min(1e-12).unsqueeze(1))
    ridge = 1e-6 * torch.eye(len(overlap), dtype=z.dtype)
    soft = torch.linalg.solve(own.T @ own + smoothness * laplacian + ridge, own.T @ (y - prior))
    return (there @ soft + prior).argmax(1)


def memberships(state: MapState, features: Tensor, num_nodes: int) -> Tensor:
    """z: (n, K) float64, zero but for the m nearest alive nodes of each row; rows add up to 1."""
    c, w = state.prototypes[state.alive], state.relevances[state.alive]
    weighted = w * c
    squared = features.square() @ w.T - 2 * (features @ weighted.T) + (weighted * c).sum(1)
    rho = (squared / w.sum(1)).clamp_min(0)
    near = rho.topk(min(num_nodes, rho.shape[1]), dim=1, largest=False)
    width = near.values[:, -1:].clamp_min(1e-12)
    return torch.zeros_like(rho).scatter_(1, near.indices, torch.softmax(-near.values / width, dim=1))
