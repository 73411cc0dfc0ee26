import msgspec
import pytest

from shoal.train.reports import Beat, Diverged, Finished, Ready, Saved, Steps, Warm, from_message, to_message


@pytest.mark.parametrize(
    "report",
    [
        Steps(epoch=1, first_step=3, losses=[0.5, 0.25], rows=32, seconds=0.5, wait_s=0.1),
        Saved(step=4, path="/x", digest="b3:0"),
        Diverged(epoch=0, step=3, loss=float("inf")),
        Finished(step=9),
        Ready(generation=2, step=7, pause_s=None),
        Beat(step=7, phase="computing", for_s=0.5),
        Warm(warm_s=1.5),
    ],
)
def test_reports_survive_the_way_to_the_supervisor(report):
    message = msgspec.msgpack.decode(msgspec.msgpack.encode(to_message(report)))

    assert from_message(message) == report
