from contextlib import nullcontext

import torch

from shoal.train.random_streams import seed_generators, stream_seed


def test_neighbours_get_streams_of_their_own():
    seeds = {stream_seed(seed, step, part) for seed in range(4) for step in range(16) for part in range(16)}

    assert len(seeds) == 4 * 16 * 16


def test_a_stream_is_the_same_for_ever():
    assert stream_seed(3, 5, 7) == stream_seed(3, 5, 7)
    assert stream_seed(3 + (1 << 64), 5, 7) == stream_seed(3, 5, 7)


def test_a_stream_begins_on_the_cpu_and_on_the_worker_s_device(monkeypatch):
    seeded, devices = [], []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    monkeypatch.setattr(torch.cuda, "device", lambda device: devices.append(device) or nullcontext())

    seed_generators(5, [torch.device("cpu")])
    drawn = torch.rand(3)
    seed_generators(5, [torch.device("cuda", 1)])

    assert torch.equal(torch.rand(3), drawn)
    assert (seeded, devices) == ([5], [torch.device("cuda", 1)])
