import pytest

from shoal.serve.grpc import frames
from shoal.serve.grpc.blocks import Block, BlockReader
from shoal.serve.grpc.frames import BrokenError, Code


def test_a_block_in_one_frame_is_whole():
    blocks = BlockReader()

    whole = blocks.begin(frames.END_HEADERS | frames.END_STREAM, 1, b"block")

    assert whole == Block(1, frames.END_HEADERS | frames.END_STREAM, b"block")
    assert not blocks.stream


def test_pieces_are_joined_without_padding_and_priority():
    blocks = BlockReader()

    first = blocks.begin(frames.PADDED | frames.PRIORITIZED, 3, b"\x02" + bytes(5) + b"bl" + bytes(2))
    second = blocks.go_on(0, 3, b"o")
    stream = blocks.stream
    whole = blocks.go_on(frames.END_HEADERS, 3, b"ck")

    assert (first, second, stream) == (None, None, 3)
    assert (whole.stream, whole.data) == (3, b"block")
    assert not blocks.stream


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda blocks: blocks.begin(0, 0, b""), Code.PROTOCOL_ERROR),
        (lambda blocks: blocks.begin(0, 2, b""), Code.PROTOCOL_ERROR),
        (lambda blocks: blocks.begin(frames.PRIORITIZED, 1, b"1234"), Code.FRAME_SIZE_ERROR),
        (lambda blocks: blocks.go_on(0, 1, b""), Code.PROTOCOL_ERROR),
        (lambda blocks: [blocks.begin(0, 1, b"")] + [blocks.go_on(0, 1, b"")] * 2 + [blocks.go_on(0, 3, b"")], None),
    ],
)
def test_what_is_no_block_is_an_error(work, code):
    with pytest.raises(BrokenError) as caught:
        work(BlockReader())

    assert code in (None, caught.value.code)


@pytest.mark.parametrize("piece", [b"", bytes(4 << 10)])
def test_a_block_has_an_end(piece):
    blocks = BlockReader()
    blocks.begin(0, 1, b"")

    def go_on_for_ever():
        while True:
            blocks.go_on(0, 1, piece)

    with pytest.raises(BrokenError) as caught:
        go_on_for_ever()

    assert caught.value.code == Code.ENHANCE_YOUR_CALM
