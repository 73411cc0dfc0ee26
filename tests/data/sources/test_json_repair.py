import pyarrow as pa
import pytest

from shoal.data.sources.json_repair import find_faults
from shoal.data.sources.records import find_records

SCHEMA = pa.schema(
    [
        ("i", pa.int8()),
        ("u", pa.uint8()),
        ("f", pa.float32()),
        ("b", pa.bool_()),
        ("s", pa.string()),
        ("l", pa.list_(pa.int64())),
        ("p", pa.struct([("q", pa.int64())])),
    ]
)


@pytest.mark.parametrize(
    "line",
    [b'{"i":-128,"u":255,"f":1,"b":true,"s":"a","l":[1,null],"p":{"q":1}}', b'{"i":null,"p":null}', b"{}"],
)
def test_what_fits_has_no_fault(line: bytes) -> None:
    assert find_faults(line, find_records(line), SCHEMA, lambda data: pa.table({})) == {}


@pytest.mark.parametrize(
    ("line", "reason", "may_need_a_wider_type"),
    [
        (b'{"i":128}', "key 'i' is 128, expected int8", True),
        (b'{"i":true}', "key 'i' is true, expected int8", True),
        (b'{"u":-1}', "key 'u' is -1, expected uint8", True),
        (b'{"f":"1"}', "key 'f' is \"1\", expected float", True),
        (b'{"l":[1.5]}', "key 'l' is [1.5]", True),
        (b'{"p":{"q":"a"}}', "key 'p.q' is \"a\"", True),
        (b'{"p":{"r":1}}', "key 'p.r' is not among the known ones", True),
        (b'{"p":1}', "key 'p' is 1", True),
        (b'"text"', "it is a JSON str, expected an object", False),
        (b'{"i":', "it is no JSON", False),
    ],
)
def test_what_does_not_fit_is_told(line: bytes, reason: str, may_need_a_wider_type: bool) -> None:
    faults = find_faults(line, find_records(line), SCHEMA, lambda data: pa.table({}))

    assert faults[0].reason.startswith(reason)
    assert faults[0].may_need_a_wider_type == may_need_a_wider_type


def test_what_only_the_parser_refuses_is_found_by_halving() -> None:
    data = b"".join(b'{"i":%d}\n' % index for index in range(100))

    def read(part: bytes) -> pa.Table:
        if b":42}" in part:
            raise pa.ArrowInvalid("no answer")
        return pa.table({})

    assert list(find_faults(data, find_records(data), SCHEMA, read)) == [42]
