import numpy as np
import pytest

from shoal.base import powers_of_ten


def test_each_power_has_its_first_bits():
    powers = powers_of_ten()

    assert powers.shape == (129, 2)
    assert powers.dtype == np.uint64
    # 10**0 and 10**1 without the powers of two in them: 1 and 1.25, the leading bit first.
    assert powers[64].tolist() == [1 << 63, 0]
    assert powers[65].tolist() == [0b101 << 61, 0]


@pytest.mark.parametrize("power", [1, 5, 27, 28, 55, 64])
def test_powers_above_one_are_cut_off(power):
    high, low = (int(half) for half in powers_of_ten()[64 + power])
    exact = 5**power
    excess = exact.bit_length() - 128

    assert (high << 64) + low == (exact >> excess if excess > 0 else exact << -excess)


@pytest.mark.parametrize("power", [1, 5, 27, 28, 55, 64])
def test_powers_below_one_are_rounded_up_while_they_fit_and_then_cut(power):
    high, low = (int(half) for half in powers_of_ten()[64 - power])
    significand = (high << 64) + low
    # The leading bit of 5**-power in 128 bits.
    exact = 1 << (5**power - 1).bit_length() + 127

    least = significand - 1 if power <= 27 else significand
    assert least * 5**power < exact <= (least + 1) * 5**power
