"""Whether a model draws random numbers, so that the same input may have another answer."""

import mmap
from pathlib import Path

_OPERATORS = (b"RandomNormal", b"RandomUniform", b"Multinomial", b"Bernoulli")
_ONNX_FILE = "model.onnx"


def draws_random_numbers(path: str) -> bool:
    """Whether an ONNX file, or that of a package's folder, may hold an operator that draws.

    The names are looked for in the file's bytes: ONNX Runtime does not list a graph's operators. A model that only has
    such a name in it is taken for one that draws.
    """
    file = Path(path)
    file = file / _ONNX_FILE if file.is_dir() else file
    with file.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(name) >= 0 for name in _OPERATORS)
