"""A run: planned, computed by its workers in rounds with one exact reduction each, kept in its directory."""
