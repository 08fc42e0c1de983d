"""Memory that a worker frees stays with it for the next tile, unless its user says otherwise (decision 0036)."""

import ctypes
import os
import subprocess
import sys

import pytest

_TILES = """
import resource, threading
import torch
from pipeline.training.worker import Worker

def tile():
    return [torch.ones(800_000, dtype=torch.float64) for _ in range(24)]

def work():
    for _ in range(3):
        tile()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        tile()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)

torch.set_num_threads(1)
Worker()
thread = threading.Thread(target=work)  # as Ray runs a worker's rounds
thread.start()
thread.join()
"""


def _page_faults(**variables: str) -> int:
    """Of a tile of 150 MB, after some others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", _TILES], capture_output=True, text=True, check=True, env=environment | variables
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc here")
def test_a_tile_gets_the_memory_that_the_one_before_has_freed():
    kept, as_the_user_says = _page_faults(), _page_faults(MALLOC_MMAP_THRESHOLD_="131072")
    assert kept < 50 < as_the_user_says  # pages may be of 4 kB or of 2 MB
