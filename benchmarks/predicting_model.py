"""What the model alone gives: ONNX Runtime on images in memory, one thread in each of some processes.

`predicting_model.py MODEL SECONDS PROCESSES BATCH_SIZE...` prints {batch size: rows per second of all together}.
"""

import json
import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from serving_model import make_images, open_session

NUM_IMAGES = 8_192


def main() -> None:
    """Measure each batch size in turn, with as much time for each."""
    path, seconds, num_processes = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    sizes = [int(size) for size in sys.argv[4:]]
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(num_processes)
    with context.Manager() as manager:
        rates = manager.list()
        workers = [
            context.Process(target=_work, args=(path, seconds / len(sizes), sizes, begin, rates))
            for _ in range(num_processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        found = list(rates)
    if len(found) != num_processes:
        sys.exit("a process of the model alone has failed")
    print(json.dumps({str(size): sum(each[size] for each in found) for size in sizes}))


def _work(path: Path, seconds: float, sizes: list[int], begin: Barrier, rates: list) -> None:
    session, images = open_session(path), make_images(NUM_IMAGES)
    session.run(None, {"image": images[: max(sizes)]})
    found = {}
    for size in sizes:
        begin.wait()
        found[size] = _rate(session, images, size, seconds)
    rates.append(found)


def _rate(session: object, images: object, size: int, seconds: float) -> float:
    done, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds:
        start = done % (NUM_IMAGES - size + 1)
        session.run(None, {"image": images[start : start + size]})
        done += size
    return done / taken


if __name__ == "__main__":
    main()
