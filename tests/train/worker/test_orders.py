from shoal.base import decode, encode
from shoal.train.worker.orders import Meet, Told


def test_a_call_arrives_as_it_was_sent():
    call = Meet(
        generation=3,
        numbers=[4, 1],
        kind="network",
        name="a:1/b",
        checkpoint="/x",
        checkpoint_step=7,
        told=Told(step=9),
    )

    assert Meet.from_message(decode(encode(call.to_message()))) == call


def test_ranks_are_places_in_the_list_of_numbers():
    meeting = Meet(generation=3, numbers=[4, 1], kind="shared", name="here").meeting(1)

    assert (meeting.rank, meeting.size, meeting.generation, meeting.name) == (1, 2, 3, "here")
