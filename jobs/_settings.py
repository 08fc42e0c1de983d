"""`python -m jobs._settings > docs/settings.md`: every setting of a run, from the sections that check them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from pipeline.config import RunConfig
from pipeline.deep.config import LATTICE_DEFAULTS, map_defaults
from pipeline.rivals.config import MAP_DEFAULTS as RIVAL_MAP_DEFAULTS
from pipeline.section import Section

HEAD = """# Settings

Every setting of a run, by section. This page is made of the code that checks them
(`python -m jobs._settings > docs/settings.md`); a test keeps it equal to it. Options of the commands are in
[commands](commands.md).

A setting is given as `--set KEY=VALUE`, as often as you like, or in a file that `--config` names. Options of the
command line count more than the file, `--set` more than both. A key that nobody knows, a value out of its range, and
the section of another kind of model are refused with one line.

## A file of your own

Sections with their keys, as YAML, TOML or JSON; dotted keys (`map.capacity: 40`) do as well. The files of
`pipeline/recipes` are examples; `--config mnist` names one of them.

```yaml
# file: own.yaml
train: {labelled_fraction: 0.1, seed: 3}
map: {capacity: 40, activation_threshold: 0.97}
cluster: {workers: 0}
tracking: {uri: "none"}     # a word: nothing is recorded
```
```bash
python -m jobs.prepare digits --out data/digits
python -m jobs.train --data data/digits --model sssom --config own.yaml --set map.capacity=30 --out runs/own
```

- A default of –, and "none" in what a value must be, mean: not given. With `--set` that is the word `none`
  (`cluster.min_workers=none`), in YAML and JSON `null`; in TOML the key is left out. For `encoder.augment` and
  `tracking.uri` alone the word is a choice of its own: no distortion, no record.
- YAML takes `1e-3` for a word: write `0.001` or `1.0e-3`. `--set` takes both.
- `jobs.sweep` and `jobs.compare` take the same settings and files. What a sweep has an option for (data, model, seeds,
  fractions, workers, address, MLflow) is given to it with its options only; other `tracking.*` are not for sweeps:
  their trials record nothing themselves. `train.checkpoints`, the place of one training, is for neither of the two.
