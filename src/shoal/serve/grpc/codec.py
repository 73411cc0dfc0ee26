"""One version's requests and answers over gRPC: messages to arrays, outputs to messages.

As strict as over HTTP, in the same words: what the model would not see exactly as the client meant it is refused. An
answer has the form of its request: raw contents for raw contents, typed ones for typed ones.
"""

import functools
from collections.abc import Mapping
from typing import Any

from shoal.serve.grpc.contents import has_typed, read_raw, read_typed, write_raw, write_typed
from shoal.serve.grpc.messages import InferRequest, put_parameters, put_tensor_head
from shoal.serve.grpc.wire import put_bytes, put_head, put_text
from shoal.serve.wire.interface import InputPlaces, Interface
from shoal.serve.wire.outputs import RequestOutputs
from shoal.serve.wire.protocol import AnswerWriter, Encoded, InferAnswer, InferCall
from shoal.serve.wire.refusal import shorten, wrong_field
from shoal.serve.wire.tensors import Array

# Extensions that would change what is read or answered: ignoring them would answer something else than was asked for.
_NOT_HERE = ("classification", "shared_memory_region")
_MOST_KEPT = 64


class Codec:
    """Reads and writes for one interface. Used by the event loop alone."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self._places = InputPlaces(interface)
        self._outputs = {each.name: place for place, each in enumerate(interface.outputs)}
        self._writers: dict[tuple[tuple[int, ...], bool], _Writer] = {}

    def decode(self, request: InferRequest) -> InferCall:
        """Read a request's tensors.

        Raises:
            RefusedError: 400, with the field, what was found and what was expected.
        """
        if request.parameters.get("sequence_id"):
            raise wrong_field(
                "parameters.sequence_id",
                found=request.parameters["sequence_id"],
                expected="none: models here keep no state",
            )
        if request.raw and len(request.raw) != len(request.inputs):
            raise wrong_field(
                "raw_input_contents",
                found=f"{len(request.raw)} of them",
                expected=f"one for each of the {len(request.inputs)} inputs, or none",
            )
        arrays = self._read_inputs(request)
        return InferCall(request.id or None, arrays, self.interface.count_rows(arrays), self._writer(request))

    def _read_inputs(self, request: InferRequest) -> tuple[Array, ...]:
        arrays: dict[int, Array] = {}
        for number, tensor in enumerate(request.inputs):
            place, field = self._places.find(tensor.name, tensor.datatype, tensor.shape, arrays)
            if tensor.parameters:
                _check_parameters(f"inputs.{field.name}", tensor.parameters)
            array = read_raw(tensor, field, request.raw[number]) if request.raw else read_typed(tensor, field)
            arrays[place] = array.reshape(tensor.shape)
        return self.interface.in_order(arrays)

    def _writer(self, request: InferRequest) -> "_Writer":
        places: list[int] = []
        for wish in request.outputs:
            place = self._outputs.get(wish.name)
            if place is None or place in places:
                raise wrong_field(
                    f"outputs.{shorten(wish.name)}",
                    found="an output that the model does not have" if place is None else "the same output twice",
                    expected=f"each once of {', '.join(self._outputs)}",
                )
            if wish.parameters:
                _check_parameters(f"outputs.{wish.name}", wish.parameters)
            places.append(place)
        key = (tuple(places), bool(request.raw))
        writer = self._writers.get(key)
        if writer is None:
            # There are as many as orders of outputs: a client that tries them all must not fill the memory.
            if len(self._writers) > _MOST_KEPT:
                self._writers.clear()
            writer = self._writers[key] = _Writer(self.interface, *key)
        return writer


class _Writer(AnswerWriter):
    """Writes ModelInferResponse with certain outputs, all of them when none are named."""

    def __init__(self, interface: Interface, places: tuple[int, ...], is_raw: bool) -> None:
        self._interface = interface
        self._places = places or tuple(range(len(interface.outputs)))
        # All in one form: a client finds the raw contents of an output by its place among all outputs.
        self._is_raw = is_raw or not all(has_typed(interface.outputs[place].datatype) for place in self._places)
        self._heads: dict[tuple[int, tuple[int, ...]], bytes] = {}

    def encode(self, answer: InferAnswer, outputs: RequestOutputs) -> Encoded:
        """Write the message."""
        parts = [
            _names(answer.model_name, answer.model_version),
            put_text(3, answer.id),
            put_parameters(4, answer.parameters),
        ]
        raw: list[bytes] = []
        for place in self._places:
            shape = outputs.shape(place)
            if self._is_raw:
                content = write_raw(outputs.array(place))
                parts.append(self._head(place, shape))
                raw.append(put_bytes(6, content))
            else:
                head = self._tensor(place, shape)
                contents = put_bytes(5, write_typed(outputs.array(place), self._interface.outputs[place].datatype))
                parts += (put_head(5, len(head) + len(contents)), head, contents)
        return b"".join(parts + raw), None

    def _head(self, place: int, shape: tuple[int, ...]) -> bytes:
        """What a message says of an output beside its raw contents."""
        head = self._heads.get((place, shape))
        if head is None:
            # Batches come in few sizes, but a client may try them all.
            if len(self._heads) > _MOST_KEPT:
                self._heads.clear()
            head = self._heads[place, shape] = put_bytes(5, self._tensor(place, shape))
        return head

    def _tensor(self, place: int, shape: tuple[int, ...]) -> bytes:
        field = self._interface.outputs[place]
        return put_tensor_head(field.name, field.datatype, shape)


@functools.lru_cache(maxsize=_MOST_KEPT)
def _names(model: str, version: str) -> bytes:
    return put_text(1, model) + put_text(2, version)


def _check_parameters(where: str, parameters: Mapping[str, Any]) -> None:
    for name in _NOT_HERE:
        if parameters.get(name):
            raise wrong_field(f"{where}.parameters.{name}", found=parameters[name], expected="no such parameter")
