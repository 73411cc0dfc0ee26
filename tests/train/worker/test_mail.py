import pytest
from tests.train.conftest import Line

from shoal.train.worker.mail import Mail
from shoal.train.worker.orders import Meet, Told


def call(generation, *, planned=False):
    return Meet(
        generation=generation, numbers=[0, 1], kind="shared", name="here", planned=planned, told=Told(step=generation)
    )


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def mail(line):
    return Mail(line)


def test_the_newest_call_is_taken_and_older_ones_are_forgotten(mail, line):
    line.messages.extend(call(generation).to_message() for generation in (1, 3, 2))

    assert mail.take() == call(3)
    line.messages.append(call(2).to_message())
    assert not mail.has_call


def test_a_planned_call_interrupts_nobody(mail, line):
    line.messages.append(call(1, planned=True).to_message())

    assert mail.has_call
    assert not mail.is_interrupted()


def test_a_loss_interrupts_also_when_more_was_planned_since(mail, line):
    line.messages.append(call(1).to_message())
    line.messages.append(call(2, planned=True).to_message())

    assert mail.is_interrupted()
    assert mail.take() == call(2, planned=True)
    assert not mail.is_interrupted()


def test_who_is_asked_to_end_waits_for_nothing(mail, line):
    line.stopping.set()

    assert mail.is_interrupted()
    assert mail.take() is None


def test_the_call_given_at_the_start_is_the_oldest(mail, line):
    mail.begin_with(call(0))
    line.messages.append(call(0).to_message())

    assert not mail.has_call
