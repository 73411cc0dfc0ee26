import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import ConfigError, InputError, UnsupportedError
from shoal.data import Dataset
from shoal.data.loading.buffers import Allocate, Buffers
from shoal.data.loading.formats import make_formatter
from shoal.data.loading.gather import RowGatherer, Stretch
from shoal.data.storage.shard import OpenBatch
from shoal.testing.columns import MIXED_SCHEMA, mixed_arrays


def test_numpy_batches_hold_text_as_objects_and_lists_packed() -> None:
    batch = make_formatter("numpy", MIXED_SCHEMA, {}, None, None)(mixed_arrays())

    assert batch["text"].tolist() == ["a", "", "übel"]
    assert batch["tags"].tolist() == [1, 2, 3]
    assert batch["tags_offsets"].tolist() == [0, 2, 2, 3]
    assert batch["when"].dtype == np.dtype("M8[us]")


def test_padding_names_where_rows_end() -> None:
    batch = make_formatter("numpy", MIXED_SCHEMA, {"tags": -1, "text": 0}, None, None)(mixed_arrays())

    assert batch["tags"].tolist() == [[1, 2], [-1, -1], [3, -1]]
    assert batch["tags_lengths"].tolist() == [2, 0, 1]
    assert bytes(batch["text"][0]) == b"a\0\0\0\0"
    assert "tags_offsets" not in batch


@pytest.mark.slow  # importing torch takes seconds
def test_tensors_hold_text_as_bytes_and_instants_as_microseconds() -> None:
    torch = pytest.importorskip("torch")

    batch = make_formatter("torch", MIXED_SCHEMA, {"tags": 0}, None, None)(mixed_arrays())

    assert bytes(batch["text"].numpy()) == "aübel".encode()
    assert batch["text_offsets"].tolist() == [0, 1, 1, 6]
    assert batch["tags"].tolist() == [[1, 2], [0, 0], [3, 0]]
    assert batch["when"].dtype == torch.int64


@pytest.mark.slow  # importing torch takes seconds
def test_a_transforms_own_tensors_and_objects_pass_through() -> None:
    torch = pytest.importorskip("torch")
    formatter = make_formatter("torch", MIXED_SCHEMA, {}, None, None)
    tensor, frozen = torch.ones(2), np.zeros(3)
    frozen.flags.writeable = False

    batch = formatter({"t": tensor, "names": np.array(["a", None], object), "frozen": frozen, "note": "kept",
                       "images": [np.zeros(2), np.zeros(3)], "day": np.array(["2026-01-01"], "M8[D]")})  # fmt: skip

    assert batch["t"] is tensor
    assert batch["names_offsets"].tolist() == [0, 1, 1]
    assert batch["note"] == "kept"
    assert [len(each) for each in batch["images"]] == [2, 3]
    assert batch["day"].dtype == torch.int64


@pytest.mark.slow  # importing torch takes seconds
def test_unusual_arrays_of_a_transform_become_tensors_or_are_named() -> None:
    pytest.importorskip("torch")
    formatter = make_formatter("torch", MIXED_SCHEMA, {}, None, None)
    numbers = np.arange(6, dtype=np.int32)

    batch = formatter({"back": numbers[::-1], "other": numbers.astype(">i4"), "words": np.array(["a", "üb"]),
                       "flipped": [numbers.reshape(2, 3)[:, ::-1]]})  # fmt: skip

    assert batch["back"].tolist() == [5, 4, 3, 2, 1, 0]
    assert batch["other"].tolist() == numbers.tolist()
    assert (bytes(batch["words"].numpy()), batch["words_offsets"].tolist()) == ("aüb".encode(), [0, 1, 4])
    assert batch["flipped"][0].tolist() == [[2, 1, 0], [5, 4, 3]]
    with pytest.raises(InputError, match="tensor of 'fields'"):
        formatter({"fields": np.zeros(2, [("a", int)])})


def test_arrays_that_may_not_be_written_to_are_copied() -> None:
    torch = pytest.importorskip("torch")
    fixed = [np.frombuffer(content, np.uint8) for content in (b"ab", b"c")]

    batch = make_formatter("torch", MIXED_SCHEMA, {}, None, None)(
        {"one": fixed[0], "ragged": fixed, "text": np.array(["a", "bb"], object)}
    )
    batch["one"][0] = batch["ragged"][0][0] = 0

    assert fixed[0].tolist() == [97, 98]
    assert torch.equal(batch["text"], torch.tensor([97, 98, 98], dtype=torch.uint8))


