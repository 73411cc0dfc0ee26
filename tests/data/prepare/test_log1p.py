import numpy as np
import pytest

from shoal.base import InputError
from shoal.data.prepare import Clip, Impute, Log1p


def test_it_is_the_logarithm_of_one_more(fit_one, run_graph):
    tiny = np.float32(2.0) ** -np.arange(1, 140, dtype=np.float32)
    values = np.concatenate([tiny, -tiny, [0, 1, 1e30, np.inf], np.random.default_rng(0).lognormal(0, 8, 100_000)])
    batch = {"x": values.astype(np.float32)}
    fitted = fit_one([Log1p()], batch["x"])

    mine, theirs = fitted.apply(batch)["x"], run_graph(fitted, batch)["x"]

    np.testing.assert_allclose(mine, np.log1p(batch["x"].astype(np.float64)), rtol=1e-7)
    # Two logarithms of float64 may round to neighbouring float32: once in some 10**8 values.
    np.testing.assert_array_max_ulp(mine, theirs, maxulp=1)
    assert (mine != theirs).mean() < 1e-4


def test_a_value_without_a_logarithm_is_refused_by_name(fit_one):
    with pytest.raises(InputError, match=r"cannot prepare column 'x': there is no logarithm of 1 . -1.*Clip"):
        fit_one([Log1p()], np.array([1.0])).apply({"x": np.array([-1.0])})


def test_what_is_missing_does_not_count(fit_one, assert_same_bits):
    values, mask = np.array([-9.0, 0.0, 1.0]), np.array([False, True, True])

    fitted = fit_one([Log1p(), Impute("constant", 5.0)], values, mask)

    assert assert_same_bits(fitted, {"x": values, "x_mask": mask})["x"][0] == 5


def test_clipping_before_it_helps(fit_one, assert_same_bits):
    values = np.array([-9.0, 3.0])

    assert assert_same_bits(fit_one([Clip(lower=0), Log1p()], values), {"x": values})["x"][0] == 0
