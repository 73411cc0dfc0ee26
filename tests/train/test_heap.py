import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from shoal.train.heap import keep_freed_memory

kept = keep_freed_memory()
def step():
    pieces = [torch.ones(2 << 20) for _ in range(4)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
def test_a_step_finds_the_pages_of_the_step_before():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)

    kept, num_faults = done.stdout.split()
    # Each step touches 8,192 pages.
    assert kept == "False" or int(num_faults) < 8192
