import numpy as np

from shoal.serve.replicas.loading import load_model
from shoal.serve.replicas.randomness import draws_random_numbers


def test_an_operator_that_draws_is_seen(scorer, save_model):
    noise = save_model(
        "noise", [("RandomNormalLike", ["x"], ["n"], {}), ("Add", ["x", "n"], ["y"], {})], [("x", 1, ["n", 2])],
        [("y", 1, ["n", 2])],
    )  # fmt: skip

    assert draws_random_numbers(str(noise))
    assert not draws_random_numbers(str(scorer))
    assert not load_model(str(noise)).interface.deterministic
    assert load_model(str(scorer)).interface.deterministic


def test_a_package_is_looked_into(scorer, tmp_path):
    from shoal.model import package

    made = package(scorer, example={"image": np.zeros((2, 2, 2), np.uint8)}, path=tmp_path / "p")

    assert not draws_random_numbers(str(made.path))
