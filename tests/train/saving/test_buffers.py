import torch

from shoal.train.saving.buffers import make_buffer, touch


def test_a_buffer_has_its_size_and_can_be_written():
    buffer = make_buffer(100_001)

    touch(buffer)
    buffer[-1] = 7

    assert buffer.dtype == torch.uint8
    assert buffer.sum() == 7
    assert len(buffer) == 100_001


def test_an_empty_buffer_is_one():
    assert len(make_buffer(0)) == 0


def test_it_outlives_who_made_it():
    part = make_buffer(1 << 20)[100:200]

    part.fill_(3)

    assert int(part.sum()) == 300
