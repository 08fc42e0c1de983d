"""Runs in MLflow: the journal that never waits, its sender, and results pulled again."""
