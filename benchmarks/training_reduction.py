"""25 MB summed over processes of one machine: shoal's group in shared memory beside gloo's all-reduce.

`training_reduction.py MEMBERS ROUNDS` prints one JSON line: the median milliseconds of each, and the median ratio of
rounds that ran one after the other.
"""

import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue

NUM_BYTES = 25_000_000 // 64 * 64
PER_ROUND = 3


def main() -> None:
    """Start the members and print what the first one found."""
    members, rounds = int(sys.argv[1]), int(sys.argv[2])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results: Queue = context.Queue()
    name = f"bench-{os.getpid()}"
    children = [
        context.Process(target=_member, args=(rank, members, rounds, port, name, results)) for rank in range(members)
    ]
    for child in children:
        child.start()
    taken = results.get(timeout=240)
    for child in children:
        child.join()
    ratios = [gloo / ours for gloo, ours in zip(taken["gloo"], taken["shoal"], strict=True)]
    medians = {name: 1_000 * statistics.median(each) for name, each in taken.items()}
    print(json.dumps({"median_ms": medians, "ratio": statistics.median(ratios)}))


def _member(rank: int, members: int, rounds: int, port: int, name: str, results: Queue) -> None:
    import torch
    import torch.distributed as dist

    from shoal.train.group.meeting import Meeting, join_group

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=members)
    meeting = Meeting(kind="shared", name=name, rank=rank, size=members, generation=0)
    group = join_group(meeting, lambda: False)
    numbers = torch.full((NUM_BYTES // 4,), float(rank))
    mine = group.memory(NUM_BYTES)
    taken: dict[str, list[float]] = {"gloo": [], "shoal": []}

    def reduce(parts: Sequence[torch.Tensor], target: torch.Tensor, start: int, stop: int) -> None:
        out = target[start:stop].view(torch.float32)
        first, *others = (part[start:stop].view(torch.float32) for part in parts)
        torch.add(first, others[0], out=out)
        for other in others[1:]:
            out.add_(other)

    def by_gloo() -> None:
        dist.all_reduce(numbers)

    def by_shoal() -> None:
        group.combine(NUM_BYTES, reduce)

    for number in range(rounds + 1):
        for side, work in {"gloo": by_gloo, "shoal": by_shoal}.items():
            mine.view(torch.float32).fill_(float(rank))
            numbers.fill_(float(rank))
            dist.barrier()
            began = time.perf_counter()
            for _ in range(PER_ROUND):
                work()
            if number:
                taken[side].append((time.perf_counter() - began) / PER_ROUND)
    if rank == 0:
        results.put(taken)
    dist.barrier()
    group.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
