"""FastAPI on uvicorn, worker processes: `serving_fastapi.py PORT - - WORKERS`.

It has no batching. Every request runs the model in the event loop: with a process for each core, handing it to a
thread only adds the hand-over. Against too many requests uvicorn has `limit_concurrency` alone, which counts
connections whether or not they ask for something: with many of them open it would refuse all.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from serving_session import BadRequestError, answer, open_session, parse, run


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.session = open_session()
    yield


app = FastAPI(lifespan=_lifespan)


@app.post("/predict")
async def predict(request: Request) -> Response:
    """The body is parsed by orjson: the framework's own models take several times as long for 784 numbers."""
    try:
        is_raw, image = parse(await request.body())
    except BadRequestError as error:
        raise HTTPException(422, str(error)) from error
    kind = "application/octet-stream" if is_raw else "application/json"
    return Response(answer(is_raw, run(app.state.session, [image])[0]), media_type=kind)


if __name__ == "__main__":
    uvicorn.run(
        "serving_fastapi:app",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        workers=int(sys.argv[4]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
    )
