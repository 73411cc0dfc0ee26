"""The dispatcher with a prediction cache: the same answers as without, under any sequence of requests."""

import asyncio
import json
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import SegmentReader, parse_prediction_id
from shoal.serve.batching.answers import _Inputs
from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.batching.inference import Inference
from shoal.serve.batching.link import Batch
from shoal.serve.desk.connection import Exchange
from shoal.serve.links.channel import Key, Loaded
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import Metrics
from shoal.serve.versions.models import Models
from shoal.serve.wire.http import Head
from shoal.serve.wire.interface import Interface, TensorField

INTERFACE = Interface(
    (TensorField("image", "UINT8", (None, 2, 2)),), (TensorField("scores", "FP32", (None, 3)),), batched=True
)


class Connection:
    buffered_bytes = 0

    def flush(self):
        pass


class Replica:
    """Runs every batch at once when told to; what a version gives is its own."""

    number = rank = pid = 1

    def __init__(self, front):
        self.front, self.batch, self.num_batches = front, None, 0
        self.asked, self.failed = set(), set()

    @property
    def loaded(self):
        return set(self.front.models.versions)

    @property
    def is_idle(self):
        return self.batch is None

    def run(self, batch):
        self.batch = batch
        self.num_batches += 1

    def outputs(self, block, slots):
        (parts,) = self.batch.inputs()
        images = np.concatenate(parts)
        factor = self.front.factors[self.front.models.versions[self.batch.key].serial]
        sums = images.reshape(len(images), -1).sum(axis=1, dtype=np.float32) * factor
        return [np.repeat(sums[:, None], 3, axis=1)]


class Frame:
    block, slots, seconds = "", (), 0.001

    def __init__(self, batch):
        self.batch = batch.number


class Front:
    """A dispatcher with one replica behind it."""

    def __init__(self, cache_bytes=0, log_folder=None):
        self.models, self.metrics = Models(), Metrics()
        self.journal = Journal(log_folder, self.metrics)
        self.dispatcher = Dispatcher(
            self.models,
            self.journal,
            self.metrics,
            target_ms=10.0,
            most_batch_s=10.0,
            prediction_cache_bytes=cache_bytes,
        )
        self.factors = {}
        self.replica = self.dispatcher.links[1] = Replica(self)

    def load(self, version, factor, *, is_deterministic=True):
        interface = msgspec.structs.replace(INTERFACE, deterministic=is_deterministic)
        served = self.models.add(
            Loaded("m", version, f"/{version}/{factor}", interface, [(1, 0.001)], "classification")
        )
        self.factors[served.serial] = factor
        self.journal.open(served)
        return served

    def unload(self, version):
        kept = self.models.versions.keys() - {Key("m", version)}
        self.models.forget(kept)
        self.dispatcher.forget(kept)

    def send(self, version, body, json_bytes=None):
        served = self.models.versions[Key("m", version)]
        head = Head("POST", "/", {}, keeps_alive=True, is_old=False)
        exchange = Exchange(Connection(), head, time.monotonic())
        call = self.dispatcher.read(served, body, json_bytes)
        self.dispatcher.submit(
            served.key, Inference(exchange, call, call.id or "made up", len(body), form=None, runs_alone=False)
        )
        return exchange

    async def run(self):
        await asyncio.sleep(0)
        while self.replica.batch is not None:
            self.dispatcher.on_done(self.replica, Frame(self.replica.batch))

    async def ask(self, version, body, json_bytes=None):
        exchange = self.send(version, body, json_bytes)
        await self.run()
        assert exchange.answered_status == 200
        return json.loads(exchange.answered.partition(b"\r\n\r\n")[2])


