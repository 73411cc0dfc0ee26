"""A client that knows the Open Inference Protocol and nothing of shoal: many single-image requests, none retried."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

CONCURRENCY = 16
TIMEOUT_S = 30.0


@dataclass(kw_only=True)
class Answers:
    """What came back, one entry a request in the order of the images; a failed one has class -1 and its reason."""

    classes: NDArray[np.int64]
    latency_ms: NDArray[np.float64]
    ids: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def num_failed(self) -> int:
        """Requests without a 200: refused, broken off or timed out."""
        return len(self.failures)

    @property
    def requests_per_s(self) -> float:
        """Answered requests a second over the whole run."""
        return (len(self.classes) - self.num_failed) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percent: float) -> float:
        """Latency in milliseconds under which `percent` of the answered requests stayed; NaN when none was answered."""
        answered = self.latency_ms[self.classes >= 0]
        return float(np.percentile(answered, percent)) if answered.size else float("nan")

    def accuracy(self, labels: NDArray[np.integer[Any]]) -> float:
        """Share of all requests, failed ones included, whose class is the label."""
        return float((self.classes == labels).mean())

    def labelled(self, labels: NDArray[np.integer[Any]]) -> list[tuple[str, int]]:
        """Pairs of prediction id and label; a failed request has no id and is left out."""
        return [(id, label) for id, label in zip(self.ids, labels.tolist(), strict=True) if id]


def send(
    url: str,
    model: str,
    images: NDArray[np.uint8],
    *,
    concurrency: int = CONCURRENCY,
    api_key: str | None = None,
    on_answer: Callable[[int], None] | None = None,
) -> Answers:
    """Send one request an image over `concurrency` kept-alive connections and return all answers.

    Args:
        url: of the server, such as "http://127.0.0.1:8080".
        model: its name there.
        images: uint8 [num_images, height, width].
        concurrency: requests in flight; each connection sends its next one as soon as it has its answer.
        api_key: sent as a bearer token.
        on_answer: called with the number of requests that have ended, in the order they end.
    """
    return asyncio.run(_send_all(f"{url}/v2/models/{model}/infer", images, concurrency, api_key, on_answer))


@contextmanager
def traffic(url: str, model: str, images: NDArray[np.uint8], **options: Any) -> Iterator[Future[Answers]]:  # noqa: ANN401 - send's own
    """Run `send` beside the `with` block; the future has the answers once the block and the requests have ended."""
    with ThreadPoolExecutor(1, thread_name_prefix="traffic") as pool:
        yield pool.submit(send, url, model, images, **options)


async def _send_all(
    address: str,
    images: NDArray[np.uint8],
    concurrency: int,
    api_key: str | None,
    on_answer: Callable[[int], None] | None,
) -> Answers:
    answers = Answers(classes=np.full(len(images), -1), latency_ms=np.zeros(len(images)))
    answers.ids, answers.versions = [""] * len(images), [""] * len(images)
    header = _request_header(images.shape[1:])
    headers = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    numbers = iter(range(len(images)))
    began = time.perf_counter()
    async with aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=concurrency),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
    ) as session:
        ended = 0

        async def connection() -> None:
            nonlocal ended
            for number in numbers:
                await _ask(session, address, header + images[number].tobytes(), number, answers)
                ended += 1
                if on_answer is not None:
                    on_answer(ended)

        await asyncio.gather(*(connection() for _ in range(concurrency)))
    answers.seconds = time.perf_counter() - began
    return answers


async def _ask(session: aiohttp.ClientSession, address: str, body: bytes, number: int, answers: Answers) -> None:
    began = time.perf_counter()
    try:
        async with session.post(address, data=body) as response:
            content = await response.read()
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as error:
        answers.failures.append(f"{type(error).__name__}: {error}")
        return
    answers.latency_ms[number] = (time.perf_counter() - began) * 1e3
    if status != 200:
        answers.failures.append(f"{status}: {content[:200].decode(errors='replace')}")
        return
    answer = json.loads(content)
    answers.classes[number] = int(np.argmax(answer["outputs"][0]["data"]))
    answers.ids[number] = answer["parameters"]["prediction_id"]
    answers.versions[number] = answer["model_version"]


def _request_header(shape: tuple[int, ...]) -> bytes:
    size_bytes = int(np.prod(shape))
    tensor = {"name": "image", "shape": [1, *shape], "datatype": "UINT8"}
    return json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size_bytes}}]}).encode()
