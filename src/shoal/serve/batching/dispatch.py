"""Batches from the queue to idle replicas, and their outputs back to the clients."""

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from shoal.base import NotFoundError, StorageFullError
from shoal.serve.batching.admission import AdmissionLimits, Load, check_deadline, decide
from shoal.serve.batching.answers import Answers
from shoal.serve.batching.cache import NotedCall, PredictionCache
from shoal.serve.batching.inference import Inference
from shoal.serve.batching.link import Batch, ReplicaLink
from shoal.serve.batching.queue import BatchQueue
from shoal.serve.batching.speed import Speed
from shoal.serve.links.channel import Done, Failed, Key
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import CacheState, Metrics, explain
from shoal.serve.versions.models import Models, ServedVersion
from shoal.serve.wire.outputs import BatchOutputs
from shoal.serve.wire.protocol import InferCall
from shoal.serve.wire.refusal import RefusedError, our_mistake
from shoal.serve.wire.urgency import LOWEST_LEVEL, PLAIN, Urgency

_LOG = logging.getLogger(__name__)
# A request that three replicas died on is taken for the cause; from the second death on it runs alone, so that it takes
# no other request with it.
_MOST_TRIES = 3
# A bound on memory for models so quick that the latency target sets none.
_MOST_BATCH_ROWS = 1024
# A busy machine slows batches, and the estimate follows slowly: what takes this many times as long is stuck.
_STUCK_FACTOR = 10.0
# Where one replica keeps up with all clients, the others would else be given nothing for ever.
_LONG_SILENCE_S = 1.0
# Half of the target is for the batch that a request must wait for, half for its own.
_BATCH_PART_OF_TARGET = 0.5
# For so long a replica may be done, and not heard, while requests are read: a small part of what most batches take.
_LOOK_S = 0.0003
# What is refused now is refused in the next moment too: then the same answer costs nothing.
_SAME_REFUSAL_S = 0.002
# Every request that waits is looked at for its deadline: not more often than this, where some have one.
_LATE_LOOK_S = 0.005


class _Refusal(NamedTuple):
    """Why requests of a level are not let in for the moment."""

    refused: RefusedError
    level: int
    until_s: float


