"""Answers to requests that were run, or found in the prediction cache: logged, counted, encoded, sent."""

import time
from collections.abc import Collection, Iterator, Sequence
from typing import overload

from shoal.serve.cache import NotedCall, PredictionCache
from shoal.serve.inference import Inference
from shoal.serve.journal import Journal
from shoal.serve.link import Batch
from shoal.serve.metrics import CacheState, Metrics
from shoal.serve.models import ServedVersion
from shoal.serve.outputs import BatchOutputs
from shoal.serve.protocol import InferAnswer, InferCall
from shoal.serve.refusal import RefusedError
from shoal.serve.tensors import Array


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

    def answer_batch(self, batch: Batch, served: ServedVersion, outputs: BatchOutputs, seconds: float) -> None:
        """Answer the requests of a batch that took the model so long."""
        counts = self._metrics.of(batch.key)
        begun_s = time.monotonic()
        num_rows = batch.num_rows
        counts.batch_rows.observe(num_rows)
        counts.batch_seconds.observe(seconds)
        self._answer(batch, served, outputs)
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

    def _answer(self, batch: Batch, served: ServedVersion, outputs: BatchOutputs) -> None:
        num_rows = batch.num_rows
        prefix, row = self._journal.write(served, num_rows, _Inputs(batch), outputs.arrays)
        counts = self._metrics.of(batch.key)
        counts.rows += num_rows
        now_s = time.monotonic()
        model, version = batch.key
        start = 0
        for request in batch.requests:
            stop = start + request.num_rows
            answer = InferAnswer(model, version, request.request_id, {"prediction_id": f"{prefix}.{row + start}"}, [])
            own = outputs.rows(start, stop)
            try:
                body, json_bytes = served.protocol.encode(answer, own, request.call.wishes)
                request.exchange.give(body, json_bytes)
                # The version may have been replaced since the request was let in.
                if request.cache_key is not None and self._cache is not None and request.cache_key[0] == served.serial:
                    self._cache.keep(*request.cache_key, [own.array(place) for place in range(len(outputs.arrays))])
            except RefusedError as refused:
                request.exchange.refuse(refused)
            counts.request_seconds.observe(now_s - request.arrived_s)
            start = stop
