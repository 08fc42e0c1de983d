"""`jobs.benchmark anchors`: the ablation of what keeps a representation alive."""

from jobs._benchmark_trials import anchors_app as app

__all__ = ["app"]
