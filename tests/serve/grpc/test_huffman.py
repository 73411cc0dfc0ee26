import contextlib

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.grpc.huffman import decode_huffman

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def test_every_symbol_is_read():
    symbols = bytes(range(256))

    assert decode_huffman(ENCODER.encode(symbols)) == symbols


@given(st.binary(max_size=200))
def test_any_text_is_read_as_another_implementation_wrote_it(text):
    assert decode_huffman(ENCODER.encode(text)) == text


@pytest.mark.parametrize(
    "coded",
    [
        b"\xff\xff\xff\xff",  # the end symbol itself
        b"\x1f\xff",  # "a", then eleven bits of padding
        b"\x18",  # "a", then padding of zeros
        b"\xff",  # eight bits of padding
    ],
)
def test_what_is_no_code_is_refused(coded):
    with pytest.raises(ValueError, match="Huffman"):
        decode_huffman(coded)


@given(st.binary(max_size=60))
def test_garbage_is_read_or_refused(coded):
    with contextlib.suppress(ValueError):
        decode_huffman(coded)
