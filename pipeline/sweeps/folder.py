"""What is called how in the folder of a sweep: its files, and how far a trial has come."""

SWEEP = "sweep.json"  # what the sweep is
TRIALS = "trials"  # a directory of each trial
TABLE, PAGE, FIGURE = "trials.csv", "results.md", "fractions.png"
TRIAL = "trial.json"  # in the directory of a trial: how far it has come

FINISHED, STOPPED, FAILED, RUNNING = "finished", "stopped", "failed", "running"
ENDED = (FINISHED, STOPPED, FAILED)
