"""Ray Data: `map_batches` with an actor for each worker, from Parquet to Parquet.

`predict_ray.py MODEL FOLDER OUT BATCH_SIZE ACTORS`.
"""

import os
import sys

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

import numpy as np
import onnxruntime
import ray

SIDE = 28
STORE_BYTES = 1 << 30


class Predict:
    """One actor."""

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One batch: ids and images to ids and scores."""
        pixels = np.stack(batch["image"]).reshape(-1, SIDE, SIDE)
        return {"id": batch["id"], "scores": self._session.run(None, {"image": pixels})[0]}


def main() -> None:
    """Predict all files of a folder."""
    model, folder, out, batch_size, actors = sys.argv[1:]
    # One more core on paper than there are actors: reading and writing are tasks of their own, which else would wait
    # for ever.
    ray.init(
        "local",
        num_cpus=int(actors) + 1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=STORE_BYTES,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.read_parquet(folder).map_batches(
        Predict,
        fn_constructor_args=(model,),
        batch_size=int(batch_size),
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=int(actors)),
    )
    rows.write_parquet(out)


if __name__ == "__main__":
    main()
