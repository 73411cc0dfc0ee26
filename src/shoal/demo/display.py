"""What the reader of the demo sees: one calm line a result, and below them what is going on right now."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

from shoal.store import Store

# How often the live line looks at the store: quick enough to feel alive, slow enough to cost nothing.
POLL_S = 0.4


class Display:
    """Lines and a live status on one console; without a terminal the status is left out and the lines stay.

    One thread prints lines at a time; `working` may be nested inside nothing.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None

    def heading(self, number: int, title: str) -> None:
        """Begin a stage."""
        self.console.print(f"\n[bold]{number:>2}  {title}[/bold]", highlight=False, soft_wrap=True)

    def line(self, label: str, text: str) -> None:
        """One result: a short label and a sentence with its figures."""
        self.console.print(f"    [dim]{label:<11}[/dim] {text}", highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Something the reader should do or know, outside the stages."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show `text` with a spinner while the block runs."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(f"[dim]{text}[/dim]") as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def update(self, text: str) -> None:
        """Replace the live text; nothing happens where none is shown."""
        if self._status is not None:
            self._status.update(f"[dim]{text}[/dim]")


@contextmanager
def follow_training(display: Display, store: Store) -> Iterator[None]:
    """Keep the live line at the newest figures of whichever training run the store tells of.

    Training writes to the store and knows nothing of this display: the line is read from the change stream, as any page
    or trigger would.
    """
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(display, store, done), name="follow-training", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(display: Display, store: Store, done: threading.Event) -> None:
    seen, running = store.last_change(), None
    began = time.monotonic()
    while not done.wait(POLL_S):
        for change in store.changes(seen):
            seen = change.sequence
            if change.kind == "run.started":
                running, began = change.subject, time.monotonic()
            elif change.kind == "run.finished":
                running = None
        if running is not None:
            display.update(_training_text(store, running, time.monotonic() - began))


def _training_text(store: Store, run_id: str, seconds: float) -> str:
    name = store.runs.get(run_id).name
    points = store.metrics.curve(run_id, "train.loss")
    if not points:
        return f"{run_id} {name}: starting workers, {seconds:.0f} s"
    newest = points[-1]
    rate = store.metrics.latest(run_id).get("train.samples_per_s")
    speed = f"  {rate:,.0f} samples/s" if rate else ""
    return f"{run_id} {name}: step {newest.step}  loss {newest.value:.3f}{speed}  {seconds:.0f} s"
