"""Hyper-parameters that document and check themselves: the base of `MapConfig` and `LossConfig`."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self


def parameter(default: Any, symbol: str, valid: str, meaning: str, unit: str = "–", **more: Any) -> Any:
    """A dataclass field that carries its documentation: symbol, valid range, meaning, unit, and what else is given.

    Example:
        >>> parameter(0.2, "ϑ/ρ_t", "(0, inf)", "temperature where none is given", "× ρ_t").metadata["unit"]
        '× ρ_t'
    """
    metadata = {"symbol": symbol, "valid": valid, "unit": unit, **more, "meaning": meaning}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """A frozen dataclass all of whose fields are made by `parameter`; only fields whose default is None take it.

    Numbers of NumPy and torch are kept as Python's, so that equal parameters are written alike.

    Raises:
        ValueError: a value is out of its range.
    """

    OWNER: ClassVar[str]
    """Whose hyper-parameters they are, for errors: "a map"."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = plain(getattr(self, each.name))
            object.__setattr__(self, each.name, value)
            if value is not None or each.default is not None:
                check(each.name, value, each.metadata["valid"], whole=str(each.type).startswith("int"))

    @classmethod
    def describe(cls) -> list[dict[str, Any]]:
        """One row per hyper-parameter: name, default, symbol, valid, unit, meaning, and what else its fields say."""
        return [{"name": each.name, "default": each.default, **each.metadata} for each in dataclasses.fields(cls)]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain values; an unknown key is a ValueError that names the nearest key."""
        known = [each.name for each in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"'{key}' is not a hyper-parameter of {cls.OWNER}.{hint}")
        return cls(**values)


def plain(value: Any) -> Any:
    """A number of NumPy or torch as one of Python's; anything else, arrays too, as it is."""
    return value.item() if hasattr(value, "item") and value.ndim == 0 else value


def check(name: str, value: Any, valid: str, whole: bool) -> None:
    """Check one value against the text that documents its range, and whether it must be an integer."""
    if valid == "bool":
        good = isinstance(value, bool)
    elif "|" in valid and not (valid.startswith("(0, 1)") and not isinstance(value, str)):
        good = value in [choice.strip() for choice in valid.split("|")]
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        good = False
    elif valid.startswith((">=", ">")):
        bound = float(valid.lstrip(">= "))
        good = value >= bound if valid.startswith(">=") else value > bound
    else:
        interval = valid.split("|")[0].strip()
        low, high = (float(part) for part in interval[1:-1].split(","))
        good = (value >= low if interval[0] == "[" else value > low) and (
            value <= high if interval[-1] == "]" else value < high
        )
    if whole and not isinstance(value, int):
        good = False
    if not good:
        kinds = {"[": "a number in ", "(": "a number in ", ">": ""}
        kind = kinds.get(valid[0], "one of " if "|" in valid else "")
        if whole:
            kind = "a whole number in " if valid[0] == "[" else "a whole number "
        raise ValueError(f"{name} must be {kind}{valid}. Got {value!r}.")
