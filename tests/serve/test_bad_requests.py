"""The corpus of bad requests, kept as data, against a real server: each is refused by name, and the server goes on.

`bad_requests/make.py` tells how the corpus is made and what its lines hold.
"""

import contextlib
import json
from pathlib import Path

import pytest

CORPUS = Path(__file__).parent / "bad_requests" / "requests.jsonl"
REQUESTS = [json.loads(line) for line in CORPUS.read_text().splitlines()]
GOOD = b'{"image": [[1, 2], [3, 4]]}'


def bytes_of(request) -> bytes:
    return b"".join(text.encode("latin-1") * times for text, times in request["send"])


def test_the_corpus_is_large_and_its_names_are_unique():
    assert len(REQUESTS) >= 200
    assert len({request["name"] for request in REQUESTS}) == len(REQUESTS)


@pytest.mark.parametrize("request_", REQUESTS, ids=[request["name"][:60] for request in REQUESTS])
def test_it_is_refused_and_the_server_goes_on(request_, server, connect):
    wire = connect(server.port)

    # Where the server closes before it has read all, what it said is still there to be read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        wire.send(bytes_of(request_))
    status, headers, body = wire.receive()

    answer = json.loads(body)
    assert 400 <= status <= 431
    assert status == request_["status"], answer
    assert answer["field"]
    assert answer["expected"]
    assert answer["next"]
    assert request_["field"] in (None, answer["field"])
    if request_["closes"]:
        assert headers["connection"] == "close"
        assert wire.is_closed()
        wire = connect(server.port)
    assert wire.ask("POST", "/predict", GOOD, Content_Type="application/json")[0] == 200
