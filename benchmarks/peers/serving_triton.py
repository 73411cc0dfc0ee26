"""Triton through pytriton, dynamic batching: `serving_triton.py PORT GRPC_PORT METRICS_PORT INSTANCES`."""

import logging
import os
import sys
from pathlib import Path

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy, Tensor, TimeoutAction
from pytriton.triton import Triton, TritonConfig
from serving_session import MOST_ROWS, SIDE, open_session, target_s


class Instance:
    """One of the model's instances: it runs in this process, and ONNX Runtime lets go of the interpreter."""

    def __init__(self) -> None:
        self._session = open_session()

    @batch
    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """From uint8 [rows, 28, 28] to scores float32 [rows, 10]."""
        return self._session.run(None, {"image": image})


def _batcher() -> DynamicBatcher:
    """Batches form while the instances are busy: nobody waits for company. What has waited for too long is refused."""
    if not target_s():
        return DynamicBatcher()
    timeout_us = int(1e6 * target_s() / 2)
    policy = QueuePolicy(timeout_action=TimeoutAction.REJECT, default_timeout_microseconds=timeout_us)
    return DynamicBatcher(default_queue_policy=policy)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(sys.argv[1]),
        grpc_address="127.0.0.1",
        grpc_port=int(sys.argv[2]),
        metrics_port=int(sys.argv[3]),
    )
    # It copies itself here, and leaves that behind when it is killed; the benchmark ends with the folder's removal.
    workspace = Path(os.environ["BENCH_MODEL"]).parent / f"triton-{sys.argv[1]}"
    with Triton(config=config, workspace=workspace) as triton:
        triton.bind(
            "model",
            [Instance() for _ in range(int(sys.argv[4]))],
            inputs=[Tensor(name="image", dtype=np.uint8, shape=(SIDE, SIDE))],
            outputs=[Tensor(name="scores", dtype=np.float32, shape=(10,))],
            config=ModelConfig(max_batch_size=MOST_ROWS, batcher=_batcher()),
        )
        triton.serve()
