import socket

import torch

from shoal.train.gloo import MeetingPlace, Solo, group_environment, join_group


def test_a_group_of_one_needs_no_connection():
    group = join_group(port=0, generation=0, rank=0, size=1)
    received = torch.zeros(3, dtype=torch.uint8)

    group.exchange(torch.tensor([1, 2, 3], dtype=torch.uint8), [received])

    assert isinstance(group, Solo)
    assert received.tolist() == [1, 2, 3]


def test_the_meeting_place_listens():
    place = MeetingPlace()

    with socket.create_connection(("127.0.0.1", place.port), timeout=5):
        pass


def test_gloo_is_kept_on_the_loopback_interface():
    (name,) = group_environment().values()

    assert name in {"lo", "lo0"}
    assert name in {interface for _, interface in socket.if_nameindex()}
