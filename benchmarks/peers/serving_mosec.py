"""mosec, one stage of worker processes with dynamic batching: `serving_mosec.py PORT - - MOST_ROWS WORKERS`."""

import sys

import numpy as np
from mosec import Server, Worker
from mosec.errors import ValidationError
from serving_session import BadRequestError, answer, open_session, parse, run, target_s

Request = tuple[bool, np.ndarray]
# What it answered here at 32 connections, with the load generator beside it.
BEST_RATE_PER_S = 4_000


class Predict(Worker):
    """Parses in the workers as well: one stage costs less than two on two cores."""

    def __init__(self) -> None:
        super().__init__()
        self._session = open_session()

    def deserialize(self, data: bytes) -> Request:
        """One request's body."""
        try:
            return parse(data)
        except BadRequestError as error:
            raise ValidationError(str(error)) from error

    def forward(self, data: list[Request]) -> list[Request]:
        """One batch."""
        scores = run(self._session, [image for _, image in data])
        return [(is_raw, each) for (is_raw, _), each in zip(data, scores, strict=True)]

    def serialize(self, data: Request) -> bytes:
        """One answer's body."""
        return answer(*data)


if __name__ == "__main__":
    most_rows, num_workers = map(int, sys.argv[4:])
    # The server reads its options from the command line.
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", sys.argv[1], "--log-level", "error"]
    if target_s():
        # What waits for longer is dropped; and no more is let in than is answered in that time at the best of rates.
        capacity = int(BEST_RATE_PER_S * target_s())
        sys.argv += ["--timeout", str(int(1_000 * target_s())), "--capacity", str(capacity)]
    server = Server()
    # 1 ms is the shortest wait that it takes.
    server.append_worker(Predict, num=num_workers, max_batch_size=most_rows, max_wait_time=1, route="/predict")
    server.run()
