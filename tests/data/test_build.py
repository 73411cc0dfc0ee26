"""The compiled part is built where there is a compiler, and left out where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # builds


@pytest.mark.parametrize(("compiler", "is_built"), [("/bin/false", False), (None, True)])
def test_building_succeeds_with_and_without_a_compiler(tmp_path: Path, compiler: str | None, is_built: bool) -> None:
    environment = {**os.environ, **({"CC": compiler} if compiler else {})}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path]

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    if is_built and "error: command" in done.stderr:
        pytest.skip("this machine has no compiler")
    assert done.returncode == 0, done.stderr
    assert bool(list(tmp_path.rglob("_native*.so"))) is is_built


def test_without_the_compiled_part_a_loader_gives_the_same_batches_and_says_it_is_slower(tmp_path: Path) -> None:
    program = """
import sys
if sys.argv[1] == "pure":
    sys.modules["shoal.data._native"] = None
import numpy as np
import shoal.data
rows = {"image": np.random.default_rng(0).integers(0, 256, (500, 7), dtype=np.uint8),
        "name": np.array([f"row {i}" for i in range(500)], object)}
dataset = shoal.data.ingest(rows, sys.argv[2], num_shards=5)
for batch in dataset.loader(batch_size=64, shuffle=True, format="numpy"):
    print(batch["image"].tobytes().hex(), batch["name"].tolist())
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", program, kind, tmp_path / "rows"], capture_output=True, text=True, check=True
        )
        for kind in ("pure", "native")
    ]

    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stderr.count("run without their compiled part") == 1
