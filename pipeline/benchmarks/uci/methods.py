"""The methods compared: how each is trained, which space its parameter sets come from, which variants it reads out."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.benchmarks.uci.fitting import Fit, fit_baseline, fit_map
from pipeline.benchmarks.uci.readout import DRAWN


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        title: how tables call it.
        fit: trains and answers; None for methods without classes.
        space: name of its search space; None if it has no parameters.
        readouts: named variants that come with each training, at no further cost.
        is_map: grown by rounds, hence worth screening.
    """

    title: str
    fit: Fit | None
    space: str | None = None
    readouts: tuple[str, ...] = ()
    is_map: bool = False


METHODS: dict[str, Method] = {
    "altsssom": Method("ALTSSSOM", fit_map("altsssom"), "altsssom", (DRAWN,), is_map=True),
    "sssom": Method("SSSOM", fit_map("sssom"), "sssom", (DRAWN,), is_map=True),
    "sssom-auto": Method(
        "SSSOM, calibrated threshold",
        fit_map("sssom", activation_threshold="auto"),
        "sssom",
        (DRAWN,),
        is_map=True,
    ),
    "label-propagation": Method("label propagation", fit_baseline("label-propagation"), "label-propagation"),
    "label-spreading": Method("label spreading", fit_baseline("label-spreading"), "label-spreading"),
    "majority": Method("majority class", fit_baseline("majority")),
    "nearest-neighbour": Method("1-nearest neighbour", fit_baseline("nearest-neighbour")),
    "logistic-regression": Method("logistic regression", fit_baseline("logistic-regression")),
    "larfdssom": Method("LARFDSSOM", None, "larfdssom", is_map=True),
}
