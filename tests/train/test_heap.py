import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from shoal.train.heap import keep_freed_memory

kept = keep_freed_memory()
def step():
    pieces = [torch.ones(int(sys.argv[1]) << 18) for _ in range(4)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


# The C library's own limit for what it keeps is 32 MB.
@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [8, 48])
def test_a_step_finds_the_pages_of_the_step_before(megabytes):
    command = [sys.executable, "-c", FAULTS, str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    kept, num_faults = done.stdout.split()
    # Four pieces of pages of 4 KiB a step.
    assert kept == "False" or int(num_faults) < 4 * megabytes * 256