"""
READERS = {
    "encoder": "Read by `deep` and by all rivals but `kmeans`. More in [deep](deep.md).",
    "deep": "Read by `deep`, a part of it by [rivals](rivals.md). More in [deep](deep.md).",
    "rival": "Which rival reads which is in [rivals](rivals.md).",
}
"""What is said of a section beside its own sentence; those that are not here are read by every model."""
ELSEWHERE = {
    "map": "The hyper-parameters of the map, `map.NAME`, are in the table of [hyper-parameters](hyperparameters.md). "
    "Two of them have another name here: `variant` is `train.model` (of deep runs `deep.variant`), `seed` is "
    "`train.seed`. Deep runs and rivals begin with other values than maps on their own:",
    "loss": "Weights and constants of a deep run's loss, `loss.NAME`, are in the table of "
    "[the loss](deep.md#the-loss). Read by `deep`. Where a run has no label, or a fixed lattice, the weights of terms "
    "that read labels or guess them are 0 by default.",
}
"""What is said of a section that has its table on another page."""
MEANINGS = {
    "data.path": "the data to train on; the option `--data`",
    "train.model": "a map, `deep` (an encoder and a map) or a rival; the option `--model`",
    "train.seed": "of the choice of labels, the order of samples and the first values",
    "train.labelled_fraction": "share of the labels of each class that training may read",
    "train.validation_fraction": "share of those labels withheld to score with; a network is not trained on these rows "
    "at all, a map sees them without their label",
    "train.reduction": "exact: sums of integers, the same bits for any number of workers; fast: floats are added",
    "train.checkpoint_rounds": "rounds from one checkpoint to the next",
    "train.checkpoint_s": "seconds from one checkpoint to the next, where `train.checkpoint_rounds` is 0",
    "train.checkpoints": "where the checkpoints of one training are written; not for sweeps and comparisons, "
    "whose trainings keep them in their own folders",
    "train.keep_checkpoints": "how many checkpoints, the last ones, are kept",
    "train.evaluate_epochs": "epochs from one scoring during training to the next",
    "train.evaluate_rows": "rows that a scoring during training looks at; the end looks at all test rows",
    "cluster.workers": "Ray workers that share the work",
    "cluster.min_workers": "fewest workers that a run begins with, and goes on with after a loss (then none: one)",
    "cluster.threads": "CPU threads of each worker",
    "cluster.cpus_per_worker": "CPUs that Ray reserves for each (none: one per thread, less where there are fewer)",
    "cluster.gpus_per_worker": "GPUs that Ray reserves for each",
    "cluster.address": "of a running cluster (none: `RAY_ADDRESS`, else a cluster of its own on this machine)",
    "cluster.placement_s": "how long a run waits for room on the cluster",
    "cluster.start_s": "how long it waits for workers to start, or to come back after a loss",
    "cluster.join_s": "how long workers have to form the group that adds up their sums",
    "cluster.collective_s": "how long one such sum may take before the run asks which worker is lost or slow",
    "cluster.restarts": "how often Ray starts a worker again that was lost",
    "cluster.device": "where workers compute; cuda must be there for all",
    "tracking.uri": "the MLflow store (not given: MLflow's own, see `MLFLOW_TRACKING_URI`); the word none: no record",
    "tracking.experiment": "the MLflow experiment in which a run is recorded",
    "tracking.report": "whether the run ends with a [report](report.md)",
    "tracking.moments": "how many states on the way the report can show",
    "encoder.name": "which network; auto: cnn for images, audio for recordings, mlp for tables",
    "encoder.dim": "D, what the encoder gives to the map",
    "encoder.width": "how wide the network is",
    "encoder.weights": "which pretrained network, and the file of its weights",
    "encoder.augment": "how weak and strong views are distorted ([views](deep.md#views)); auto: by the data",
    "deep.variant": "which map is behind the encoder",
    "deep.learning_rate": "of Adam, the largest over the training",
    "deep.final_rate": "what is left of the learning rate at the end",
    "deep.rate_warmup_rounds": "rounds in which the learning rate rises to its largest value",
    "deep.weight_decay": "a parameter loses this times the learning rate, as a share of itself, in every round",
    "deep.clip_norm": "longest gradient of a round; a longer one is shortened to it",
    "deep.average_decay": "how slowly the moving average of the encoder, which is the final one, follows",
    "deep.labelled_per_round": "beside the samples of the epoch's order; rare: less than a quarter have labels",
    "deep.labelled_only": "whether samples without a label are left out",
    "deep.refresh_rounds": "rounds between two refreshes, which rebuild the map on the current encoder",
    "deep.refresh_rows": "rows that a refresh looks at; where labels are rare, also up to half as many labelled ones",
    "deep.growth_rounds": "afterwards a node is inserted only while a class has none",
    "deep.refresh_tune_steps": "prototypes are tuned on the labelled rows that the refresh looked at",
    "deep.refresh_tune_rate": "how far one of these steps goes",
    "deep.tune_steps": "prototypes are tuned on all labelled rows at the end",
    "deep.tune_rate": "how far one of these steps goes",
    "deep.crossings": "counted at the end, to group nodes and to give classes to nodes without one",
    "deep.final_passes": "passes over all training rows in which the map settles on the final encoder",
    "deep.precision": "of the passes through the network while it trains",
    "deep.on_collapse": "whether a run whose features collapse ends at once",
    "rival.clusters": "clusters, codes or centres",
    "rival.restarts": "the best of so many is kept",
    "rival.pretrain_share": "in which the autoencoder is trained alone",
    "rival.target_rounds": "between two targets of dec",
    "rival.pseudo_clusters": "whose numbers deepcluster learns as classes",
    "rival.reassign_epochs": "between two clusterings of deepcluster",
    "rival.whitened_dim": "of the features that deepcluster clusters",
    "rival.commitment_weight": "of the term that keeps features near their code (vqvae)",
    "rival.code_decay": "how slowly codes follow the mean of their features (vqvae)",
    "rival.dead_code_share": "below which a code is put somewhere else (vqvae)",
    "rival.confidence": "from which fixmatch takes its guess of a weak view for a label",
    "rival.consistency_weight": "of what fixmatch learns from guesses",
}
"""What a setting is for; beside what it must be."""


ORDER = ("data", "train", "map", "cluster", "tracking", "encoder", "deep", "loss", "rival")
"""Sections, as the page has them."""


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.strip(), *("\n".join(_section(name)).strip() for name in ORDER)]) + "\n"


def described() -> dict[str, tuple[str, str, str]]:
    """Default, what it must be, and meaning of every setting but `map.*` and `loss.*`, which have other tables."""
    rows = {}
    for name, section in _sections().items():
        for key, field in section.model_fields.items():
            default = "required" if field.is_required() else _plain(field.default)
            rows[f"{name}.{key}"] = (default, field.description or "", MEANINGS.get(f"{name}.{key}", ""))
    return rows


def _sections() -> dict[str, type[Section]]:
    """Those with fields of their own."""
    kinds = {name: field.annotation for name, field in RunConfig.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _section(name: str) -> Iterator[str]:
    yield f"## {name}\n"
    if name in ELSEWHERE:
        yield textwrap.fill(ELSEWHERE[name], 120)
        yield from _map_defaults() if name == "map" else ()
        return
    yield textwrap.fill(f"{inspect.cleandoc(_sections()[name].__doc__ or '')} {READERS.get(name, '')}".strip(), 120)
    yield "\n| key | default | must be | meaning |\n|---|---|---|---|"
    for key, row in described().items():
        if key.startswith(f"{name}."):
            yield f"| `{key}` | " + " | ".join(text.replace("|", "\\|") for text in row) + " |"


def _map_defaults() -> Iterator[str]:
    yield "\n| model | other defaults |\n|---|---|"
    yield f"| `deep`, a growing map | {_values(map_defaults('sssom'))} |"
    yield f"| `deep`, a fixed lattice (`kohonen`, `dssom`) | {_values(LATTICE_DEFAULTS)} |"
    yield f"| rivals | {_values(RIVAL_MAP_DEFAULTS)} |"


def _values(defaults: dict[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in defaults.items())


def _plain(value: Any) -> str:
    return "–" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    print(page(), end="")
