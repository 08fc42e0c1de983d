"""What a sweep searches over: published ranges by name, or a yaml file of ranges, choices and fixed values.

    space: sssom                                              # optional: begin with a published space
    map.bmu_rate: {low: 0.001, high: 0.2, log: true}          # a range
    map.capacity: {low: 20, high: 100, integer: true}         # of integers
    map.fallback: [nearest, threshold]                        # a choice
    map.batch_size: 256                                       # the same for all

A grid needs a list, or a range with `steps`, for every column, so it has no published space.
A set is one point of the space: a value for each column. Sets have numbers, and the set of a number is the same
for every number of sets, so a sweep can be extended.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import keys, unknown_key
from pipeline.errors import UserError, line_of, must
from pipeline.plain_yaml import read_yaml
from pipeline.sweeps.published_spaces import SPACES, Column, map_config, pick

Values = dict[str, Any]

PUBLISHED = ("sssom", "altsssom", "larfdssom")
_PUBLISHED_AS = {
    "map.neighbour_rate": "neighbour_ratio",
    "map.push_rate": "push_ratio",
    "map.connection_threshold": "minwd",
}
"""Settings that the published programs express otherwise."""
_RANGE = ("low", "high", "log", "integer", "steps")
_NEXT = 1e-9  # to an end of a range, which may be one that a value must not have
_SEARCHABLE = ("map.", "encoder.", "deep.", "loss.")


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        name: of the sequence of draws.
        columns: what is drawn; keys of the configuration, or names of the published ranges.
        fixed: flat settings, the same for all sets.
        points: what a grid has on each column; missing for ranges without `steps`.
        published: the space whose columns have the names and units of the published programs.
    """

    name: str = "defaults"
    columns: tuple[Column, ...] = ()
    fixed: Values = field(default_factory=dict)
    points: dict[str, list[Any]] = field(default_factory=dict)
    published: str | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Space:
        """What `describe` said."""
        columns = (Column(n, low, high, kind, tuple(choices)) for n, kind, low, high, choices in content["columns"])
        return cls(**{**content, "columns": tuple(columns)})

    def describe(self) -> dict[str, Any]:
        """Plain values that say what is searched: equal spaces, equal values."""
        columns = [[c.name, c.kind, c.low, c.high, list(c.choices)] for c in self.columns]
        parts = {"name": self.name, "columns": columns, "fixed": self.fixed, "points": self.points}
        return {**parts, "published": self.published}

    def continues(self, other: Space) -> bool:
        """Whether this is what the other was, which may be written as spaces were before whole numbers were a kind."""
        return self._written_before() == other._written_before()

    def _written_before(self) -> Space:
        kinds = {"whole": "integer"}
        columns = tuple(replace(column, kind=kinds.get(column.kind, column.kind)) for column in self.columns)
        return replace(self, columns=columns, points={name: _once(values) for name, values in self.points.items()})

    def given(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Columns that the settings of all trials decide, so that there is nothing to search."""
        decided = {*settings, *_published_names(settings)}
        return tuple(column.name for column in self.columns if column.name in decided)

    def without(self, settings: Mapping[str, Any]) -> Space:
        """The space that is left to search beside the settings of all trials, which hold in every set."""
        given = self.given(settings)
        columns = tuple(column for column in self.columns if column.name not in given)
        points = {name: values for name, values in self.points.items() if name not in given}
        ours = {key: value for key, value in settings.items() if key.startswith("map.")} if self.published else {}
        return replace(self, columns=columns, points=points, fixed={**self.fixed, **ours})

    def grid(self) -> list[Values]:
        """All combinations of the points."""
        missing = [c.name for c in self.columns if c.name not in self.points]
        if missing:
            raise must(missing[0], "a list of values, or a range with steps, for --search grid", "a range")
        names = list(self.points)
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*self.points.values())]

    def drawn(self, index: int, search: str) -> Values:
        """The set of a number: lhs (every ten sets are a Latin hypercube) or random."""
        if search == "lhs":
            return dict(pick(self.columns, self.name, index))
        quantiles = np.random.default_rng([0, index]).random(len(self.columns))
        return {column.name: column.value(float(u)) for column, u in zip(self.columns, quantiles, strict=True)}

    def extremes(self) -> list[Values]:
        """The first draw, and beside it every choice and what is next to both ends of every range, one at a time."""
        first = self.drawn(0, "lhs")
        ends = ((c.name, c.choices or (c.value(_NEXT), c.value(1 - _NEXT))) for c in self.columns)
        return [first, *({**first, name: value} for name, values in ends for value in values)]

    def settings(self, values: Mapping[str, Any], num_samples: int, num_features: int) -> Values:
        """What a set means as flat settings of a run on a table of N rows and D features."""
        own = {key: value for key, value in values.items() if "." in key}
        theirs = {key: value for key, value in values.items() if "." not in key}
        if self.published is None or not theirs:
            return {**self.fixed, **own}
        asked = {key.removeprefix("map."): value for key, value in {**self.fixed, **own}.items()}
        names = {column.name for column in SPACES[self.published]}
        theirs |= {name: value for name, value in asked.items() if name in names}  # ratios refer to these
        given = map_config(self.published, theirs, num_samples, num_features, 0).to_dict()
        default = map_config(self.published, {}, num_samples, num_features, 0).to_dict()
        changed = {f"map.{key}": value for key, value in given.items() if value != default[key]}
        return {**changed, **self.fixed, **own}


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is other in one of two spaces of one name, as `describe` gives them."""
    parts = [{column[0]: column[1:] for column in space["columns"]} | space["fixed"] for space in (before, now)]
    names = [name for name in dict.fromkeys((*parts[0], *parts[1])) if parts[0].get(name) != parts[1].get(name)]
    if names:
        return f"ranges or values of {', '.join(names)}"
    return "steps" if before["points"] != now["points"] else "order of its entries, or another published space"


def open_space(text: str | None) -> Space:
    """A published space by its name, a space file, or nothing to search.

    Raises:
        UserError: no such space, or something in the file is wrong.
    """
    if text is None:
        return Space()
    if text in PUBLISHED:
        return _published(text)
    path = Path(text)
    if not path.is_file():
        raise must("--space", f"a yaml file or one of {', '.join(PUBLISHED)}", text)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid yaml: {line_of(error)}") from None
    if not isinstance(content, Mapping) or not content:
        raise must(str(path), "a mapping of settings to ranges, lists or values", type(content).__name__)
    return _of_file(dict(content), path.stem)


def _published(name: str) -> Space:
    """Ranges of the literature; how classes are read out is no setting of a run."""
    columns = tuple(column for column in SPACES[name] if not column.name.startswith("readout"))
    return Space(name=name, columns=columns, published=name)


def _of_file(content: dict[str, Any], name: str) -> Space:
    base = content.pop("space", None)
    if base is not None and base not in PUBLISHED:
        raise must("space", f"one of {', '.join(PUBLISHED)}", base)
    columns: list[Column] = []
    fixed: Values = {}
    points: dict[str, list[Any]] = {}
    for key, value in _entries(content):
        _check_key(key)
        if isinstance(value, Mapping):
            columns.append(_range(key, value))
            if "steps" in value:
                points[key] = _steps(columns[-1], value["steps"])
        elif isinstance(value, list):
            columns.append(_choice(key, value))
            points[key] = _once(value)
        else:
            fixed[key] = value
    start = _published(base).columns if base else ()
    named = _published_names((*fixed, *(c.name for c in columns)))
    kept = tuple(column for column in start if column.name not in named)
    return Space(name=name, columns=(*kept, *columns), fixed=fixed, points=points, published=base)


def _published_names(settings: Iterable[str]) -> set[str]:
    """Names of the columns of published spaces that these settings decide."""
    return {_PUBLISHED_AS.get(key, key.removeprefix("map.")) for key in settings}


def _entries(content: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flat keys; a mapping that holds settings is a section, any other one a range."""
    known, found = keys(), []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in known and not set(value) & set(_RANGE):
            found += _entries(value, f"{name}.")
        else:
            found.append((name, value))
    return found


def _check_key(key: str) -> None:
    if key not in keys():
        raise UserError(unknown_key(key, keys()))
    if not key.startswith(_SEARCHABLE):
        raise must(key, "left out of a space", key, remedy="Spaces hold map.*, encoder.*, deep.* and loss.*.")


def _range(key: str, value: Mapping[str, Any]) -> Column:
    for name in value:
        if name not in _RANGE:
            raise must(f"{key}: a range", f"made of {', '.join(_RANGE)}", name)
    ends = [value.get("low"), value.get("high")]
    if any(isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end) for end in ends):
        raise must(key, "a range with numbers low and high", dict(value))
    low, high = float(ends[0]), float(ends[1])  # type: ignore[arg-type]
    if low >= high:
        raise must(key, "a range with low < high", dict(value))
    integer, log = value.get("integer", False), value.get("log", False)
    if not isinstance(integer, bool) or not isinstance(log, bool) or (integer and log):
        raise must(key, "a range with integer or log true or false, not both true", dict(value))
    if integer and not (low.is_integer() and high.is_integer()):
        raise must(key, "a range with whole numbers low and high where integer is true", dict(value))
    if log and low <= 0:
        raise must(key, "a range with low > 0 where log is true", dict(value))
    if log:
        return Column(key, math.log10(low), math.log10(high), "log10")
    return Column(key, low, high, "whole" if integer else "real")


def _choice(key: str, values: list[Any]) -> Column:
    if not values or not all(isinstance(value, str | int | float | None) for value in values):
        raise must(key, "a list of at least one plain value", values)
    return Column(key, kind="choice", choices=tuple(values))


def _once(values: Iterable[Any]) -> list[Any]:
    """Each value once; 1 and 1.0 are two."""
    return [value for _, value in dict.fromkeys((type(value), value) for value in values)]


def _steps(column: Column, steps: Any) -> list[Any]:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise must(f"{column.name}: steps", "an integer >= 2", steps)
    even = replace(column, kind="integer") if column.kind == "whole" else column  # rounded, so that both ends are steps
    return list(dict.fromkeys(even.value(step / (steps - 1)) for step in range(steps)))
