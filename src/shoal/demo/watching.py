"""Stage 8: clean traffic raises no alert, changed images do, and late labels show what they cost."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shoal.demo.corruption import ANGLE_DEGREES, NOISE_LEVELS, corrupt
from shoal.demo.scene import MODEL, Scene
from shoal.demo.traffic import Answers, send
from shoal.model import Package
from shoal.watch import Watcher, Window, accuracy, label_many

WINDOW_ROWS = 180
# What the report draws: one score of the model, and three statements about the pixels.
DRAWN = ("scores.confidence", "image.mean", "image.std", "image")


@dataclass(slots=True)
class DriftStory:
    """Everything the watcher saw, window by window; `changed_at` is the first window of changed images."""

    distances: dict[str, list[float]] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    changed_at: int = 0
    false_alerts: int = 0
    windows_to_alert: int = 0
    columns: tuple[str, ...] = ()
    accuracy_during: float = float("nan")

    @property
    def num_windows(self) -> int:
        """Windows seen so far."""
        return max((len(values) for values in self.distances.values()), default=0)

    def take(self, windows: Iterable[Window]) -> list[Window]:
        """Add windows to the curves and return them."""
        taken = list(windows)
        for window in taken:
            for drift in window.report.columns:
                if drift.column in DRAWN and drift.measure == "ks":
                    self.distances.setdefault(drift.column, []).append(drift.distance)
                    self.thresholds[drift.column] = drift.threshold
        return taken


def watch_clean(scene: Scene, package: Package, *, since_row: int) -> tuple[Watcher, DriftStory]:
    """Compare the clean traffic logged since a row with the training profile and count false alerts."""
    assert package.profile is not None
    scene.running.sync_log()
    watcher = Watcher(
        scene.log_folder, package.profile, window_rows=WINDOW_ROWS, since_row=since_row, store=scene.store
    )
    story = DriftStory()
    clean = story.take(watcher.windows())
    story.false_alerts = sum("raise" in window.actions for window in clean)
    story.changed_at = story.num_windows
    scene.display.line("clean", f"{len(clean)} windows of {WINDOW_ROWS} requests, {story.false_alerts} alerts")
    return watcher, story


def watch_changed(
    scene: Scene, watcher: Watcher, story: DriftStory, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Answers:
    """Send changed images until all are answered, tell the watcher's finding, then let the labels come in."""
    first_row = watcher.next_row
    with scene.display.working("the camera tilts and its sensor turns noisy"):
        answers = send(scene.running.url, MODEL, corrupt(images, seed=1))
    scene.running.sync_log()
    windows = story.take(watcher.windows())
    raised = next((number for number, window in enumerate(windows, 1) if "raise" in window.actions), 0)
    story.windows_to_alert = raised
    display = scene.display
    display.line(
        "changed", f"{len(images):,} images rotated by {ANGLE_DEGREES:.0f}°, noise of {NOISE_LEVELS:.0f} levels"
    )
    if raised:
        report = windows[raised - 1].report
        story.columns = tuple(dict.fromkeys(drift.column for drift in report.columns if drift.drifted))
        display.line("ALERT", f"after {raised} windows: {', '.join(story.columns)} moved")
    label_many(answers.labelled(labels), store=scene.store)
    (found,) = accuracy(scene.log_folder, store=scene.store, since_row=first_row)
    story.accuracy_during = found.accuracy
    display.line("labels", f"{found.num_labelled:,} came in late: accuracy {found.accuracy:.3f}")
    return answers
