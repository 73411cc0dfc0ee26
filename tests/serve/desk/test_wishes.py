import pytest

from shoal.serve.batching.admission import draining
from shoal.serve.desk.wishes import Wishes
from shoal.serve.links.messages import WishDone
from shoal.serve.wire.refusal import RefusedError


class Client:
    """Makes wishes, and notes how they end."""

    def __init__(self):
        self.sent, self.ended = [], []
        self.wishes = Wishes(self.sent.append)

    def make(self, model="m", action="load"):
        self.wishes.make(action, model, lambda: self.ended.append((model, 200)), self.refused)
        return self.sent[-1]

    def refused(self, refused):
        self.ended.append(refused)


@pytest.fixture
def client():
    return Client()


def test_a_wish_is_sent_and_its_answer_comes_to_whom_it_is_for(client):
    first, second = client.make("a"), client.make("b", "unload")

    client.wishes.on_done(WishDone(second.id, 200))
    client.wishes.on_done(WishDone(first.id, 200))

    assert [(wish.action, wish.model) for wish in (first, second)] == [("load", "a"), ("unload", "b")]
    assert client.ended == [("b", 200), ("a", 200)]
    assert client.wishes.num_waiting == 0


def test_no_front_has_a_wish_of_another_s_id(client):
    assert client.make().id != Client().make().id


@pytest.mark.parametrize(
    ("status", "field", "retry_after_s"), [(404, "path", None), (422, None, None), (503, None, 1.0)]
)
def test_a_refusal_comes_with_its_reason(client, status, field, retry_after_s):
    client.wishes.on_done(WishDone(client.make().id, status, "it is cut", "mend it"))

    (refused,) = client.ended
    assert (refused.status, refused.field, refused.retry_after_s) == (status, field, retry_after_s)
    assert str(refused) == "it is cut; next: mend it"


def test_an_answer_for_a_front_that_died_is_dropped(client):
    client.wishes.on_done(WishDone("of another", 200))

    assert client.ended == []


def test_wishes_are_bounded(client):
    for _ in range(32):
        client.make()

    with pytest.raises(RefusedError, match="are being loaded or unloaded already") as caught:
        client.make()
    client.wishes.on_done(WishDone(client.sent[0].id, 200))
    client.make()

    assert caught.value.status == 503


def test_when_the_server_stops_all_that_wait_hear_so(client):
    first = client.make()
    client.wishes.refuse_all(draining())
    client.wishes.on_done(WishDone(first.id, 200))

    assert [refused.status for refused in client.ended] == [503]