def body_of(*pixels, **members):
    tensor = {"name": "image", "datatype": "UINT8", "shape": [len(pixels) // 4, 2, 2], "data": list(pixels)}
    return json.dumps({"inputs": [tensor], **members}).encode()


def counts(front, version="1"):
    found = front.metrics.of(Key("m", version))
    return found.cache_hits, found.cache_misses


def test_a_hit_is_the_answer_without_the_model():
    async def ask():
        front = Front(1 << 20)
        front.load("1", 2)
        answers = [await front.ask("1", body_of(1, 2, 3, 4)) for _ in range(3)]
        return front, answers

    front, answers = asyncio.run(ask())

    assert [answer["outputs"] for answer in answers] == [answers[0]["outputs"]] * 3
    assert answers[0]["outputs"][0]["data"] == [20, 20, 20]
    assert front.replica.num_batches == 1
    assert counts(front) == (2, 1)
    assert front.dispatcher.num_open == 0
    assert front.dispatcher.load(0).num_bytes == 0


def test_every_answer_has_its_own_ids_whether_it_hits_or_not():
    async def ask():
        front = Front(1 << 20)
        front.load("1", 2)
        bodies = [body_of(1, 2, 3, 4), body_of(1, 2, 3, 4, id="mine"), body_of(1, 2, 3, 4, id="yours")]
        return [await front.ask("1", body) for body in bodies]

    answers = asyncio.run(ask())

    assert [answer["id"] for answer in answers] == ["made up", "mine", "yours"]
    assert len({answer["parameters"]["prediction_id"] for answer in answers}) == 3


def test_json_and_binary_share_what_is_kept():
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "parameters": {"binary_data_size": 4}}
    text = json.dumps({"inputs": [tensor]}).encode()

    async def ask():
        front = Front(1 << 20)
        front.load("1", 2)
        return [await front.ask("1", body_of(1, 2, 3, 4)), await front.ask("1", text + b"\1\2\3\4", len(text))], front

    (first, second), front = asyncio.run(ask())

    assert first["outputs"] == second["outputs"]
    assert counts(front) == (1, 1)


def test_a_hit_is_logged_as_any_other_answer(tmp_path):
    async def ask():
        front = Front(1 << 20, tmp_path)
        front.load("1", 2)
        answers = [await front.ask("1", body_of(1, 2, 3, 4)) for _ in range(2)]
        front.journal.close()
        return answers

    answers = asyncio.run(ask())

    reader = SegmentReader(tmp_path / "m")
    for answer in answers:
        place = parse_prediction_id(answer["parameters"]["prediction_id"])
        row = reader.row(place.row)
        assert row["prediction_id"] == str(place)
        assert row["image"].tolist() == [[1, 2], [3, 4]]
        assert row["scores"].tolist() == [20, 20, 20]


def test_a_hit_decodes_its_inputs_only_for_a_log_that_reads_them():
    async def ask():
        front = Front(1 << 20)
        served = front.load("1", 2)
        await front.ask("1", body_of(1, 2, 3, 4))
        return served, front.dispatcher.read(served, body_of(1, 2, 3, 4), None)

    served, call = asyncio.run(ask())
    inputs = _Inputs(Batch(0, served.key, [Inference(None, call, "id", 0, form=None, runs_alone=False)]))
    assert call._arrays is None

    assert len(inputs) == 1
    assert inputs[0][0].tolist() == next(iter(inputs))[0].tolist() == [[[1, 2], [3, 4]]]


def test_a_version_that_is_random_is_always_run():
    async def ask():
        front = Front(1 << 20)
        front.load("1", 2, is_deterministic=False)
        for _ in range(3):
            await front.ask("1", body_of(1, 2, 3, 4))
        return front

    front = asyncio.run(ask())

    assert front.replica.num_batches == 3
    assert counts(front) == (0, 0)
    assert front.dispatcher.cache_state().bytes == 0


def test_a_new_path_under_the_old_name_is_another_version():
    async def ask():
        front = Front(1 << 20)
        answers = []
        for factor in (2, 3):
            front.load("1", factor)
            answers.append(await front.ask("1", body_of(1, 2, 3, 4)))
        return answers

    assert [answer["outputs"][0]["data"][0] for answer in asyncio.run(ask())] == [20, 30]


def test_what_was_run_by_the_version_before_is_not_kept_for_the_one_after():
    async def ask():
        front = Front(1 << 20)
        front.load("1", 2)
        front.send("1", body_of(1, 2, 3, 4))
        await asyncio.sleep(0)
        front.load("1", 3)
        front.dispatcher.on_done(front.replica, Frame(front.replica.batch))
        return front.dispatcher.cache_state().entries

    assert asyncio.run(ask()) == 0


def test_an_output_that_json_cannot_carry_is_not_kept():
    async def ask():
        front = Front(1 << 20)
        front.load("1", float("nan"))
        exchanges = [front.send("1", body_of(1, 2, 3, 4)) for _ in range(2)]
        await front.run()
        return [exchange.answered_status for exchange in exchanges], front.dispatcher.cache_state().entries

    assert asyncio.run(ask()) == ([422, 422], 0)


def test_where_the_time_went_is_counted_for_hits_and_batches():
    async def ask():
        front = Front(1 << 20)
        front.load("1", 2)
        for pixel in (1, 2, 1):
            await front.ask("1", body_of(pixel, 0, 0, 0))
        return front

    front = asyncio.run(ask())

    found = front.dispatcher.explain(Key("m", "1"))
    assert found["requests"] == 3
    assert found["batches"] == {"count": 2, "mean_rows": 1, "up_to_rows": {"1": 2}, "ended_by": {"nothing waiting": 2}}
    assert found["cache"] == {"hits": 1, "misses": 2, "hit_rate": 0.3333}
    assert found["time_ms"]["reading"] > 0
    assert found["time_ms"]["writing"] > 0


REQUESTS = st.tuples(
    st.sampled_from(["1", "2"]),
    st.lists(st.integers(0, 2), min_size=1, max_size=3),
    st.sampled_from([None, "a", "b"]),
    st.booleans(),
)
STEPS = st.one_of(
    REQUESTS,
    st.tuples(st.just("swap"), st.sampled_from(["1", "2"]), st.integers(1, 9), st.booleans()),
    st.just("run"),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=40), st.sampled_from([4 << 10, 1 << 20]))
