"""A Ray cluster: joined or started for a run, and given whole commands as jobs."""
