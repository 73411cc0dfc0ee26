"""Measuring a model on the validation rows: each member takes its share of batches, and all learn the same numbers."""

from collections.abc import Callable

from shoal.train.averaging import averaged
from shoal.train.base import Group, TrainState
from shoal.train.computing import measuring, naming_columns, to_device
from shoal.train.device import explaining_determinism
from shoal.train.feeds import Feed
from shoal.train.layout import devices_of
from shoal.train.logbook import Logbook, collecting, merge_books
from shoal.train.metrics import check_metric
from shoal.train.random_streams import seed_generators, stream_seed
from shoal.train.task import count_rows

# Apart from every stream of training, whose last key is the number of a virtual worker.
_STREAM = 1 << 32


class Validator:
    """Measures the state's model, or the average of its weights, batch by batch.

    The numbers are the same bits for any number of members: batches do not depend on it, and sums are exact.
    """

    def __init__(self, feed: Feed, *, batch_size: int, seed: int) -> None:
        """Cut the feed's first epoch into batches of `batch_size` rows; the seed is that of the run."""
        self._feed = feed
        self._batch_size = batch_size
        self._seed = seed

    def run(
        self, state: TrainState, group: Group, *, before_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Return each measure's mean over all rows, the loss among them; the state is left as it was.

        Args:
            state: what to measure.
            group: who shares the work.
            before_batch: called before each batch of this member's.

        Raises:
            PeerLostError: a member was lost meanwhile; measuring it all again gives what it would have.
        """
        book = Logbook()
        with averaged(state), measuring(state):
            for number, first in enumerate(range(0, self._feed.num_rows, self._batch_size)):
                if number % group.size == group.rank:
                    before_batch()
                    self._measure(state, first, number, book)
        merged = merge_books(group.share(book.pack()))
        return {name: mean.value for name, mean in merged.items()}

    def _measure(self, state: TrainState, first: int, number: int, book: Logbook) -> None:
        size = min(self._batch_size, self._feed.num_rows - first)
        batch = to_device(state.module, self._feed.stretch(0, first, size, 0, 1))
        # As in training: what the task draws depends on the batch alone.
        seed_generators(stream_seed(self._seed, number, _STREAM), devices_of(state.module))
        with collecting(book, count_rows(batch), at_once=True), naming_columns(batch), explaining_determinism():
            measured = state.task.measure(state.module, batch)
        for name, metric in measured.items():
            book.add(name, check_metric(name, metric))


def share_logged(state: TrainState, group: Group) -> dict[str, float]:
    """Return the means of what the task logged in training since `state.logged` was cleared, over all members.

    Call it at the same boundary on every member, when validating and at an epoch's end; clear once nothing can fail any
    more. What a member had logged that died since is missing: the mean is then over the other rows.
    """
    return {name: mean.value for name, mean in merge_books(group.share(state.logged.pack())).items()}
