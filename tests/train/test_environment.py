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


def test_a_worker_s_device_is_described(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)

    before = describe_environment(torch.device("cpu"))
    now = describe_environment(torch.device("cuda", 0))

    assert differences(before, now) == [
        "cuda was not recorded, is 13.0",
        "cudnn was not recorded, is 91002",
        "device was cpu, is cuda, NVIDIA H100",
    ]
