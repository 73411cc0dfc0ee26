"""What the servers of all peers share: the model in ONNX Runtime with one thread, and the checks of a request.

A request is `{"image": [784 integers]}` or the 784 bytes themselves, and is answered in the same form. Servers run in
their peers' own environment, so this file needs NumPy, ONNX Runtime and orjson alone.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIDE = 28
PIXELS = SIDE * SIDE
MOST_ROWS = 32  # of a batch; beyond it the model gains nothing
NUM_WORKERS = 2


class BadRequestError(ValueError):
    """A body that is no image; the text says why."""


def target_s() -> float:
    """Seconds that an answer may take before it is no good any more; 0 where nothing is said about that.

    Where it is given, more requests come than can be answered, and a server does what it can to refuse the rest.
    """
    return float(os.environ.get("BENCH_TARGET_S", "0"))


def open_session() -> "InferenceSession":
    """Open the model that BENCH_MODEL names, for one thread: there is a worker for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])


def run(session: "InferenceSession", images: Sequence[np.ndarray]) -> np.ndarray:
    """From uint8 [28, 28] each to scores float32 [rows, 10]."""
    return session.run(None, {"image": np.stack(images)})[0]


def parse(body: bytes) -> tuple[bool, np.ndarray]:
    """Return whether the body is raw, and the image, uint8 [28, 28].

    Raises:
        BadRequestError: it is neither 784 bytes nor JSON with 784 integers from 0 to 255.
    """
    if len(body) == PIXELS:
        return True, np.frombuffer(body, np.uint8).reshape(SIDE, SIDE)
    import orjson

    try:
        return False, as_image(orjson.loads(body)["image"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise BadRequestError('expected {"image": [784 integers]}') from error


def as_image(numbers: Sequence[int]) -> np.ndarray:
    """Numbers as uint8 [28, 28]. `bytes` checks type and range, faster than NumPy would.

    Raises:
        BadRequestError: they are not 784 integers from 0 to 255.
    """
    try:
        pixels = bytes(numbers)
    except (TypeError, ValueError) as error:
        raise BadRequestError(str(error)) from error
    if not isinstance(numbers, list) or len(pixels) != PIXELS:
        raise BadRequestError(f"expected {PIXELS} integers, found {len(pixels)}")
    return np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE)


def answer(is_raw: bool, scores: np.ndarray) -> bytes:
    """The scores of one image, float32 [10], in the form of its request."""
    if is_raw:
        return scores.tobytes()
    import orjson

    return orjson.dumps({"scores": scores}, option=orjson.OPT_SERIALIZE_NUMPY)
