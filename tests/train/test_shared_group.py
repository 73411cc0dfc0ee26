import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.train.gloo import MeetingPlace, group_environment

MEMBER = """
import sys, torch
from pathlib import Path
from shoal.train.base import PeerLostError
from shoal.train.gloo import join_group

rank, port = map(int, sys.argv[1:])
group = join_group(port=port, generation=0, rank=rank, size=2)
for turn in range(20):
    for size in (5, 3000):
        mine = torch.full((size,), 10 * turn + rank, dtype=torch.uint8)
        everyone = [torch.zeros(size, dtype=torch.uint8) for _ in range(2)]
        group.exchange(mine, everyone)
        assert [set(part.tolist()) for part in everyone] == [{10 * turn}, {10 * turn + 1}], everyone
if rank == 1:
    sys.exit()
try:
    group.exchange(mine, everyone)
except PeerLostError:
    print("lost")
"""


@pytest.mark.slow
def test_members_see_each_others_bytes_and_deaths():
    place = MeetingPlace()

    members = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(rank), str(place.port)],
            env={**os.environ, **group_environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    output = [member.communicate(timeout=120) for member in members]

    assert [member.returncode for member in members] == [0, 0], output
    assert output[0][0] == "lost\n"
    left = [path for member in members for path in Path("/dev/shm").glob(f"shoal-{member.pid}-*")]
    assert left == []
