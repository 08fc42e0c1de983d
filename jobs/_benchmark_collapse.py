"""`jobs.benchmark collapse`: random parameter sets and how they end."""

from jobs._benchmark_trials import collapse_app as app

__all__ = ["app"]
