import asyncio
import json
import math
import time
from types import SimpleNamespace

import pytest

from shoal.base import NotFoundError, StorageFullError
from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.batching.inference import Inference
from shoal.serve.desk.connection import Exchange
from shoal.serve.links.channel import Failed, Key, Loaded
from shoal.serve.versions.cost import BatchCost
from shoal.serve.wire.http import Head
from shoal.serve.wire.refusal import RefusedError
from shoal.serve.wire.urgency import PLAIN, Urgency


def request(*pixels):
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": list(pixels)}]}


ONE = Key("m", "1")


def urgent(house, *pixels, level=3, timeout_s=math.inf):
    """Submit a request that says how urgent it is."""
    connection = SimpleNamespace(flush=lambda: None)
    exchange = Exchange(connection, Head("POST", "/", {}, keeps_alive=True, is_old=False), time.monotonic())
    call = house.served.protocol.decode(json.dumps(request(*pixels)).encode())
    deadline_s = exchange.started_s + timeout_s
    sent = Inference(exchange, call, "id", 10, None, runs_alone=False, level=level, deadline_s=deadline_s)
    house.dispatcher.submit(ONE, sent)
    return sent


def in_loop(test):
    """Run a coroutine function as a test."""

    def run(house):
        asyncio.run(test(house))

    run.__name__ = test.__name__
    return run


async def turn():
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def body_of(exchange):
    return json.loads(exchange.answered.partition(b"\r\n\r\n")[2])


@in_loop
async def test_requests_of_one_turn_share_a_batch_and_get_their_own_rows(house):
    link = house.link(1)

    exchanges = [house.ask(request(number, 0, 0, 0)) for number in range(3)]
    await turn()
    house.dispatcher.on_done(link, link.compute())

    assert [body_of(exchange)["outputs"][0]["data"] for exchange in exchanges] == [[0] * 3, [1] * 3, [2] * 3]
    assert house.metrics.of(Key("m", "1")).batch_rows.counts[2] == 1


@in_loop
async def test_prediction_ids_of_one_batch_follow_each_other(house):
    link = house.link(1)

    exchanges = [house.ask(request(1, 2, 3, 4)) for _ in range(2)]
    await turn()
    house.dispatcher.on_done(link, link.compute())

    ids = [body_of(exchange)["parameters"]["prediction_id"] for exchange in exchanges]
    assert [each.rpartition(".")[2] for each in ids] == ["0", "1"]
    assert all(each.startswith("m@1.") for each in ids)


@in_loop
async def test_batches_are_capped_by_half_the_latency_target(house):
    house.link(1)

    for _ in range(8):
        house.ask(request(0, 0, 0, 0))
    await turn()

    assert house.dispatcher.links[1].batch.num_rows == 5
    assert house.dispatcher.queue.num_rows == 3


@in_loop
async def test_a_replica_that_answered_gets_what_waited_meanwhile_at_once(house):
    link = house.link(1)
    house.ask(request(0, 0, 0, 0))
    await turn()
    late = house.ask(request(9, 0, 0, 0))

    house.dispatcher.on_done(link, link.compute())

    assert [each.exchange for each in link.batch.requests] == [late]


@in_loop
async def test_a_replica_that_has_said_nothing_for_long_is_asked_first(house):
    links = [house.link(1), house.link(2)]
    asked = []

    async def ask():
        house.ask(request(1, 1, 1, 1))
        await turn()
        (link,) = (link for link in links if link.batch is not None)
        asked.append(link.number)
        house.dispatcher.on_done(link, link.compute())

    # One client keeps one busy; the other is new, and then known to be well for a while.
    for _ in range(4):
        await ask()
    # As if it had been two seconds ago.
    house.dispatcher._heard_s[2] -= 2
    await ask()
    await ask()

    assert asked == [1, 2, 1, 1, 2, 1]


@in_loop
async def test_the_batch_of_a_dead_replica_goes_to_another(house):
    dying, living = house.link(1), None
    exchange = house.ask(request(1, 1, 1, 1))
    await turn()

    house.dispatcher.on_lost(dying)
    living = house.link(2)
    house.dispatcher.pump_soon()
    await turn()
    house.dispatcher.on_done(living, living.compute())

    assert exchange.answered_status == 200
    assert body_of(exchange)["outputs"][0]["data"] == [4, 4, 4]
    assert house.dispatcher.num_open == 0
    assert (house.metrics.replica_deaths, house.metrics.retried_requests) == (1, 1)


@in_loop
async def test_outputs_that_died_with_their_replica_are_computed_again(house):
    dying = house.link(1)
    exchange = house.ask(request(1, 1, 1, 1))
    await turn()
    done = dying.compute()

    def outputs(block, slots):
        raise NotFoundError("gone", next_step="ask again")

    dying.outputs = outputs
    house.dispatcher.on_done(dying, done)
    living = house.link(2)
    await turn()
    house.dispatcher.on_done(living, living.compute())

    assert exchange.answered_status == 200