def test_answers_are_the_same_with_and_without_a_cache(steps, cache_bytes):
    async def play(front):
        for version, factor in (("1", 10), ("2", 20)):
            front.load(version, factor)
        exchanges = []
        for step in steps:
            if step == "run":
                await front.run()
            elif step[0] == "swap":
                _, version, factor, is_unloaded = step
                # As in the front: a version goes when nothing waits for it or runs on it.
                await front.run()
                if is_unloaded:
                    front.unload(version)
                front.load(version, factor)
            else:
                version, firsts, request_id, is_spaced = step
                pixels = [pixel for first in firsts for pixel in (first, 1, 1, 1)]
                body = body_of(*pixels, **({"id": request_id} if request_id else {}))
                exchanges.append(front.send(version, body.replace(b" ", b"  ") if is_spaced else body))
        await front.run()
        bodies = [json.loads(exchange.answered.partition(b"\r\n\r\n")[2]) for exchange in exchanges]
        ids = [answer.pop("parameters")["prediction_id"] for answer in bodies]
        return bodies, ids

    cached = Front(cache_bytes)
    with_cache, ids = asyncio.run(play(cached))
    without, _ = asyncio.run(play(Front()))

    assert with_cache == without
    assert len(set(ids)) == len(ids)
    assert [each.split("@")[1].split(".")[0] for each in ids] == [answer["model_version"] for answer in with_cache]
    state = cached.dispatcher.cache_state()
    assert state.bytes <= state.most_bytes == cache_bytes


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_the_cache_tells_what_it_holds_only_where_there_is_one(cache_bytes):
    state = Front(cache_bytes).dispatcher.cache_state()

    assert (state is None) == (cache_bytes == 0)
