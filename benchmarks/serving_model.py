"""The model that every server serves, and what it takes by itself: `serving_model.py --help` prints that.

The network is that of `peers/training_workload.py`, two convolutions and two dense layers, with random weights.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIDE = 28
PIXELS = SIDE * SIDE
NUM_CLASSES = 10
BATCH_SIZES = (1, 8, 16, 32, 64)
RUNS_IN_TURN = 10

_GRAPH = """
    <ir_version: 9, opset_import: ["": 17]>
    cnn (uint8[n, 28, 28] image) => (float[n, 10] scores) {
        numbers = Cast <to = 1> (image)
        axis = Constant <value = int64[1] {1}> ()
        planes = Unsqueeze (numbers, axis)
        most = Constant <value = float {255.0}> ()
        pixels = Div (planes, most)
        first = Conv <kernel_shape = [3, 3]> (pixels, conv1_weight, conv1_bias)
        first_active = Relu (first)
        second = Conv <kernel_shape = [3, 3]> (first_active, conv2_weight, conv2_bias)
        second_active = Relu (second)
        pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (second_active)
        flat = Flatten (pooled)
        third = Gemm <transB = 1> (flat, dense1_weight, dense1_bias)
        third_active = Relu (third)
        scores = Gemm <transB = 1> (third_active, dense2_weight, dense2_bias)
    }
"""
_WEIGHTS = {"conv1": (32, 1, 3, 3), "conv2": (64, 32, 3, 3), "dense1": (128, 9216), "dense2": (NUM_CLASSES, 128)}


def make_model(path: Path) -> None:
    """Write the network, 1,199,882 weights of float32, as ONNX."""
    import onnx

    generator = np.random.default_rng(0)
    model = onnx.parser.parse_model(_GRAPH)
    for name, shape in _WEIGHTS.items():
        # He's scale keeps the scores of random weights near 1, where rounding shows neither too much nor too little.
        weight = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        for kind, values in (("weight", weight), ("bias", np.zeros(shape[0]))):
            tensor = onnx.numpy_helper.from_array(values.astype(np.float32), f"{name}_{kind}")
            model.graph.initializer.append(tensor)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def open_session(path: Path) -> "InferenceSession":
    """Open the model for one thread, as every replica does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def make_images(num_rows: int) -> np.ndarray:
    """Random images, all different: uint8 [num_rows, 28, 28]."""
    return np.random.default_rng(1).integers(0, 256, (num_rows, SIDE, SIDE), dtype=np.uint8)


def measure(path: Path, seconds: float, sizes: Sequence[int]) -> dict[int, float]:
    """Median milliseconds of a run by batch size, one after the other: the sizes in turn, several runs of each."""
    session, images = open_session(path), make_images(1_024)
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or not taken[sizes[-1]]:
        for size in sizes:
            # The first run finds the caches full of another size's rows, as no server of one size would.
            for number in range(RUNS_IN_TURN + 1):
                start = number * size
                began = time.perf_counter()
                session.run(None, {"image": images[start : start + size]})
                if number:
                    taken[size].append(1_000 * (time.perf_counter() - began))
    return {size: statistics.median(each) for size, each in taken.items()}


def measure_paced(path: Path, seconds: float, rate_per_s: float) -> float:
    """Median milliseconds of a run of one row, so many in a second: between them the process sleeps, as a replica does.

    A core that slept is slower at first, and its caches may hold what another process has left there. Each row is
    another one, as in a server.
    """
    session, images = open_session(path), make_images(1_024)
    taken: list[float] = []
    due = time.perf_counter()
    until = due + seconds
    while due < until:
        time.sleep(max(0.0, due - time.perf_counter()))
        at = len(taken) % len(images)
        began = time.perf_counter()
        session.run(None, {"image": images[at : at + 1]})
        taken.append(1_000 * (time.perf_counter() - began))
        due = max(due + 1 / rate_per_s, began)
    return statistics.median(taken)


def main() -> None:
    """Make the model and its right answer, or print the median milliseconds of a run by batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--make", action="store_true", help="write it, and print the scores of the first image")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--rate", type=float, help="runs of one row that begin in a second; else one after the other")
    given = parser.parse_args()
    if given.make:
        make_model(given.model)
        print(json.dumps(open_session(given.model).run(None, {"image": make_images(1)})[0][0].tolist()))
    elif given.rate:
        print(json.dumps({"1": measure_paced(given.model, given.seconds, given.rate)}))
    else:
        print(json.dumps({str(size): each for size, each in measure(given.model, given.seconds, given.sizes).items()}))


if __name__ == "__main__":
    main()
