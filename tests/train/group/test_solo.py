import torch

from shoal.train.group.solo import Solo


def test_what_one_brings_is_what_all_bring():
    group = Solo()
    memory = group.memory(64)
    memory.fill_(3)

    result, notes = group.combine(64, None, note=5)

    assert result.data_ptr() == memory.data_ptr() == group.memory(64).data_ptr()
    assert notes == [5]
    assert group.share(b"abc") == [b"abc"]
    assert group.broadcast(torch.ones(2), 0).tolist() == [1, 1]
    group.close()
    group.close()


def test_memory_is_where_the_member_computes():
    assert Solo(torch.device("meta")).memory(64).device.type == "meta"
