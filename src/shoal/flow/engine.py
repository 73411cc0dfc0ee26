"""Runs a graph: looks results up, claims and computes what is missing as wide as the machine allows, records it."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from queue import Empty

from shoal.base import ShoalError
from shoal.flow.claims import Claims
from shoal.flow.declared import declared_paths, working_paths
from shoal.flow.failure import Failure, step_error
from shoal.flow.graph import Graph, filled, pendings
from shoal.flow.keys import KeyMaker, StepKey, changed_files
from shoal.flow.memo import FlowMemo, Found, Result
from shoal.flow.outcome import FlowRun, Progress, StepOutcome
from shoal.flow.schedule import Schedule
from shoal.flow.workers import Call, Finished, Workers

# Results of quick steps are recorded together; none waits longer than this to survive a kill.
RECORD_WITHIN_S = 0.02
# How often to look whether another run has finished what we wait for.
LOOK_EVERY_S = 0.05


class Engine:
    """One run of one graph. Everything but the steps themselves happens in the caller's thread.

    A result is recorded before those that were computed from it, so a kill at any instant leaves no result whose
    inputs would have to be computed again.
    """

    def __init__(
        self, graph: Graph, returned: object, *, memo: FlowMemo, claims: Claims, capacity: int, force: bool, home: str
    ) -> None:
        self._nodes = graph.nodes
        self._names = graph.names()
        self._returned = returned
        self._memo = memo
        self._claims = claims
        self._force = force
        self._home = home
        self._schedule = Schedule(
            graph.nodes, capacity=capacity, returned={pending.index for pending in pendings(returned)}
        )
        self._workers = Workers(self._schedule.num_threads)
        self._make_keys = KeyMaker()
        self._keys: dict[int, StepKey] = {}
        self._values: dict[int, object] = {}
        self._outcomes: dict[int, StepOutcome] = {}
        self._failures: dict[int, Failure] = {}
        # The first node of a key computes it; later ones with the same key take its result.
        self._same: dict[str, list[int]] = defaultdict(list)
        self._elsewhere: list[int] = []
        self._unrecorded: list[Result] = []
        self._record_at = 0.0
        self._progress: Progress = lambda _: None

    def run(self, progress: Progress | None) -> FlowRun:
        """Bring every node to its end and return the flow's value.

        Raises:
            StepError: a step failed; all steps that do not need it have run, and what they made is recorded.
        """
        self._progress = progress or self._progress
        with self._workers:
            try:
                while not self._schedule.is_over:
                    self._look_up()
                    self._start()
                    self._collect()
            finally:
                self._record()
        if self._failures:
            raise step_error([self._failures[index] for index in sorted(self._failures)], num_done=len(self._outcomes))
        outcomes = tuple(self._outcomes[node.index] for node in self._nodes)
        return FlowRun(value=filled(self._returned, self._values.__getitem__), outcomes=outcomes)

    def _look_up(self) -> None:
        # A result that is found makes others ready at once.
        while ready := self._schedule.take_ready():
            keyed = []
            for index in ready:
                if not self._nodes[index].step.memo:
                    self._schedule.allow(index)
                    continue
                try:
                    self._keys[index] = self._make_keys.key_of(self._nodes[index].step, self._arguments(index))
                    keyed.append(index)
                except (ShoalError, OSError) as error:
                    self._fail(index, error)
            self._settle(self._leaders(keyed))

    def _leaders(self, indices: Sequence[int]) -> list[int]:
        leaders = []
        for index in indices:
            same = self._same[self._keys[index].digest]
            if not same:
                leaders.append(index)
            same.append(index)
        return leaders

    def _settle(self, leaders: Sequence[int]) -> None:
        """For the first node of each key: take the kept result, or compute it, or wait for the run that does."""
        if self._force:
            for index in leaders:
                self._schedule.allow(index)
            return
        missing = self._take_found(leaders)
        if {self._keys[index].digest for index in missing} & {result.key.digest for result in self._unrecorded}:
            # What this run has made is found by the next step of the same key only when it is recorded.
            self._record()
            missing = self._take_found(missing)
        if not missing:
            return
        taken = self._claims.take([self._keys[index].digest for index in missing])
        # Looked for again: another run may have recorded it after we looked and before we claimed.
        mine = [index for index in missing if self._keys[index].digest in taken]
        unknown = self._take_found(mine)
        self._claims.give_back([self._keys[index].digest for index in set(mine) - set(unknown)])
        for index in unknown:
            self._schedule.allow(index)
        self._elsewhere += [index for index in missing if self._keys[index].digest not in taken]

    def _take_found(self, indices: Sequence[int]) -> list[int]:
        """Finish the nodes that have a kept result, and return the others."""
        found = self._memo.find([self._keys[index] for index in indices]) if indices else {}
        missing = []
        for index in indices:
            kept = found.get(self._keys[index].digest)
            if kept is None:
                missing.append(index)
            else:
                self._finish_all(self._keys[index].digest, kept, "its result was kept")
        return missing

    def _finish_all(self, digest: str, kept: Found, reason: str) -> None:
        for index in self._same.pop(digest):
            self._finish(index, kept, reused=True, reason=reason)

    def _finish(self, index: int, result: Found, *, reused: bool, reason: str) -> None:
        key = self._keys.get(index)
        self._values[index] = result.value
        for unused in self._schedule.succeed(index):
            self._values.pop(unused, None)
        outcome = self._outcomes[index] = StepOutcome(
            name=self._names[index],
            key=key.digest if key else None,
            reused=reused,
            seconds=result.seconds,
            reason=reason,
            undeclared=result.undeclared,
            unseen=key.code.unseen if key else (),
        )
        self._progress(outcome)

    def _start(self) -> None:
        for index in self._schedule.start():
            step, arguments = self._nodes[index].step, self._arguments(index)
            ignored = {name: value for name, value in arguments.items() if name in step.ignore}
            bound = step.bind(arguments)
            self._workers.submit(
                Call(
                    index=index,
                    function=step.function,
                    args=bound.args,
                    kwargs=bound.kwargs,
                    declared=(self._home, *declared_paths(arguments), *working_paths(ignored)),
                    encode=self._memo.encode if step.memo else None,
                )
            )

    def _collect(self) -> None:
        """Wait for something to happen, and take in all that has."""
        if self._schedule.is_running:
            for finished in self._finished():
                self._take_in(finished)
            if self._unrecorded and time.monotonic() >= self._record_at:
                self._record()
        elif self._elsewhere:
            # Others may wait for what we have, as we wait for them.
            self._record()
            time.sleep(LOOK_EVERY_S)
        if self._elsewhere:
            waiting, self._elsewhere = self._elsewhere, []
            self._settle(waiting)

    def _finished(self) -> Iterator[Finished]:
        timeout_s = None
        if self._unrecorded:
            timeout_s = max(0.0, self._record_at - time.monotonic())
        elif self._elsewhere:
            timeout_s = LOOK_EVERY_S
        try:
            yield self._workers.finished.get(timeout=timeout_s)
            while True:
                yield self._workers.finished.get_nowait()
        except Empty:
            return

    def _take_in(self, finished: Finished) -> None:
        index = finished.index
        if finished.error is not None:
            self._fail(index, finished.error)
            return
        result = Found(value=finished.value, seconds=finished.seconds, undeclared=finished.undeclared)
        key = self._keys.get(index)
        if key is None or finished.encoded is None:
            self._finish(index, result, reused=False, reason="it is not memoised")
            return
        name = self._names[index]
        reason = "it was forced" if self._force else "; ".join(self._memo.why(key, name))
        if changed := changed_files(self._arguments(index), key):
            # Made from nobody knows which content: a later run must not find it under the old one's key.
            self._claims.give_back([key.digest])
            reason += f"; its result is not kept: a file in input {', '.join(changed)} changed while it ran"
        else:
            self._keep(
                Result(
                    key=key, name=name, encoded=finished.encoded, seconds=result.seconds, undeclared=result.undeclared
                )
            )
        self._finish(index, result, reused=False, reason=reason)
        self._same[key.digest].remove(index)
        self._finish_all(key.digest, result, f"{name} has the same key")

    def _fail(self, index: int, error: BaseException) -> None:
        num_skipped = len(self._schedule.fail(index)) - 1
        self._failures[index] = Failure(
            name=self._names[index], error=error, arguments=self._arguments(index), num_skipped=num_skipped
        )
        key = self._keys.get(index)
        if key is not None and key.digest in self._same:
            self._claims.give_back([key.digest])
            # What failed for one of a kind would fail for all.
            for same in self._same.pop(key.digest):
                self._schedule.fail(same)

    def _keep(self, result: Result) -> None:
        if not self._unrecorded:
            self._record_at = time.monotonic() + RECORD_WITHIN_S
        self._unrecorded.append(result)

    def _record(self) -> None:
        if self._unrecorded:
            results, self._unrecorded = self._unrecorded, []
            self._memo.keep(results, self._claims.owner)
            self._claims.forget([result.key.digest for result in results])

    def _arguments(self, index: int) -> dict[str, object]:
        node = self._nodes[index]
        return {name: filled(value, self._values.__getitem__) for name, value in node.arguments.items()}
