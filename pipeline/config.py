"""RunConfig: everything a run is told, as strict sections with flat dotted keys.

The same keys (`map.bmu_rate`, `train.labelled_fraction`, `cluster.workers`) serve `--set key=value`,
configuration files, Tune spaces and MLflow parameters. The hyper-parameters of the map are not repeated here:
`map.*` are the fields of MapConfig, whose ranges the core checks, and `loss.*` those of LossConfig.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from pipeline.deep.config import DeepConfig, EncoderConfig, map_defaults
from pipeline.deep.user_encoder import allow
from pipeline.errors import nearest
from pipeline.plain_yaml import flatten, read_yaml
from pipeline.recipes import names, recipe_path
from pipeline.rivals.config import MAP_DEFAULTS as RIVAL_MAP_DEFAULTS
from pipeline.rivals.config import RIVALS, RivalConfig, check_rival, reads
from pipeline.section import Section
from somcore.config import MapConfig
from somcore.loss_config import LossConfig

_WORDS = ("encoder.augment", "tracking.uri")  # where "none" is a choice, not the lack of one
MODELS = ("kohonen", "dssom", "larfdssom", "sssom", "altsssom", "deep", *RIVALS)
SEMI_SUPERVISED = ("sssom", "altsssom", "deep", *RIVALS)

# Fields of MapConfig that a run sets itself, under one name only.
_SET_BY_RUN = {"variant": "train.model", "seed": "train.seed"}


class DataConfig(Section):
    """Which prepared data set is read."""

    path: str = Field(description="the directory or URI of a prepared data set")


class TrainConfig(Section):
    """What is trained on it, and how often it is saved and scored."""

    model: Literal[
        "kohonen", "dssom", "larfdssom", "sssom", "altsssom", "deep",
        "kmeans", "autoencoder-kmeans", "dec", "deepcluster", "vqvae", "supervised", "fixmatch",
    ] = Field(description="one of " + ", ".join(MODELS))  # fmt: skip
    seed: int = Field(0, ge=0, lt=2**31, description="an integer in [0, 2**31)")
    labelled_fraction: float = Field(1.0, ge=0, le=1, description="a share in [0, 1]")
    validation_fraction: float = Field(0.0, ge=0, lt=1, description="a share in [0, 1)")
    reduction: Literal["exact", "fast"] = Field("exact", description="exact or fast")
    checkpoint_rounds: int = Field(0, ge=0, description="a number of rounds >= 0 (0: by time)")
    checkpoint_s: float = Field(30.0, ge=0, description="a number of seconds >= 0")
    checkpoints: str | None = Field(None, description="a directory or URI for checkpoints, or none (in --out)")
    keep_checkpoints: int = Field(3, ge=1, description="an integer >= 1")
    evaluate_epochs: int = Field(1, ge=0, description="a number of epochs >= 0 (0: only at the end)")
    evaluate_rows: int = Field(2000, ge=0, description="a number of rows >= 0 (0: all)")


class ClusterConfig(Section):
    """Who computes it. Nothing in here can change a map; networks are rounded by `threads` and `device`."""

    workers: int = Field(2, ge=0, description="an integer >= 0 (0: in this process)")
    min_workers: int | None = Field(None, ge=1, description="an integer >= 1, or none (start with all)")
    threads: int = Field(1, ge=1, description="an integer >= 1")
    cpus_per_worker: float | None = Field(None, ge=0.0001, description="a number of CPUs >= 0.0001, or none")
    gpus_per_worker: float = Field(0.0, ge=0, description="a number of GPUs >= 0")
    address: str | None = Field(None, description="the address of a Ray cluster, or none")
    placement_s: float = Field(60.0, gt=0, description="a number of seconds > 0")
    start_s: float = Field(120.0, gt=0, description="a number of seconds > 0")
    join_s: float = Field(15.0, gt=0, description="a number of seconds > 0")
    collective_s: float = Field(60.0, gt=0, description="a number of seconds > 0")
    restarts: int = Field(100, ge=0, description="an integer >= 0")
    device: Literal["cpu", "cuda"] = Field("cpu", description="cpu or cuda")


class TrackingConfig(Section):
    """Where it is recorded."""

    uri: str | None = Field(None, description="an MLflow tracking URI, 'none' to record nothing, or none")
    experiment: str = Field("somgrad", min_length=1, description="a name")
    report: bool | None = Field(None, description="true or false (none: true, unless SOMGRAD_REPORT is 0)")
    moments: int = Field(24, ge=0, description="moments of the map to keep for the report, an integer >= 0 (0: none)")


class RunConfig(Section):
    """One run: data + encoder + deep + rival + loss + map + train + cluster + tracking.

    Example:
        >>> config = RunConfig.build({"data.path": "digits", "train.model": "sssom", "map.capacity": 50})
        >>> config.map_config().capacity
        50
    """

    data: DataConfig
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    deep: DeepConfig = Field(default_factory=DeepConfig)
    rival: RivalConfig = Field(default_factory=RivalConfig)
    loss: dict[str, Any] = Field(default_factory=dict)
    map: dict[str, Any] = Field(default_factory=dict)
    train: TrainConfig
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)

    @classmethod
    def build(cls, flat: Mapping[str, Any]) -> RunConfig:
        """Checks flat dotted keys; what is wrong comes as ValueError of one line."""
        sections: dict[str, dict[str, Any]] = {"data": {}, "train": {}}
        known = keys()
        for key, value in flat.items():
            if key not in known:
                raise ValueError(unknown_key(key, known))
            section, name = key.split(".", 1)
            sections.setdefault(section, {})[name] = value
        try:
            config = cls.model_validate(sections)
        except ValidationError as error:
            raise ValueError(_sentence(error)) from None
        config._check_deep()
        config._check_workers()
        config.map_config()
        config.loss_config(labels=True)
        allow(config.encoder.name)
        return config

    def map_config(self) -> MapConfig:
        """The hyper-parameters of the map, unresolved; somcore checks their ranges."""
        if self.train.model in RIVALS:
            variant, values = "sssom", {**RIVAL_MAP_DEFAULTS, **self.map}
        else:
            deep = self.train.model == "deep"
            variant = self.deep.variant if deep else self.train.model
            values = {**map_defaults(variant), **self.map} if deep else self.map
        try:
            return MapConfig(variant=variant, seed=self.train.seed, **values)
        except ValueError as error:
            raise ValueError(_prefixed(str(error), self.map)) from None

    def loss_config(self, labels: bool) -> LossConfig:
        """The weights of a deep run's loss: semi-supervised with labels, unsupervised without."""
        start = LossConfig.semi_supervised if labels else LossConfig.unsupervised
        try:
            return start(**self.loss)
        except ValueError as error:
            raise ValueError(_prefixed(str(error), self.loss, "loss")) from None

    def _check_deep(self) -> None:
        """What belongs to deep runs must not be given to others, where it would do nothing."""
        if self.train.model in RIVALS:
            sections = self.model_dump(exclude_unset=True)
            if self.cluster.device != "cpu":
                raise ValueError(f"cluster.device must be cpu for {self.train.model}. Got {self.cluster.device}.")
            return check_rival(self.train.model, flatten(sections))
        if "rival" in self.model_fields_set:
            raise ValueError(f"rival.* must be used with {', '.join(RIVALS)}. Got {self.train.model}; remove it.")
        given = [name for name in ("encoder", "deep", "loss") if name in self.model_fields_set]
        if given and self.train.model != "deep":
            wanted = f"deep, or a rival that reads it ({', '.join(RIVALS)})"
            remedy = "remove it, or the --config it stands in"
            raise ValueError(f"{given[0]}.* must be used with train.model {wanted}. Got {self.train.model}; {remedy}.")

    def _check_workers(self) -> None:
        least, most = self.cluster.min_workers, self.cluster.workers
        if least is not None and most and least > most:
            raise ValueError(f"cluster.min_workers must be at most cluster.workers, {most}. Got {least}.")

    def flat(self) -> dict[str, Any]:
        """All keys that were given or have a default, as one flat mapping."""
        content = self.model_dump()
        if self.train.model in RIVALS:
            return {key: value for key, value in flatten(content).items() if reads(self.train.model, key)}
        hidden = ("rival",) if self.train.model == "deep" else ("encoder", "deep", "loss", "rival")
        return flatten({name: part for name, part in content.items() if name not in hidden})


_SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in RunConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}


def keys() -> list[str]:
    """Every key that a run understands."""
    listed = [f"{name}.{field}" for name, section in _SECTIONS.items() for field in section.model_fields]
    listed += [f"loss.{f.name}" for f in dataclasses.fields(LossConfig)]
    return listed + [f"map.{f.name}" for f in dataclasses.fields(MapConfig) if f.name not in _SET_BY_RUN]


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The sentence for a key that nobody knows, with the nearest one that exists."""
    known = list(known)
    section, _, name = key.partition(".")
    if section == "map" and name in _SET_BY_RUN:
        return f"Unknown key '{key}'. It is set by {_SET_BY_RUN[name]}."
    near = nearest(key, known)
    if not near or "." not in key:
        last = nearest(key.rsplit(".", 1)[-1], [k.split(".", 1)[1] for k in known])
        near = [k for k in known if last and k.endswith("." + last[0])] or near
    return f"Unknown key '{key}'." + (f" Did you mean '{near[0]}'?" if near else "")


def parse_setting(text: str) -> tuple[str, Any]:
    """Splits one `key=value` of the command line; the value is read as none, a bool, a number or a word.

    Example:
        >>> parse_setting("encoder.weights=none"), parse_setting("encoder.augment=none")
        (('encoder.weights', None), ('encoder.augment', 'none'))
    """
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f"--set must be key=value. Got '{text}'.")
    key, value = key.strip(), value.strip()
    return key, value if key in _WORDS and value == "none" else parse_value(value)


def parse_value(text: str) -> Any:
    """Reads a word of the command line: none, a bool, an int, a float, a JSON list, else the word."""
    words = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    if text[:1] in '["':
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            pass
    return text


def read_file(path: str | Path) -> dict[str, Any]:
    """Reads a yaml, toml or json file with nested sections or dotted keys, or a recipe by its name; flat keys."""
    path = Path(path)
    if not path.is_file():
        known = recipe_path(str(path))
        if known is None:
            recipes = ", ".join(names())
            raise ValueError(f"--config must be a file. Got '{path}', which does not exist. Recipes: {recipes}.")
        path = known
    try:
        content = _parse_file(path)
    except ValueError as error:
        line = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid {path.suffix.lstrip('.') or 'yaml'}: {line}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold sections of keys (data, map, ...). Got {type(content).__name__}.")
    return flatten(content)


def _parse_file(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        import tomllib

        return tomllib.loads(text)
    if path.suffix == ".json":
        return json.loads(text)
    return read_yaml(text) or {}


def _sentence(error: ValidationError) -> str:
    """The first complaint of pydantic in our grammar."""
    first = error.errors()[0]
    section, name = str(first["loc"][0]), str(first["loc"][1]) if len(first["loc"]) > 1 else ""
    key = f"{section}.{name}" if name else section
    if first["type"] == "missing":
        return f"{key} must be given."
    field = _SECTIONS[section].model_fields.get(name) if section in _SECTIONS else None
    must = (field.description if field else None) or first["msg"]
    return f"{key} must be {must}. Got {first['input']!r}."


def _prefixed(sentence: str, options: Mapping[str, Any], section: str = "map") -> str:
    """The core says `bmu_rate must be ...`; the user typed `map.bmu_rate`."""
    first = sentence.split(" ", 1)[0]
    return f"{section}.{sentence}" if first in options else sentence
