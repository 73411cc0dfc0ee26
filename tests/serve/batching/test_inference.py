import numpy as np

from shoal.serve.batching.inference import Inference
from shoal.serve.desk.connection import Exchange
from shoal.serve.wire.http import Head
from shoal.serve.wire.protocol import InferCall


def test_it_tells_the_queue_what_it_must_know():
    exchange = Exchange(None, Head("POST", "/", {}, keeps_alive=True, is_old=False), 12.5)
    call = InferCall(None, (np.zeros((3, 2)),), 3, ((0, False),))

    request = Inference(exchange, call, "id", 100, form=None, runs_alone=False)

    assert (request.num_rows, request.arrived_s, request.num_tries) == (3, 12.5, 0)
    assert (request.level, request.deadline_s) == (3, float("inf"))
