import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.wire.answer_text import AnswerText
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.outputs import BatchOutputs
from shoal.serve.wire.protocol import InferAnswer, Protocol

OUTPUTS = (
    TensorField("logits", "FP32", (None, 3)),
    TensorField('odd "%d" name', "INT64", (None,)),
    TensorField("kept", "FP64", (None, 2, 1)),
)


@pytest.fixture
def outputs():
    logits = np.array([[0.1, -2.5, 1e-20], [3e8, 0.0, -0.0], [1, 2, 3]], np.float32)
    return BatchOutputs([logits, np.array([-1, 0, 2**62]), np.arange(6.0).reshape(3, 2, 1)], batched=True)


def by_protocol(outputs, model, version, prefix, request_id, row, start, stop):
    protocol = Protocol(Interface((TensorField("x", "FP32", (None,)),), OUTPUTS, batched=True))
    answer = InferAnswer(model, version, request_id, {"prediction_id": f"{prefix}.{row}"}, [])
    return protocol.encode(answer, outputs.rows(start, stop), protocol.ordinary_wishes)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 2), (0, 3), (1, 3)])
def test_it_writes_what_the_protocol_writes(outputs, start, stop):
    text = AnswerText(OUTPUTS, outputs, "fashion", "3", "fashion@3.abc")

    found = text.write("mine", 17, start, stop)

    assert (found, None) == by_protocol(outputs, "fashion", "3", "fashion@3.abc", "mine", 17, start, stop)
    assert json.loads(found)["parameters"] == {"prediction_id": "fashion@3.abc.17"}


@given(names=st.lists(st.text(max_size=8), min_size=4, max_size=4), row=st.integers(0, 2**60))
def test_names_and_ids_may_hold_any_letter(names, row):
    model, version, prefix, request_id = names
    outputs = BatchOutputs([np.zeros((1, 3), np.float32), np.zeros(1, np.int64), np.zeros((1, 2, 1))], batched=True)

    found = AnswerText(OUTPUTS, outputs, model, version, prefix).write(request_id, row, 0, 1)

    assert (found, None) == by_protocol(outputs, model, version, prefix, request_id, row, 0, 1)
