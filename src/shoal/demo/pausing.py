"""`shoal demo --pause`: traffic runs, the process ids are on the screen, and the reader is invited to do harm."""

import threading

import numpy as np
from numpy.typing import NDArray

from shoal.demo.scene import MODEL, Scene
from shoal.demo.traffic import send

ROUND = 500


def invite(scene: Scene, images: NDArray[np.uint8]) -> None:
    """Send traffic in rounds and tell what failed, until the reader presses return."""
    display, server = scene.display, scene.running
    pids = server.pids()
    display.note(
        f"\n    The service runs at {server.url} and answers a steady stream of requests.\n"
        f"    Kill what you like from another terminal, for example:  kill -9 {pids['replicas'][0]}\n"
        f"    The front is {pids['front']}, the replicas are {', '.join(map(str, pids['replicas']))}. Return goes on.\n"
    )
    done = threading.Event()
    sender = threading.Thread(target=_send_rounds, args=(scene, images, done), name="pause-traffic", daemon=True)
    sender.start()
    try:
        input()
    except EOFError:
        display.note("    (no terminal to wait for)")
    finally:
        done.set()
        sender.join()


def _send_rounds(scene: Scene, images: NDArray[np.uint8], done: threading.Event) -> None:
    sent = failed = 0
    while not done.is_set():
        answers = send(scene.running.url, MODEL, images[:ROUND])
        sent += len(answers.classes)
        failed += answers.num_failed
        pids = scene.running.pids()
        scene.display.line(
            "so far", f"{sent:,} requests, {failed} failed; replicas {', '.join(map(str, pids['replicas']))}"
        )
        done.wait(1.0)