class Dispatcher:
    """Holds every request from admission to answer. Used by the event loop alone."""

    def __init__(
        self,
        models: Models,
        journal: Journal,
        metrics: Metrics,
        *,
        target_ms: float,
        most_batch_s: float,
        prediction_cache_bytes: int = 0,
    ) -> None:
        self.queue: BatchQueue[Inference] = BatchQueue()
        self.links: dict[int, ReplicaLink] = {}
        self._models = models
        self._metrics = metrics
        self._answers = Answers(
            journal, metrics, PredictionCache(prediction_cache_bytes) if prediction_cache_bytes else None
        )
        self._budget_s = target_ms / 1000 * _BATCH_PART_OF_TARGET
        self._most_batch_s = most_batch_s
        # By the replicas' numbers, when each has last answered.
        self._heard_s: dict[int, float] = {}
        self._speed = Speed()
        self._num_batches = 0
        self._num_running = 0
        self._held_bytes = 0
        self._is_pump_due = False
        self._refusal: _Refusal | None = None
        self._looked_s = 0.0
        self._late_look: asyncio.TimerHandle | None = None

    @property
    def num_open(self) -> int:
        """Requests waiting or running."""
        return self.queue.num_requests + self._num_running

    @property
    def busy(self) -> set[Key]:
        """The versions that something waits for or runs on."""
        running = {link.batch.key for link in self.links.values() if link.batch is not None}
        return running | {key for key, _ in self.queue.rows_by_key()}

    def load(self, arriving_bytes: int, level: int = LOWEST_LEVEL) -> Load:
        """What is in the house, for admission: of what waits, what would go before a request of this level."""
        num_able = sum(1 for link in self.links.values() if link.loaded)
        queued_s = self._speed.queued_s(self.queue.rows_ahead(level, time.monotonic()), num_able)
        return Load(self.num_open, self._held_bytes + arriving_bytes, queued_s, num_able)

    def is_calm(self, limits: AdmissionLimits, arriving_bytes: int) -> bool:
        """Whether a new request is let in whatever its level: a bound that is looked up, far from every limit."""
        return (
            self.queue.num_rows * self._speed.most_row_s <= limits.most_wait_s
            and self.num_open < limits.most_requests
            and self._held_bytes + arriving_bytes < limits.most_bytes
        )

    def admit(self, limits: AdmissionLimits, arriving_bytes: int, urgency: Urgency = PLAIN) -> None:
        """Raise the 503 when a new request would wait too long, for us or for itself, or there is no room for it."""
        self._look_after_replicas()
        # Only near a limit is anything computed.
        if self.is_calm(limits, arriving_bytes) and urgency.timeout_s == math.inf:
            return
        now_s, level = time.monotonic(), urgency.level
        recent = self._refusal
        if recent is not None and recent.level == level and not arriving_bytes and now_s < recent.until_s:
            raise recent.refused.with_traceback(None)
        load = self.load(arriving_bytes, level)
        if refused := decide(load, limits):
            self._refusal = _Refusal(refused, level, now_s + _SAME_REFUSAL_S)
            raise refused
        if refused := check_deadline(load, 0.0, urgency.timeout_s):
            raise refused

    def most_rows(self, key: Key) -> int:
        """The largest batch of a version that keeps the latency target."""
        return self._models.versions[key].cost.rows_within(self._budget_s, _MOST_BATCH_ROWS)

    def read(self, served: ServedVersion, body: bytes, json_bytes: int | None) -> InferCall | NotedCall:
        """What a body of the Open Inference Protocol asks for.

        Raises:
            RefusedError: 400, with the field, what was found and what was expected.
        """
        if not self._answers.has_cache:
            return served.protocol.decode(body, json_bytes)
        return self._answers.read(served, body, json_bytes)

    def submit(self, key: Key, request: Inference) -> None:
        """Answer a request from the cache, or let it wait; batches are made when all that was sent by now is read.

        Raises:
            RefusedError: 503, its deadline would pass before its answer.
        """
        request.queued_s = now_s = time.monotonic()
        if self._answers.has_cache and self._answers.answer_kept(self._models.versions[key], request):
            return
        if request.deadline_s != math.inf:
            own_s = self._models.versions[key].cost.predict_s(request.num_rows)
            if refused := check_deadline(self.load(0, request.level), own_s, request.deadline_s - now_s):
                raise refused
            self._look_for_late(now_s, request.deadline_s)
        self._held_bytes += request.num_bytes
        self.queue.put(key, request)
        self.pump_soon()

    def pump_soon(self) -> None:
        """Give work to idle replicas at the end of this turn of the loop."""
        if not self._is_pump_due:
            self._is_pump_due = True
            # Not now: the loop is about to read what other clients have sent, and one batch serves them all. This
            # waits for no time to pass, so a lone request leaves as quickly as it would without.
            asyncio.get_running_loop().call_soon(self._pump)

    def on_done(self, link: ReplicaLink, frame: Done) -> None:
        """Answer the requests of a batch."""
        try:
            arrays = link.outputs(frame.block, frame.slots)
        except NotFoundError:
            # It was killed right after it said so, and its supervisor has removed its memory.
            link.close()
            self.on_lost(link)
            return
        batch = self._finish(link, frame.batch)
        self._speed.note_done(batch.num_rows, time.monotonic(), is_behind=self.queue.num_rows > 0)
        served = self._models.versions[batch.key]
        outputs = BatchOutputs(arrays, batched=served.interface.batched)
        served.cost.observe(batch.num_rows, frame.seconds)
        most = self.most_rows(batch.key)
        self._speed.note_cost(batch.key, served.cost.predict_s(most) / most)
        # The outputs were copied, so the replica may write again. It comes before the answers: it computes while this
        # process writes them.
        self._feed(link)
        try:
            self._answers.answer_batch(batch, served, outputs, frame.seconds, link.rank)
        except Exception:  # noqa: BLE001  # the boundary: a mistake of ours fails one batch, and nobody waits for ever
            _LOG.exception("cannot answer a batch of %s@%s", *batch.key)
            self._refuse((request for request in batch.requests if request.exchange.answered is None), our_mistake())

    def on_failed(self, link: ReplicaLink, frame: Failed) -> None:
        """Find out which request of a batch the model cannot run, and answer that one with the reason."""
        batch = self._finish(link, frame.batch)
        # Nobody can tell from outside whose rows it was: each runs once more, alone.
        if len(batch.requests) == 1:
            self._refuse(batch.requests, _failed(batch.key, frame))
        else:
            for request in batch.requests:
                request.runs_alone = True
            self._put_back(batch)
        self.pump_soon()

    def on_lost(self, link: ReplicaLink) -> None:
        """Give the batch of a dead replica to another one."""
        del self.links[link.number]
        self._metrics.replica_deaths += 1
        batch = link.batch
        if batch is None:
            self._heard_s.pop(link.number, None)
            return
        self._finish(link, batch.number)
        del self._heard_s[link.number]
        for request in batch.requests:
            request.num_tries += 1
            request.runs_alone = request.runs_alone or request.num_tries == _MOST_TRIES - 1
        given_up = [request for request in batch.requests if request.num_tries >= _MOST_TRIES]
        self._refuse(given_up, _deadly(batch.key))
        batch.requests = [request for request in batch.requests if request.num_tries < _MOST_TRIES]
        self._put_back(batch)
        self.pump_soon()

    def expire(self, before_s: float) -> None:
        """Refuse what has waited since before a moment: no replica came back in time."""
        expired = self.queue.expire(before_s)
        self._release(expired)
        self._refuse(expired, _no_replica())

    def end_stuck(self, now_s: float) -> None:
        """Kill each replica that has been at its batch for too long: another one answers it."""
        for link in list(self.links.values()):
            if link.batch is not None and now_s >= link.batch.deadline_s:
                _LOG.warning(
                    "replica %d (pid %d) is stuck in a batch of %s@%s and is killed",
                    link.rank,
                    link.pid,
                    *link.batch.key,
                )
                link.kill()

    def forget(self, kept: set[Key]) -> None:
        """Drop what was learnt of all versions but these."""
        self._speed.forget(kept)
        self._answers.forget([served for key, served in self._models.versions.items() if key in kept])

    def explain(self, key: Key) -> dict[str, Any]:
        """Where the time of a version's requests goes and why its batches are as large as they are, for people."""
        return explain(self._metrics.of(key))

    def cache_state(self) -> CacheState | None:
        """What the prediction cache holds now; None without one."""
        return self._answers.cache_state()

    def _look_after_replicas(self) -> None:
        """Hear replicas while requests come in: one turn of the loop may read hundreds of them."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        for link in list(self.links.values()):
            if link.batch is not None:
                link.look()

    def _pump(self) -> None:
        self._is_pump_due = False
        for link in self._in_turn():
            if not self.queue.num_requests:
                return
            self._feed(link)

    def _in_turn(self) -> list[ReplicaLink]:
        """All replicas; first those that have answered nothing for long, as only work shows that one hangs."""
        silent_s = time.monotonic() - _LONG_SILENCE_S
        return sorted(self.links.values(), key=lambda link: self._heard_s.get(link.number, -math.inf) > silent_s)

    def _feed(self, link: ReplicaLink) -> None:
        if not link.is_idle:
            return
        now_s = time.monotonic()
        taken = self.queue.take(link.loaded, self.most_rows, now_s)
        # All that it looked at may have come too late, and others wait behind.
        while taken is not None and not taken.requests:
            self._refuse_late(taken.late)
            taken = self.queue.take(link.loaded, self.most_rows, now_s)
        if taken is None:
            return
        key, requests, late, ended_by = taken
        self._refuse_late(late)
        self._metrics.of(key).ended_by[_limit(self.most_rows(key)) if ended_by == "full" else ended_by] += 1
        self._num_batches += 1
        batch = Batch(self._num_batches, key, requests)
        for request in requests:
            request.taken_s = now_s
        predicted_s = self._models.versions[key].cost.predict_s(batch.num_rows)
        batch.deadline_s = now_s + max(self._most_batch_s, _STUCK_FACTOR * predicted_s)
        self._num_running += len(batch.requests)
        try:
            link.run(batch)
        except StorageFullError as error:
            self._num_running -= len(batch.requests)
            self._release(batch.requests)
            full = RefusedError(503, error.message, next_step=error.next_step, retry_after_s=1.0)
            self._refuse(batch.requests, full)

    def _finish(self, link: ReplicaLink, number: int) -> Batch:
        batch = link.batch
        assert batch is not None
        assert batch.number == number
        link.batch = None
        self._heard_s[link.number] = time.monotonic()
        self._num_running -= len(batch.requests)
        self._release(batch.requests)
        return batch

    def _put_back(self, batch: Batch) -> None:
        self._metrics.retried_requests += len(batch.requests)
        self._held_bytes += sum(request.num_bytes for request in batch.requests)
        if batch.requests:
            self.queue.put_back(batch.key, batch.requests)

    def _release(self, requests: Iterable[Inference]) -> None:
        self._held_bytes -= sum(request.num_bytes for request in requests)

    def _look_for_late(self, now_s: float, deadline_s: float) -> None:
        """Have what is late answered at the deadline, not when a replica comes to it."""
        loop, after_s = asyncio.get_running_loop(), max(deadline_s - now_s, _LATE_LOOK_S)
        look = self._late_look
        if look is not None:
            if look.when() <= loop.time() + after_s:
                return
            look.cancel()
        self._late_look = loop.call_later(after_s, self._drop_late)

    def _drop_late(self) -> None:
        self._late_look = None
        now_s = time.monotonic()
        self._refuse_late(self.queue.drop_late(now_s))
        if (next_s := self.queue.next_deadline_s()) != math.inf:
            self._look_for_late(now_s, next_s)

    def _refuse_late(self, late: list[Inference]) -> None:
        if not late:
            return
        self._release(late)
        self._metrics.late_requests += len(late)
        self._refuse(late, _too_late())

    @staticmethod
    def _refuse(requests: Iterable[Inference], refused: RefusedError) -> None:
        for request in requests:
            request.exchange.refuse(refused)


def _limit(most_rows: int) -> str:
    return "largest batch" if most_rows == _MOST_BATCH_ROWS else "latency target"


def _failed(key: Key, frame: Failed) -> RefusedError:
    if frame.blames_input:
        return RefusedError(
            422,
            f"{key.model}@{key.version} cannot run this input: {frame.message}",
            field="inputs",
            found="values that the model's own operations refuse",
            expected="values that it was made for",
            next_step="compare the values with those that the model was trained on",
        )
    if frame.blames_model:
        return RefusedError(500, f"{key.model}@{key.version}: {frame.message}", next_step=frame.next_step)
    return RefusedError(503, frame.message, next_step=frame.next_step, retry_after_s=1.0)


def _no_replica() -> RefusedError:
    return RefusedError(
        503,
        "no replica could take the request in time",
        next_step="send it again later; GET /status tells how the replicas are",
        retry_after_s=5.0,
    )


def _too_late() -> RefusedError:
    return RefusedError(
        504,
        "the request's timeout passed while it waited, so it was not run",
        next_step="give it a longer timeout or a higher priority, or send less at once",
    )


def _deadly(key: Key) -> RefusedError:
    return RefusedError(
        500,
        f"{_MOST_TRIES} replicas died while {key.model}@{key.version} ran this request",
        next_step="try the input on the model outside the service; it may take more memory than there is",
    )