def foreign(num_bytes: int) -> np.ndarray:
    """Memory that belongs to something else than an array, as pinned memory belongs to a tensor."""
    return np.frombuffer(bytearray(num_bytes), np.uint8)


def leaves(batch: object) -> list[object]:
    """Return everything that a batch is made of, and parts of it that a caller may keep instead."""
    if isinstance(batch, pa.RecordBatch):
        arrays = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
        return [*(buffer for array in arrays for buffer in array.buffers() if buffer is not None)]
    values = [each for each in batch.values() if len(each)]  # type: ignore[attr-defined]  # a dict
    plain = [each for each in values if not (isinstance(each, np.ndarray) and each.dtype.hasobject)]
    return [
        *plain,
        *(each[1:] for each in plain),
        *(memoryview(np.asarray(each).reshape(-1).view(np.uint8)) for each in plain),
    ]


@pytest.mark.slow  # importing torch takes seconds
@pytest.mark.parametrize("memory", [None, foreign], ids=["own", "foreign"])
@pytest.mark.parametrize(("format", "pad"), [("torch", {}), ("torch", {"tags": 0}), ("numpy", {}), ("arrow", {})])
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=8)
def test_whatever_is_kept_of_a_batch_never_changes(
    gatherer: RowGatherer, format: str, pad: dict[str, int], memory: Allocate | None, seed: int
) -> None:
    formatter, rng, kept = make_formatter(format, MIXED_SCHEMA, pad, None, None), np.random.default_rng(seed), []
    formatter.buffers = Buffers(memory)
    for _ in range(12):
        rows = rng.integers(0, gatherer.num_rows, int(rng.integers(5, 8)))
        found = leaves(formatter(gatherer.gather(rows, formatter.buffers)))
        kept += [(found[index], np.asarray(found[index]).tobytes()) for index in rng.integers(0, len(found), 2)]
        del found

        assert all(np.asarray(part).tobytes() == expected for part, expected in kept)


@pytest.fixture(scope="module")
def gatherer() -> RowGatherer:
    rng, count = np.random.default_rng(0), 40
    columns = [
        pa.FixedShapeTensorArray.from_numpy_ndarray(rng.integers(0, 256, (count, 2, 2), dtype=np.uint8)),
        pa.array(rng.normal(size=count).astype(np.float32), mask=rng.random(count) < 0.3),
        pa.array([rng.bytes(int(rng.integers(0, 9))).hex() for _ in range(count)]),
        pa.array([rng.integers(0, 99, int(rng.integers(0, 5))).tolist() for _ in range(count)], pa.list_(pa.int16())),
        pa.array(rng.integers(0, 2**50, count), pa.timestamp("us")),
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=list(MIXED_SCHEMA.names))
    return RowGatherer([Stretch(lambda: OpenBatch(batch), 0, count)], MIXED_SCHEMA)


@pytest.mark.slow  # importing torch takes seconds
def test_a_device_that_is_not_there_is_refused() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")

    for options in ({"device": "cuda", "pin_memory": None}, {"device": None, "pin_memory": True}):
        with pytest.raises(UnsupportedError, match="needs CUDA"):
            make_formatter("torch", MIXED_SCHEMA, {}, **options)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_batches_reach_the_device_whole_through_pinned_memory(dataset: Dataset) -> None:
    if not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("this machine has no CUDA")
    loader = dataset.loader(batch_size=16, shuffle=True, device="cuda", columns=["image", "label"])
    plain = dataset.loader(batch_size=16, shuffle=True, columns=["image", "label"])

    for _ in range(5):
        for moved, expected in zip(loader, plain, strict=True):
            assert moved["image"].is_cuda
            assert moved["image"].cpu().equal(expected["image"])
            assert moved["label"].tolist() == expected["label"].tolist()


@pytest.mark.parametrize(
    ("format", "pad", "device", "words"),
    [
        ("numpy", {"image": 0}, None, "cannot pad 'image'"),
        ("numpy", {"absent": 0}, None, "cannot pad 'absent'"),
        ("arrow", {"tags": 0}, None, "cannot pad tags in Arrow"),
        ("numpy", {}, "cuda", "need tensors"),
    ],
)
def test_settings_that_contradict_are_refused(format: str, pad: dict[str, int], device: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_formatter(format, MIXED_SCHEMA, pad, device, None)  # type: ignore[arg-type]  # what a user may write
