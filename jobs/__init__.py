"""The jobs ask: thin commands over the pipeline."""
