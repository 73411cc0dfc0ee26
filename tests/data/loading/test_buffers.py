import weakref
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data.loading.buffers import Buffers

BYTE = np.dtype(np.uint8)


def address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def test_an_array_that_nobody_holds_is_used_again() -> None:
    buffers = Buffers()

    first = address(buffers.take("x", (100, 3), BYTE))

    assert address(buffers.take("x", (100, 3), BYTE)) == first


def test_a_view_keeps_an_array_from_being_used_again() -> None:
    buffers = Buffers()
    views = [
        buffers.take("x", (100,), BYTE)[3:5].reshape(2, 1),
        memoryview(buffers.take("x", (100,), BYTE)),
        pa.py_buffer(buffers.take("x", (100,), BYTE)),
    ]

    fresh = buffers.take("x", (100,), BYTE)

    assert address(fresh) not in {address(np.asarray(view).base if index == 0 else np.frombuffer(view, BYTE))
                                  for index, view in enumerate(views)}  # fmt: skip


@pytest.mark.slow  # importing torch takes seconds
def test_a_tensor_keeps_an_array_even_when_only_a_view_of_it_is_left() -> None:
    torch = pytest.importorskip("torch")
    buffers = Buffers()
    tensor = torch.from_numpy(buffers.take("x", (100,), BYTE))
    tensor[:] = 7
    view = tensor[10:20]
    del tensor

    buffers.take("x", (100,), BYTE)[:] = 0

    assert view.tolist() == [7] * 10


def foreign(num_bytes: int) -> np.ndarray:
    """Memory that belongs to something else than an array, as pinned memory belongs to a tensor."""
    return np.frombuffer(bytearray(num_bytes), np.uint8)


KEEPERS = [
    lambda array: array,
    lambda array: array[2:5],
    lambda array: array.reshape(-1).view(np.uint8)[1:],
    lambda array: memoryview(array)[1:2],
    lambda array: pa.py_buffer(array),
    lambda array: pa.Array.from_buffers(pa.uint8(), 2, [None, pa.py_buffer(array)]).slice(1),
    lambda array: np.lib.stride_tricks.as_strided(array, (1, 1), (0, 0)),
]


def content(kept: object) -> bytes:
    return kept.to_numpy().tobytes() if isinstance(kept, pa.Array) else bytes(memoryview(kept))  # type: ignore[arg-type]


@pytest.mark.parametrize("buffers", [Buffers, lambda: Buffers(foreign)], ids=["own", "foreign"])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_whatever_is_kept_of_an_array_never_changes(buffers: Callable[[], Buffers], data: st.DataObject) -> None:
    made, kept = buffers(), []
    for number in range(data.draw(st.integers(2, 14))):
        taken = made.take("x", (8,), BYTE) if data.draw(st.booleans()) else made.take_bytes("y", 6 + number % 3)
        taken[:] = number
        if (keep := data.draw(st.none() | st.sampled_from(KEEPERS))) is not None:
            held = keep(taken)
            kept.append((held, content(held)))
        del taken

        assert all(content(held) == expected for held, expected in kept)


def test_nothing_is_used_again_where_nothing_is_kept() -> None:
    buffers, freed = Buffers(foreign, num_kept=0), []

    taken = [buffers.take("x", (8,), BYTE), buffers.take_bytes("y", 8)]
    for array in taken:
        weakref.finalize(array.base, freed.append, True)
    del array
    taken.clear()

    assert freed == [True, True]


def test_memory_of_another_kind_is_used_again_too() -> None:
    buffers = Buffers(foreign)
    first = address(buffers.take("x", (4, 2), np.dtype(np.float32)))

    again = buffers.take("x", (4, 2), np.dtype(np.float32))

    assert address(again) == first
    assert (again.shape, again.dtype) == ((4, 2), np.float32)


def test_two_names_never_share_an_array() -> None:
    buffers = Buffers()

    assert address(buffers.take("x", (100,), BYTE)) != address(buffers.take("y", (100,), BYTE))


def test_bytes_are_cut_from_an_array_that_may_be_larger() -> None:
    buffers = Buffers()
    large = address(buffers.take_bytes("x", 1_000))

    small = buffers.take_bytes("x", 10)
    other = buffers.take_bytes("x", 10)

    assert address(small) == large != address(other)
    assert (len(small), len(other)) == (10, 10)


def test_what_the_caller_keeps_is_not_kept_here() -> None:
    buffers, made = Buffers(), []

    held = [buffers.take("x", (10,), BYTE) for _ in range(50)]
    made = [len(ring) for ring in buffers._rings.values()]

    assert made == [5]
    assert len({address(array) for array in held}) == 50
