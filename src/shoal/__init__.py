"""shoal takes a model from raw data to a service that watches itself and retrains."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal import base as base
    from shoal import compress as compress
    from shoal import data as data
    from shoal import flow as flow
    from shoal import model as model
    from shoal import runtime as runtime
    from shoal import serve as serve
    from shoal import store as store
    from shoal import train as train
    from shoal import watch as watch
    from shoal.base import ShoalError as ShoalError
    from shoal.base import secret as secret
    from shoal.train import Task as Task

__version__ = "0.1.0"
__all__ = [
    "ShoalError",
    "Task",
    "__version__",
    "base",
    "compress",
    "data",
    "flow",
    "model",
    "runtime",
    "secret",
    "serve",
    "store",
    "train",
    "watch",
]
__getattr__ = lazy_face(
    __name__,
    {
        **dict.fromkeys(
            ["base", "compress", "data", "flow", "model", "runtime", "serve", "store", "train", "watch"], ""
        ),
        "ShoalError": "base:ShoalError",
        "Task": "train:Task",
        "secret": "base:secret",
    },
)
