import subprocess
import sys

import pytest

from shoal.train.light_torch import without_compiler

PROGRAM = """
import sys
import torch
from shoal.train.light_torch import without_compiler

module = torch.nn.Linear(2, 1)
with without_compiler():
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo.eval_frame" not in sys.modules, "the compiler was loaded"
with without_compiler():
    compiled = torch.compile(module, backend="eager")
assert torch.equal(compiled(torch.ones(1, 2)), module(torch.ones(1, 2)))
import torch._dynamo.config
assert torch._dynamo.config is torch._dynamo.eval_frame.config, "a part of the compiler was loaded twice"
with without_compiler():
    optimizer.step()
"""


@pytest.mark.slow
def test_the_compiler_is_loaded_once_and_only_when_something_compiles():
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_the_stand_in_leaves_no_trace():
    before = sys.modules.get("torch._dynamo")

    with without_compiler():
        pass

    assert sys.modules.get("torch._dynamo") is before
