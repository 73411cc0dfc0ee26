import threading

from shoal.runtime import Exited, Member, Report, Started
from shoal.runtime.inbox import Inbox

MEMBER = Member("worker", 0)
STARTED = Started(MEMBER, 1)
EXITED = Exited(MEMBER, 1, 0, None, None)


def test_events_are_taken_once_and_in_order():
    inbox = Inbox()
    events = [STARTED, Report(MEMBER, 1), Report(MEMBER, 2), EXITED]
    for event in events:
        inbox.put(event)

    assert list(inbox.take(timeout_s=0)) == events
    assert list(inbox.take(timeout_s=0)) == []


def test_taking_waits_for_an_event():
    inbox = Inbox()
    taken = []
    taker = threading.Thread(target=lambda: taken.extend(inbox.take()))
    taker.start()

    inbox.put(STARTED)
    inbox.close()
    taker.join()

    assert taken == [STARTED]


def test_a_closed_inbox_gives_what_it_has_and_is_then_over():
    inbox = Inbox()
    inbox.put(EXITED)
    inbox.close()
    was_over = inbox.is_over

    assert list(inbox.take()) == [EXITED]
    assert not was_over
    assert inbox.is_over


def test_reports_wait_for_room_until_one_is_taken():
    inbox = Inbox(max_unread_reports=2)
    inbox.put(Report(MEMBER, 1))
    inbox.put(Report(MEMBER, 2))
    had_room = threading.Event()
    waiter = threading.Thread(target=lambda: (inbox.wait_for_room(unless=lambda: False), had_room.set()))
    waiter.start()
    blocked = not had_room.wait(0.02)

    next(inbox.take())
    waiter.join()

    assert blocked
    assert had_room.is_set()


def test_starts_and_exits_need_no_room():
    inbox = Inbox(max_unread_reports=1)
    for event in [STARTED, EXITED] * 10:
        inbox.put(event)

    inbox.wait_for_room(unless=lambda: False)

    assert len(list(inbox.take(timeout_s=0))) == 20


def test_the_reports_of_the_dead_need_no_room():
    inbox = Inbox(max_unread_reports=1)
    inbox.put(Report(MEMBER, 1))
    is_dead = False
    waiter = threading.Thread(target=inbox.wait_for_room, args=(lambda: is_dead,))
    waiter.start()

    is_dead = True
    inbox.wake()
    waiter.join()

    assert not waiter.is_alive()