@in_loop
async def test_a_request_that_kills_three_replicas_takes_no_other_with_it(house):
    deadly = request(6, 6, 6, 6)
    exchanges = [house.ask(deadly), house.ask(request(0, 0, 0, 1))]

    for number in range(6):
        link = house.link(number)
        house.dispatcher.pump_soon()
        await turn()
        if link.batch is None:
            break
        if any(each.call.arrays[0][0, 0, 0] == 6 for each in link.batch.requests):
            house.dispatcher.on_lost(link)
        else:
            house.dispatcher.on_done(link, link.compute())
            house.dispatcher.links.clear()

    assert [exchange.answered_status for exchange in exchanges] == [500, 200]
    assert "3 replicas died" in body_of(exchanges[0])["error"]
    assert house.dispatcher.num_open == 0


@in_loop
async def test_only_the_request_that_the_model_refuses_is_refused(house):
    link = house.link(1)
    exchanges = [house.ask(request(number, 0, 0, 0)) for number in range(3)]
    await turn()

    house.dispatcher.on_failed(link, Failed(link.batch.number, "index out of range", blames_input=True))
    for _ in range(3):
        await turn()
        if link.batch.requests[0].call.arrays[0][0, 0, 0] == 1:
            house.dispatcher.on_failed(link, Failed(link.batch.number, "index out of range", blames_input=True))
        else:
            house.dispatcher.on_done(link, link.compute())

    assert [exchange.answered_status for exchange in exchanges] == [200, 422, 200]
    assert "index out of range" in body_of(exchanges[1])["error"]


@in_loop
async def test_what_no_replica_takes_is_refused_in_the_end(house):
    exchange = house.ask(request(0, 0, 0, 0))

    house.dispatcher.expire(exchange.started_s + 1)

    assert exchange.answered_status == 503
    assert house.dispatcher.num_open == 0


@in_loop
async def test_a_full_queue_refuses_new_requests_and_keeps_the_old(house):
    for _ in range(20):
        house.ask(request(0, 0, 0, 0))

    with pytest.raises(RefusedError, match="20 requests are waiting"):
        house.ask(request(0, 0, 0, 0))

    assert house.dispatcher.num_open == 20


@in_loop
async def test_a_replica_at_work_is_heard_while_requests_come_in(house):
    at_work, idle = house.link(1), house.link(2)
    house.ask(request(0, 0, 0, 0))
    await asyncio.sleep(0)
    before = at_work.num_looks

    house.dispatcher._looked_s = 0.0
    house.ask(request(0, 0, 0, 0))

    assert at_work.num_looks == before + 1
    assert idle.num_looks == 0


@in_loop
async def test_a_large_body_is_refused_when_too_much_is_held_already(house):
    asked = house.ask(request(0, 0, 0, 0)).head
    head = Head(asked.method, asked.path, {b"content-length": b"100000"}, keeps_alive=True, is_old=False)

    with pytest.raises(RefusedError, match="bytes of requests are held"):
        house.desk.admit(head)


@in_loop
async def test_no_memory_for_a_batch_is_a_503_and_the_replica_stays_idle(house):
    link = house.link(1)

    def run(batch):
        raise StorageFullError("no room", next_step="make room")

    link.run = run
    exchange = house.ask(request(0, 0, 0, 0))
    await turn()

    assert exchange.answered_status == 503
    assert house.dispatcher.num_open == 0


@in_loop
async def test_a_mistake_of_ours_answers_the_batch_with_500(house):
    link = house.link(1)
    exchange = house.ask(request(0, 0, 0, 0))
    await turn()
    house.metrics.by_version = None

    house.dispatcher.on_done(link, link.compute())

    assert exchange.answered_status == 500


@in_loop
async def test_a_replica_that_is_at_its_batch_for_too_long_is_killed(house):
    stuck, idle = house.link(1), house.link(2)
    house.ask(request(0, 0, 0, 0))
    await turn()

    house.dispatcher.end_stuck(stuck.batch.deadline_s - 0.001)
    assert not stuck.is_killed
    house.dispatcher.end_stuck(stuck.batch.deadline_s)

    assert (stuck.is_killed, idle.is_killed) == (True, False)


@in_loop
async def test_a_slow_model_gets_ten_times_what_was_predicted(house):
    link = house.link(1)
    house.served.cost = BatchCost([(1, 100.0), (2, 200.0)])
    exchange = house.ask(request(0, 0, 0, 0))
    await turn()

    assert link.batch.deadline_s - exchange.started_s >= 1000


@in_loop
async def test_what_a_forgotten_version_cost_is_forgotten_too(house):
    link = house.link(1)
    house.ask(request(0, 0, 0, 0))
    await turn()
    house.dispatcher.on_done(link, link.compute())
    assert house.dispatcher._speed._row_s

    house.dispatcher.forget(set())

    assert house.dispatcher._speed._row_s == {}


