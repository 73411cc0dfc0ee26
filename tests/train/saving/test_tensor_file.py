import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import CorruptError, UnsupportedError
from shoal.train.saving import tensor_file
from shoal.train.saving.tensor_file import TensorFile, read_tensors

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int8, torch.bool]


def bits(tensor):
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().view(-1).view(torch.uint8).tolist()


def write(tensors, metadata=None):
    file = TensorFile.of(tensors, metadata or {})
    data = torch.full((file.size_bytes,), 255, dtype=torch.uint8)
    file.write(data)
    return data


@st.composite
def many_tensors(draw):
    shapes = st.lists(st.integers(0, 4), max_size=3)
    kinds = draw(st.lists(st.tuples(st.sampled_from(DTYPES), shapes), max_size=8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return {
        f"layer.{index}": torch.randint(0, 100, shape, generator=generator).to(dtype)
        for index, (dtype, shape) in enumerate(kinds)
    }


@given(many_tensors())
def test_tensors_come_back_with_all_their_bits(tensors):
    data = write(tensors, {"tree": "{}"})

    again, metadata, end = read_tensors(torch.cat([data, torch.zeros(10, dtype=torch.uint8)]))

    assert {name: bits(tensor) for name, tensor in again.items()} == {name: bits(t) for name, t in tensors.items()}
    assert metadata == {"tree": "{}"}
    assert end == len(data)


@given(many_tensors())
def test_the_library_reads_it_too(tensors):
    again = safetensors.torch.load(write(tensors, {"format": "pt"}).numpy().tobytes())

    assert {name: bits(tensor) for name, tensor in again.items()} == {name: bits(t) for name, t in tensors.items()}


@pytest.mark.parametrize("small_bytes", [0, 1 << 30])
def test_tensors_may_lie_in_memory_as_they_like(monkeypatch, small_bytes):
    monkeypatch.setattr(tensor_file, "_SMALL_BYTES", small_bytes)
    base = torch.arange(24.0)
    tensors = {
        "turned": base.view(4, 6).t(),
        "spread": base[::3],
        "last": torch.randn(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "turned sign": torch.complex(torch.zeros(2), torch.ones(2)).conj().imag,
        "conjugate": torch.complex(torch.zeros(2), torch.ones(2)).conj(),
    }

    again, _, _ = read_tensors(write(tensors))

    assert {name: bits(tensor) for name, tensor in again.items()} == {
        name: bits(tensor.resolve_conj().resolve_neg().clone()) for name, tensor in tensors.items()
    }


def test_equal_tensors_give_equal_bytes():
    assert torch.equal(write({"a": torch.ones(3), "b": torch.ones(2)}), write({"a": torch.ones(3), "b": torch.ones(2)}))


@pytest.mark.parametrize("tensor", [torch.zeros(2, dtype=torch.complex128), torch.eye(3).to_sparse()])
def test_what_the_format_cannot_hold_is_named(tensor):
    with pytest.raises(UnsupportedError, match=r"layer\.7"):
        TensorFile.of({"layer.7": tensor}, {})


@given(st.data())
def test_other_bytes_are_refused_and_never_crash(data):
    good = write({"a": torch.arange(10), "b": torch.ones(3, dtype=torch.bool)}, {"x": "y"})
    cut = data.draw(st.integers(0, len(good) - 1))
    flipped = good.clone()
    flipped[data.draw(st.integers(0, 7))] ^= data.draw(st.integers(1, 255))

    for bad in (good[:cut], flipped):
        with pytest.raises(CorruptError):
            read_tensors(bad)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'{"a":1}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}',
        b'{"a":{"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}',
        b'{"a":{"dtype":"F32","shape":[9000000000],"data_offsets":[0,36000000000]}}',
        b'{"__metadata__":3}',
    ],
)
def test_a_header_that_lies_is_refused(header):
    header += b" " * (-(len(header) + 8) % 64)
    data = bytearray(len(header).to_bytes(8, "little") + header + bytes(16))

    with pytest.raises(CorruptError):
        read_tensors(torch.frombuffer(data, dtype=torch.uint8))
