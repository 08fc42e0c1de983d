"""The published results of the classical family on the UCI tables: `jobs.benchmark uci`."""
