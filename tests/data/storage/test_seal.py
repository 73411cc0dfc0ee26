import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import CorruptError, decode
from shoal.data.storage.seal import check_seal, sealed

FIELDS = {"version": 3, "name": "clicks", "shards": [1, 2]}


def test_what_was_sealed_passes_and_is_json() -> None:
    data = sealed(FIELDS)

    check_seal(data, "000003.json")

    said = decode(data)
    assert {name: said[name] for name in FIELDS} == FIELDS


@given(at=st.integers(0, len(sealed(FIELDS)) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_passes(at: int, bit: int) -> None:
    data = bytearray(sealed(FIELDS))
    data[at] ^= 1 << bit

    with pytest.raises(CorruptError, match=r"000003\.json was changed"):
        check_seal(bytes(data), "000003.json")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b" " + data])
def test_bytes_that_are_cut_off_or_added_are_found(change) -> None:
    with pytest.raises(CorruptError):
        check_seal(change(sealed(FIELDS)), "000003.json")


def test_text_that_was_never_sealed_is_refused() -> None:
    with pytest.raises(CorruptError, match="2 bytes"):
        check_seal(b"{}", "x")
