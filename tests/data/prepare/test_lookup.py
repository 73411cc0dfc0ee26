import numpy as np
import pytest

from shoal.data.prepare import HashBucket, Preparation


@pytest.mark.parametrize("num_texts", [0, 1, 1_000])
def test_a_vocabulary_of_any_size_is_looked_up(assert_same_bits, num_texts):
    texts = tuple(f"text {index}" for index in range(num_texts))
    batch = {"x": np.array([*texts[:50], "unknown", ""], object)}
    fitted = Preparation({"x": [HashBucket(64, texts=texts)]}).fit([batch])

    found = assert_same_bits(fitted, batch)["x"]

    assert (found > 0).sum() == min(50, num_texts)
