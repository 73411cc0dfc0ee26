"""The ordinary answer, all outputs as JSON: between requests of one version only ids and numbers differ."""

import functools
from collections.abc import Sequence

import msgspec

from shoal.serve.wire.interface import TensorField
from shoal.serve.wire.outputs import BatchOutputs

_encode = msgspec.json.Encoder().encode


class AnswerText:
    """Writes the answers to requests of one batch: the same bytes as `Protocol.encode`, by filling in a form."""

    def __init__(
        self, fields: Sequence[TensorField], outputs: BatchOutputs, model: str, version: str, prefix: str
    ) -> None:
        """Prepare the form.

        Args:
            fields: the outputs, as the interface has them.
            outputs: of a batch whose first dimension counts rows.
            model: its name.
            version: its version.
            prefix: of the batch's prediction ids, which end in the number of the row.
        """
        shapes = tuple(tuple(array.shape[1:]) for array in outputs.arrays)
        names = tuple((field.name, field.datatype) for field in fields)
        self._outputs = outputs
        self._form = _form(model, version, prefix, names, shapes)
        self._places = range(len(names))

    def write(self, request_id: str, row: int, start: int, stop: int) -> bytes:
        """The body for the request whose rows are from `start` to `stop`, the first of them logged as number `row`."""
        count = stop - start
        values: list[object] = [_encode(request_id), row]
        for place in self._places:
            rows = self._outputs.rows(start, stop)
            values += (count, _encode(rows.numbers(place)))
        return self._form % tuple(values)


# A batch's form is that of the batch before, until the version or its log changes.
@functools.lru_cache(maxsize=64)
def _form(
    model: str, version: str, prefix: str, names: tuple[tuple[str, str], ...], shapes: tuple[tuple[int, ...], ...]
) -> bytes:
    tensors = (
        b'{"name":%b,"datatype":%b,"shape":[%%d%b],"data":%%b}'
        % (_text(name), _text(datatype), b"".join(b",%d" % size for size in shape))
        for (name, datatype), shape in zip(names, shapes, strict=True)
    )
    return b'{"model_name":%b,"model_version":%b,"id":%%b,"parameters":{"prediction_id":%b.%%d"},"outputs":[%b]}' % (
        _text(model),
        _text(version),
        # The number of the row stands before the quote that closes the id.
        _text(prefix)[:-1],
        b",".join(tensors),
    )


def _text(value: str) -> bytes:
    return _encode(value).replace(b"%", b"%%")
