"""A gRPC client that keeps a number of requests under way: `serving_grpc.py POOL PORT SECONDS CONCURRENCY`.

The same for every server: gRPC's own C core under asyncio, with messages that were made before.
"""

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path

import grpc
import numpy as np
from serving_bodies import read_pool

METHOD = "/inference.GRPCInferenceService/ModelInfer"
WARM_UP_S = 0.5
# One connection is one stream of frames to read: with some, neither side is held up by it.
NUM_CHANNELS = 4


async def measure(requests: list[bytes], port: int, seconds: float, concurrency: int) -> dict:
    """Requests per second and percentiles, without the warm-up.

    Raises:
        grpc.RpcError: a request was not answered well.
    """
    # Without this option, channels to the same address share one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(min(NUM_CHANNELS, concurrency))]
    pool = itertools.cycle(requests)
    began = time.perf_counter() + WARM_UP_S
    taken: list[float] = []

    async def ask(channel: grpc.aio.Channel) -> None:
        infer = channel.unary_unary(METHOD)
        while (sent := time.perf_counter()) < began + seconds:
            answer = await infer(next(pool))
            if len(answer) < 4 * 10:
                raise ValueError(f"an answer of {len(answer)} bytes holds no scores")
            if sent >= began:
                taken.append(time.perf_counter() - sent)

    used = time.process_time()
    await asyncio.gather(*(ask(channels[number % len(channels)]) for number in range(concurrency)))
    used = time.process_time() - used
    for channel in channels:
        await channel.close()
    p50, p99 = 1_000 * np.percentile(taken, (50, 99))
    rate = len(taken) / seconds
    return {"rate_per_s": rate, "p50_ms": p50, "p99_ms": p99, "cores_used": used / (seconds + WARM_UP_S)}


def main() -> None:
    """Ask and print one JSON line."""
    pool, port, seconds, concurrency = sys.argv[1:]
    found = measure(read_pool(Path(pool)), int(port), float(seconds), int(concurrency))
    try:
        print(json.dumps(asyncio.run(found)))
    except grpc.RpcError as error:
        sys.exit(f"{error.code()}: {error.details()}")


if __name__ == "__main__":
    main()
