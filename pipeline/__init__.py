"""The pipeline carries: data, workers, reduction, tracking around the pure core."""
