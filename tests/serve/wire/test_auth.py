import pytest

from shoal.serve.wire.auth import KeyCheck
from shoal.serve.wire.refusal import RefusedError


@pytest.mark.parametrize(
    "headers",
    [{b"x-api-key": b"secret"}, {b"authorization": b"Bearer secret"}, {b"authorization": b"bearer  secret "}],
)
def test_the_right_key_is_let_through(headers):
    KeyCheck("secret").check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"x-api-key": b""},
        {b"x-api-key": b"Secret"},
        {b"x-api-key": b"secret2"},
        {b"authorization": b"Basic secret"},
        {b"authorization": b"secret"},
        {b"authorization": b"Bearer wrong", b"x-api-key": b"wrong"},
    ],
)
def test_a_missing_or_wrong_key_is_401_and_never_told(headers):
    with pytest.raises(RefusedError) as caught:
        KeyCheck("secret").check(headers)

    assert caught.value.status == 401
    assert "secret" not in caught.value.message


def test_without_a_key_everyone_may_ask():
    KeyCheck(None).check({})

    assert not KeyCheck(None).is_needed
    assert KeyCheck("k").is_needed


def test_a_key_of_other_letters_works():
    KeyCheck("schlüssel").check({b"x-api-key": "schlüssel".encode()})
