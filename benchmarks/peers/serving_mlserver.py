"""MLServer with two parallel workers and adaptive batching: `serving_mlserver.py PORT GRPC_PORT`."""

import asyncio
import sys

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse
from serving_session import MOST_ROWS, NUM_WORKERS, SIDE, open_session


class Runtime(MLModel):
    """The model as a runtime of our own: there is none for ONNX among those it comes with."""

    async def load(self) -> bool:
        """In each worker."""
        self._session = open_session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch."""
        images = NumpyCodec.decode_input(payload.inputs[0])
        if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE):
            raise InferenceError(f"expected uint8 [rows, 28, 28], found {images.dtype} {list(images.shape)}")
        scores = self._session.run(None, {"image": images})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])


async def _serve(port: int, grpc_port: int) -> None:
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=port,
        grpc_port=grpc_port,
        metrics_port=int(sys.argv[3]),
        parallel_workers=NUM_WORKERS,
    )
    model = ModelSettings(name="model", implementation=Runtime, max_batch_size=MOST_ROWS, max_batch_time=0.001)
    await MLServer(settings).start([model])


if __name__ == "__main__":
    # Workers import the runtime by its name, which must not be that of this program.
    from serving_mlserver import Runtime as Runtime

    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
