"""Side-by-side measurements behind `jobs.benchmark`."""
