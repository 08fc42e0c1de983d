"""Sweeps: search spaces, trials, the choice of the best set, on Ray Tune or by compiled loops."""
