"""Ray Serve with two replicas and dynamic batching: `serving_ray.py PORT`."""

import os
import sys
import threading

# Read when Ray is imported. What its documentation recommends for throughput; and HAProxy in front of the replicas
# instead of its own proxy, with which it answered seven times as many requests here.
os.environ |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

import numpy as np
import ray
from ray import serve
from serving_session import MOST_ROWS, NUM_WORKERS, BadRequestError, answer, open_session, parse, run, target_s
from starlette.requests import Request
from starlette.responses import Response


# Replicas need not wait for one another's cores: they are given out as the load asks for them. Where too many requests
# come, what a replica cannot begin soon is refused.
@serve.deployment(
    num_replicas=NUM_WORKERS,
    max_ongoing_requests=MOST_ROWS if target_s() else 4 * MOST_ROWS,
    max_queued_requests=MOST_ROWS if target_s() else -1,
    ray_actor_options={"num_cpus": 0.5},
)
class Predict:
    """One replica."""

    def __init__(self) -> None:
        self._session = open_session()

    @serve.batch(max_batch_size=MOST_ROWS, batch_wait_timeout_s=0.001)
    async def scores(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """One batch."""
        return list(run(self._session, images))

    async def __call__(self, request: Request) -> Response:
        """One request."""
        try:
            is_raw, image = parse(await request.body())
        except BadRequestError as error:
            return Response(str(error), status_code=422)
        kind = "application/octet-stream" if is_raw else "application/json"
        return Response(answer(is_raw, await self.scores(image)), media_type=kind)


if __name__ == "__main__":
    names = ("BENCH_MODEL", "PYTHONPATH", "OMP_NUM_THREADS", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
    variables = {name: os.environ[name] for name in (*names, "BENCH_TARGET_S") if name in os.environ}
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Predict.bind(), route_prefix="/predict")
    threading.Event().wait()
