"""`python -m jobs.benchmark NAME`: side-by-side measurements, each a module of its own, imported when asked for."""

from __future__ import annotations

from jobs._lazy import lazy_group
from jobs._run import run

# NAME: (module with a typer `app`, what it measures). A benchmark whose module is absent is not listed.
BENCHMARKS = {
    "uci": ("jobs._benchmark_uci", "The published tables: every protocol, method and label fraction."),
    "batch": ("jobs._benchmark_batch", "Speed of the batch SOM beside other libraries."),
    "growing": ("jobs._benchmark_growing", "Speed of the growing maps, and what exactness costs."),
    "soak": ("jobs._benchmark_soak", "Randomly timed kills of workers and drivers: the digest stays."),
    "scaling": ("jobs._benchmark_scaling", "Rounds, bytes and the exact reduction by K, D, C and workers."),
    "memory": ("jobs._benchmark_memory", "Resident memory on a table larger than it."),
    "deep": ("jobs._benchmark_deep", "Speed of deep training beside plain cross-entropy; what exactness costs."),
    "fractions": ("jobs._benchmark_fractions", "Accuracy by labelled fraction: deep map beside labels alone."),
    "representation": ("jobs._benchmark_representation", "What the features of a deep run are worth."),
    "anchors": ("jobs._benchmark_anchors", "What each anchor does against the collapse of a deep map."),
    "collapse": ("jobs._benchmark_collapse", "Random parameter sets of deep runs, and how they end."),
    "kills": ("jobs._benchmark_kills", "A sweep that is killed and resumed, beside one that is not."),
    "tracking": ("jobs._benchmark_tracking", "What tracking costs; a thousand children in one parent."),
    "predict": ("jobs._benchmark_predict", "Batch prediction beside the plain loop of a model."),
    "overhead": ("jobs._benchmark_overhead", "Seconds before a job's help and before a Ray run's first round."),
}


app = lazy_group(
    BENCHMARKS,
    "Benchmarks",
    "Example: python -m jobs.benchmark uci --samples 100. All take --json, --debug and --help.",
)


@app.callback()
def _benchmark() -> None:
    """Side-by-side measurements, as tables and JSON."""


if __name__ == "__main__":
    run(app, "jobs.benchmark")
