"""Answers to requests that were run, or found in the prediction cache: logged, counted, encoded, sent."""

import time
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, overload

from shoal.serve.batching.cache import NotedCall, PredictionCache
from shoal.serve.batching.inference import Inference
from shoal.serve.batching.link import Batch
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import CacheState, Metrics
from shoal.serve.records.passage import Ran
from shoal.serve.versions.models import ServedVersion
from shoal.serve.wire.answer_text import AnswerText
from shoal.serve.wire.outputs import BatchOutputs
from shoal.serve.wire.protocol import InferAnswer, InferCall
from shoal.serve.wire.refusal import RefusedError
from shoal.serve.wire.tensors import Array


class _Inputs(Sequence[Sequence[Array]]):
    """A batch's inputs, put together when the log reads them: without a log a hit needs none."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    @overload
    def __getitem__(self, place: int) -> Sequence[Array]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sequence[Array]]: ...
    def __getitem__(self, place: int | slice) -> Sequence[Array] | Sequence[Sequence[Array]]:
        return self._batch.inputs()[place]

    def __iter__(self) -> Iterator[Sequence[Array]]:
        return iter(self._batch.inputs())

    def __len__(self) -> int:
        return len(self._batch.inputs())


class _Run(NamedTuple):
    """How a batch ran: when it came back, what the model took, and the replica's rank."""

    done_s: float
    model_s: float
    replica: int | None


class Answers:
    """Writes answers, and keeps them where there is a cache. Used by the event loop alone."""

    def __init__(self, journal: Journal, metrics: Metrics, cache: PredictionCache | None) -> None:
        self._journal = journal
        self._metrics = metrics
        self._cache = cache

    @property
    def has_cache(self) -> bool:
        """Whether `answer_kept` may find anything."""
        return self._cache is not None

    def cache_state(self) -> CacheState | None:
        """What the cache holds now; None without one."""
        cache = self._cache
        if cache is None:
            return None
        return CacheState(
            entries=len(cache), bytes=cache.num_bytes, most_bytes=cache.most_bytes, evicted=cache.num_evicted
        )

    def answer_batch(
        self, batch: Batch, served: ServedVersion, outputs: BatchOutputs, seconds: float, replica: int | None = None
    ) -> None:
        """Answer the requests of a batch that took the model so long, on the replica with this rank."""
        counts = self._metrics.of(batch.key)
        begun_s = time.monotonic()
        num_rows = batch.num_rows
        counts.batch_rows.observe(num_rows)
        counts.batch_seconds.observe(seconds)
        self._answer(batch, served, outputs, _Run(begun_s, seconds, replica))
        counts.writing_seconds += time.monotonic() - begun_s
        reading_s = 0.0
        observe = counts.queue_seconds.observe
        for request in batch.requests:
            queued_s = request.queued_s
            observe(request.taken_s - queued_s)
            reading_s += queued_s - request.arrived_s
        counts.reading_seconds += reading_s

    def answer_kept(self, served: ServedVersion, request: Inference) -> bool:
        """Answer from the cache and return True, or note in the request what its answer is to be kept under."""
        if self._cache is None or not served.is_deterministic:
            return False
        call = request.call
        digest = call.digest if isinstance(call, NotedCall) else self._cache.digest(call.arrays)
        if digest is None:
            return False
        kept = self._cache.find(served.serial, digest)
        counts = self._metrics.of(served.key)
        if kept is None:
            counts.cache_misses += 1
            # Decoded here if it was not: in a replica's batch, what is wrong with one body would concern others.
            _ = call.arrays
            request.cache_key = served.serial, digest
            return False
        counts.cache_hits += 1
        counts.reading_seconds += request.queued_s - request.arrived_s
        # Its own prediction id and its own rows in the log: whoever follows it up finds what this client was told.
        outputs = BatchOutputs(kept, batched=served.interface.batched, copies=False)
        self._answer(Batch(0, served.key, [request]), served, outputs)
        counts.writing_seconds += time.monotonic() - request.queued_s
        return True

    def read(self, served: ServedVersion, body: bytes, json_bytes: int | None) -> InferCall | NotedCall:
        """Decode a body, or know it again.

        Raises:
            RefusedError: 400, with the field, what was found and what was expected.
        """
        if self._cache is None or not served.is_deterministic:
            return served.protocol.decode(body, json_bytes)
        return self._cache.read(served.protocol, body, json_bytes)

    def forget(self, versions: Collection[ServedVersion]) -> None:
        """Drop what is kept of all versions but these."""
        if self._cache is not None:
            self._cache.forget({each.serial for each in versions}, {each.protocol for each in versions})

    def _answer(self, batch: Batch, served: ServedVersion, outputs: BatchOutputs, run: "_Run | None" = None) -> None:
        num_rows = batch.num_rows
        places = None
        if self._journal.is_sampled:
            places = self._journal.write_sampled(served, batch.requests, _Inputs(batch), outputs.arrays)
            prefix, row = places[0]
        else:
            prefix, row = self._journal.write(served, num_rows, _Inputs(batch), outputs.arrays)
        counts = self._metrics.of(batch.key)
        counts.rows += num_rows
        now_s = time.monotonic()
        model, version = batch.key
        protocol = served.protocol
        ordinary, text = protocol.ordinary_wishes, None
        if outputs.batched and all(map(outputs.is_finite, range(len(outputs.arrays)))):
            text = AnswerText(protocol.interface.outputs, outputs, model, version, prefix)
        start = 0
        for number, request in enumerate(batch.requests):
            stop = start + request.num_rows
            first = row + start
            if places is not None:
                former, (prefix, first) = prefix, places[number]
                if text is not None and prefix != former:
                    text = AnswerText(protocol.interface.outputs, outputs, model, version, prefix)
            if self._journal.is_observed:
                request.exchange.ran = _ran(batch, request, f"{prefix}.{first}", run)
            own = outputs.rows(start, stop)
            wishes = request.call.wishes
            try:
                if wishes is ordinary and text is not None:
                    request.exchange.give(text.write(request.request_id, first, start, stop), None)
                else:
                    ids = {"prediction_id": f"{prefix}.{first}"}
                    answer = InferAnswer(model, version, request.request_id, ids, [])
                    request.exchange.give(*protocol.encode(answer, own, wishes))
                # The version may have been replaced since the request was let in.
                if request.cache_key is not None and self._cache is not None and request.cache_key[0] == served.serial:
                    self._cache.keep(*request.cache_key, [own.array(place) for place in range(len(outputs.arrays))])
            except RefusedError as refused:
                request.exchange.refuse(refused)
            counts.request_seconds.observe(now_s - request.arrived_s)
            start = stop


def _ran(batch: Batch, request: Inference, prediction_id: str, run: _Run | None) -> Ran:
    queued_s = request.queued_s
    common = (batch.key.model, batch.key.version, request.request_id, prediction_id, request.num_rows, queued_s)
    if run is None:
        # From the cache: it waited for nothing.
        return Ran(*common, queued_s, queued_s, 0.0, 0, None)
    return Ran(*common, request.taken_s, run.done_s, run.model_s, batch.num_rows, run.replica)
