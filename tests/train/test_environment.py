import torch

from shoal.train.environment import describe_environment, differences, set_threads


def test_nothing_differs_from_itself():
    assert differences(describe_environment(), describe_environment()) == []


def test_every_change_is_told():
    now = describe_environment()
    before = {**now, "instructions": "OTHER"}
    del before["threads"]

    assert differences(before, now) == [
        f"instructions was OTHER, is {now['instructions']}",
        f"threads was not recorded, is {now['threads']}",
    ]


def test_threads_are_set_and_described():
    before = torch.get_num_threads()
    try:
        set_threads(3)

        assert describe_environment()["threads"] == "3"
    finally:
        set_threads(before)