def waiting(house, level, num_rows=1):
    """Rows of a level that wait, each costing a millisecond."""
    house.dispatcher._speed.note_cost(ONE, 0.001)
    for _ in range(num_rows):
        house.dispatcher.queue.put(ONE, Urgent(level))


class Urgent:
    """What waits, as the queue sees it."""

    num_rows, form, runs_alone, deadline_s = 1, None, False, math.inf

    def __init__(self, level):
        self.level = level
        self.arrived_s = time.monotonic()


LIMITS = AdmissionLimits(most_wait_s=1.0, most_requests=10_000)


@in_loop
async def test_only_what_would_go_first_counts_against_a_request(house):
    house.link(1)
    waiting(house, 3, 2000)

    assert house.dispatcher.load(0, 1).queued_s == 0
    assert house.dispatcher.load(0).queued_s == pytest.approx(2)
    house.dispatcher.admit(LIMITS, 0, Urgency(1))
    for urgency in (PLAIN, Urgency(5)):
        with pytest.raises(RefusedError, match=r"it would wait about 2\.00 s"):
            house.dispatcher.admit(LIMITS, 0, urgency)


@in_loop
async def test_the_bounds_hold_for_the_highest_level_too(house):
    waiting(house, 1, 20)

    with pytest.raises(RefusedError, match="20 requests are waiting"):
        house.dispatcher.admit(AdmissionLimits(most_requests=20), 0, Urgency(1))


@in_loop
async def test_a_timeout_shorter_than_the_wait_is_refused_at_once_with_when_to_come_back(house):
    house.link(1)
    waiting(house, 3, 100)

    house.dispatcher.admit(LIMITS, 0, Urgency(3, 0.2))
    with pytest.raises(RefusedError, match=r"answered in about 100\.0 ms, and has 50\.0 ms") as caught:
        house.dispatcher.admit(LIMITS, 0, Urgency(3, 0.05))

    assert caught.value.status == 503
    assert caught.value.retry_after_s == pytest.approx(0.05)


@in_loop
async def test_a_request_that_cannot_be_run_in_its_own_time_does_not_wait(house):
    house.link(1)
    house.served.cost = BatchCost([(1, 100.0), (2, 200.0)])

    with pytest.raises(RefusedError, match="answered in about 1000"):
        urgent(house, 1, 1, 1, 1, timeout_s=50)

    assert house.dispatcher.num_open == 0
    assert house.dispatcher.load(0).num_bytes == 0


@in_loop
async def test_a_deadline_that_passes_in_the_queue_is_a_504_and_nothing_is_run(house):
    late = urgent(house, 1, 1, 1, 1, timeout_s=60)
    good = house.ask(request(2, 2, 2, 2))
    late.deadline_s = late.queued_s
    link = house.link(1)
    house.dispatcher.pump_soon()
    await turn()

    assert late.exchange.answered_status == 504
    assert "timeout passed" in body_of(late.exchange)["error"]
    assert [each.exchange for each in link.batch.requests] == [good]
    assert house.metrics.late_requests == 1
    house.dispatcher.on_done(link, link.compute())
    assert (house.dispatcher.num_open, house.dispatcher.load(0).num_bytes) == (0, 0)


@in_loop
async def test_a_replica_that_finds_only_late_requests_of_a_version_takes_another(house):
    late = urgent(house, 1, 1, 1, 1, level=1, timeout_s=60)
    late.deadline_s = 0
    house.models.add(Loaded("m", "2", "/2", house.served.interface, [(1, 0.001)], "classification"))
    other = Inference(late.exchange, late.call, "id", 10, None, runs_alone=False)
    house.dispatcher.submit(Key("m", "2"), other)
    link = house.link(1)
    link.loaded.add(Key("m", "2"))
    await turn()

    assert late.exchange.answered_status == 504
    assert link.batch.requests == [other]


@in_loop
async def test_late_requests_are_answered_while_every_replica_is_busy(house):
    first, second = (urgent(house, 1, 1, 1, 1, timeout_s=0.05 * number) for number in (1, 2))

    while second.exchange.answered is None:
        await asyncio.sleep(0.005)

    assert [each.exchange.answered_status for each in (first, second)] == [504, 504]
    assert house.dispatcher.num_open == 0


@in_loop
async def test_the_reason_for_the_size_of_batches_is_counted(house):
    link = house.link(1)
    for _ in range(8):
        house.ask(request(0, 0, 0, 0))
    await turn()
    house.dispatcher.on_done(link, link.compute())
    house.dispatcher.on_done(link, link.compute())

    found = house.dispatcher.explain(ONE)

    assert found["batches"]["ended_by"] == {"latency target": 1, "nothing waiting": 1}
    assert found["batches"]["up_to_rows"] == {"8": 1, "4": 1}
    assert found["time_ms"]["model"] == 1.0
    assert house.metrics.of(ONE).queue_seconds.count == 8
