"""Stage 7: the service under single-image requests, while one of its replicas is killed."""

import os
import signal

import numpy as np
from numpy.typing import NDArray

from shoal.demo.scene import MODEL, Scene
from shoal.demo.summary import ServingFigures
from shoal.demo.traffic import Answers, send

# The replica dies after this share of the answers: with requests in its hands, on a fast machine and on a slow one.
KILL_AFTER = 1 / 3


def serve_and_kill(
    scene: Scene, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> tuple[ServingFigures, Answers]:
    """Send every test image as its own request, kill one replica on the way, and count what failed."""
    server = scene.running
    victim = server.pids()["replicas"][0]

    def kill_once(num_ended: int) -> None:
        if num_ended == int(KILL_AFTER * len(images)):
            os.kill(victim, signal.SIGKILL)

    with scene.display.working(f"{len(images):,} single-image requests, one replica about to die"):
        answers = send(server.url, MODEL, images, on_answer=kill_once)
    figures = ServingFigures(
        accuracy=answers.accuracy(labels),
        rps=answers.requests_per_s,
        p50_ms=answers.percentile_ms(50),
        p99_ms=answers.percentile_ms(99),
        failed_after_kill=answers.num_failed,
    )
    display = scene.display
    display.line("traffic", f"{len(images):,} requests, {figures.rps:,.0f} a second, accuracy {figures.accuracy:.3f}")
    display.line("latency", f"p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms")
    display.line("killed", f"replica {victim} by SIGKILL: {figures.failed_after_kill} requests failed")
    return figures, answers
