"""BentoML with two workers and adaptive batching: `serving_bentoml.py PORT`. It takes JSON alone."""

import os
import sys
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape
from serving_session import MOST_ROWS, NUM_WORKERS, PIXELS, SIDE, open_session, target_s

Images = Annotated[np.ndarray, DType("uint8"), Shape((-1, PIXELS))]


# Its own limit of latency stays at its default where nothing is said about latency: with a shorter one it refuses what
# it could have answered.
MOST_LATENCY_MS = int(1_000 * target_s()) or 60_000


@bentoml.service(workers=NUM_WORKERS, logging={"access": {"enabled": False}})
class Predict:
    """Rows of 784 numbers; those of several requests run together."""

    def __init__(self) -> None:
        self._session = open_session()

    @bentoml.api(batchable=True, max_batch_size=MOST_ROWS, max_latency_ms=MOST_LATENCY_MS, route="/predict")
    def predict(self, image: Images) -> np.ndarray:
        """Scores float32 [rows, 10]."""
        return self._session.run(None, {"image": image.reshape(-1, SIDE, SIDE)})[0]


if __name__ == "__main__":
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    command = ["-m", "bentoml", "serve", "serving_bentoml:Predict", "--host", "127.0.0.1", "--port", sys.argv[1]]
    os.execv(sys.executable, [sys.executable, *command, "--quiet"])
