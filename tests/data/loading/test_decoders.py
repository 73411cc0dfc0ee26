import io
import os
import signal
import threading

import numpy as np
import pytest

from shoal.base import ConfigError, InputError
from shoal.data import Column, Schema
from shoal.data.loading.decoders import Decoders, PoolSize
from shoal.data.loading.packed import pack

SCHEMA = Schema((Column(name="image", dtype="binary"), Column(name="label", dtype="int64")))


def png(pixels: np.ndarray) -> bytes:
    image = pytest.importorskip("PIL.Image")
    sink = io.BytesIO()
    image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def batch_of(samples: list[bytes]) -> dict[str, object]:
    return {"image": pack(samples, SCHEMA["image"]), "label": np.arange(len(samples))}


def test_images_of_one_size_become_one_array() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)

    batch = Decoders({"image": "png"}, SCHEMA).apply(batch_of([png(each) for each in pixels]))

    assert np.array_equal(batch["image"], pixels)
    assert batch["label"].tolist() == list(range(9))


def test_images_of_several_sizes_stay_a_list() -> None:
    pixels = [np.zeros((4, 5), np.uint8), np.ones((6, 5), np.uint8)]

    batch = Decoders({"image": "png"}, SCHEMA).apply(batch_of([png(each) for each in pixels]))

    assert [each.shape for each in batch["image"]] == [(4, 5), (6, 5)]


def test_a_sample_that_is_damaged_or_of_another_format_is_named() -> None:
    samples = [png(np.zeros((2, 2), np.uint8)), b"no image"]

    with pytest.raises(InputError, match="row 1 of a batch, column 'image': 8 bytes"):
        Decoders({"image": "png"}, SCHEMA).apply(batch_of(samples))
    with pytest.raises(InputError, match="row 0 of a batch"):
        Decoders({"image": "jpeg"}, SCHEMA).apply(batch_of(samples))


def test_a_function_decodes_in_order_on_any_number_of_threads() -> None:
    samples = [bytes([index]) * 3 for index in range(50)]
    decoders = Decoders({"image": lambda content: np.frombuffer(content, np.uint8)}, SCHEMA, max_threads=4)
    decoders.pool_size.size, decoders.pool_size.is_settled = 4, True

    batch = decoders.apply(batch_of(samples))

    assert batch["image"][:, 0].tolist() == list(range(50))


def test_a_batch_without_rows_is_an_empty_array_like_the_others() -> None:
    decoders = Decoders({"image": lambda content: np.frombuffer(content, np.uint16)}, SCHEMA)

    unknown = decoders.apply(batch_of([]))["image"]
    decoders.apply(batch_of([b"abcd"]))
    known = decoders.apply(batch_of([]))["image"]

    assert unknown.shape == (0,)
    assert (known.shape, known.dtype) == ((0, 2), np.uint16)


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_decodes_with_threads_of_its_own() -> None:
    decoders = Decoders({"image": lambda content: np.frombuffer(content, np.uint8)}, SCHEMA, max_threads=2)
    decoders.pool_size.size, decoders.pool_size.is_settled = 2, True
    decoders.apply(batch_of([b"a", b"b"]))

    with decoders._lock:  # as if a thread were just using it
        child = os.fork()
        if not child:
            signal.alarm(20)
            os._exit(int(decoders.apply(batch_of([b"a", b"b"]))["image"].tolist() != [[97], [98]]))

    assert os.waitpid(child, 0)[1] == 0


def test_an_error_in_a_thread_is_not_lost() -> None:
    def decode(content: bytes) -> np.ndarray:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("not here")
        return np.zeros(1)

    decoders = Decoders({"image": decode}, SCHEMA, max_threads=2)
    decoders.pool_size.size = 2

    with pytest.raises(InputError, match="not here"):
        decoders.apply(batch_of([b"a", b"b"]))


@pytest.mark.parametrize(
    ("speedups", "size"), [([1, 1.0], 1), ([1, 1.9, 3.5, 3.6], 4), ([1, 1.8, 3.4, 6.0], 8), ([1, 0.5], 1)]
)
def test_the_pool_grows_while_that_pays(speedups: list[float], size: int) -> None:
    pool = PoolSize(limit=8)

    for _ in range(30):
        pool.add(1 / speedups[pool.size.bit_length() - 1])

    assert pool.is_settled
    assert pool.size == size


@pytest.mark.parametrize(("decode", "words"), [({"label": "png"}, "expected blobs"), ({"image": "gif"}, "is unknown")])
def test_refuses_what_cannot_be_decoded(decode: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Decoders(decode, SCHEMA)  # type: ignore[arg-type]  # what a user may write
