"""LitServe with two workers and dynamic batching: `serving_litserve.py PORT`. It takes JSON alone."""

import sys

import litserve
import numpy as np
from fastapi import HTTPException, Request
from serving_session import MOST_ROWS, NUM_WORKERS, BadRequestError, as_image, open_session, target_s


class Predict(litserve.LitAPI):
    """Decodes in the workers, where there are two of them."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - its interface
        """In each worker."""
        self._session = open_session()

    def decode_request(self, request: Request) -> np.ndarray:
        """From the parsed JSON: with this annotation it reads the body, and hands over what it holds."""
        try:
            return as_image(request["image"])
        except (BadRequestError, KeyError, TypeError) as error:
            raise HTTPException(422, str(error)) from error

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """uint8 [rows, 28, 28]."""
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Scores float32 [rows, 10]."""
        return self._session.run(None, {"image": x})[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """One for each request."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        """As JSON."""
        return {"scores": output.tolist()}


if __name__ == "__main__":
    api = Predict(max_batch_size=MOST_ROWS, batch_timeout=0.001, api_path="/predict")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=NUM_WORKERS, fast_queue=True, timeout=target_s() or 30
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
        access_log=False,
    )
