"""Ray Train with two workers on this machine: `training_ray.py DATA BATCH_SIZE STEPS`."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
sys.path.insert(0, str(Path(__file__).parent))

import ray
import ray.train
import ray.train.torch


def work(config: dict) -> None:
    """One worker's loop."""
    import torch
    import torch.nn.functional as F
    from training_workload import Net, Order, StepClock, batches, make_optimizer

    torch.set_num_threads(1)
    order = Order(Path(config["data"]), config["batch_size"], config["steps"])
    context = ray.train.get_context()
    settings = {"gradient_as_bucket_view": True, "static_graph": True}
    model = ray.train.torch.prepare_model(Net(), parallel_strategy_kwargs=settings)
    optimizer = make_optimizer(model.parameters())
    clock = StepClock(order, context.get_world_rank(), began=config["began"])
    for images, labels in batches(order, context.get_world_rank(), context.get_world_size()):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        clock.step()
    if context.get_world_rank() == 0:
        ends = clock.ends
        rate = (len(ends) - 5) * order.batch_size / (ends[-1] - ends[4])
        Path(config["result"]).write_text(json.dumps({"samples_per_s": rate, "start_s": ends[0] - config["began"]}))


def main() -> None:
    """Train and print the JSON line."""
    began = time.time()
    data, batch_size, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    variables = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    with tempfile.TemporaryDirectory() as folder:
        result = f"{folder}/result.json"
        config = {"data": data, "batch_size": batch_size, "steps": steps, "began": began, "result": result}
        ray.train.torch.TorchTrainer(
            work,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(storage_path=folder),
        ).fit()
        print(Path(result).read_text())
    ray.shutdown()


if __name__ == "__main__":
    main()
