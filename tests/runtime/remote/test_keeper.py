import msgspec
import psutil

from shoal.runtime.frames import RAW
from shoal.runtime.remote.keeper import Keeper
from shoal.runtime.remote.line import ASKED, EXITED, FINISH, KILL, LAUNCH, STARTED, TERMINATE
from shoal.runtime.remote.words import Birth, End, Orders
from shoal.testing import members


def order(launch):
    return msgspec.msgpack.encode(Orders.of(launch))


def test_a_member_is_started_heard_and_ended(join, make_launch, run_in_thread):
    ours, theirs = join()
    run_in_thread(Keeper(theirs, host="here").serve)

    ours.write(LAUNCH, order(make_launch(members.echo)))
    kind, body = ours.read()
    ours.write(RAW, b"hello")
    answer = ours.read()
    ours.write(TERMINATE)
    end = ours.read()
    ours.hang_up()

    assert (kind, msgspec.msgpack.decode(body, type=Birth).host) == (STARTED, "here")
    assert answer == (RAW, b"hello")
    assert end[0] == EXITED
    assert msgspec.msgpack.decode(end[1], type=End).failure is None


def test_a_keeper_that_loses_its_supervisor_leaves_no_member(join, make_launch, run_in_thread):
    ours, theirs = join()
    keeper = run_in_thread(Keeper(theirs).serve)
    ours.write(LAUNCH, order(make_launch(members.flood, {"num_messages": 10**6, "num_bytes": 80_000})))
    member = psutil.Process(msgspec.msgpack.decode(ours.read()[1], type=Birth).pid)

    ours.close()
    keeper.join()

    assert not member.is_running()


def test_a_member_that_takes_no_messages_can_still_be_killed(join, make_launch, run_in_thread):
    ours, theirs = join()
    run_in_thread(Keeper(theirs).serve)
    ours.write(LAUNCH, order(make_launch(members.ignore_stop)))
    member = psutil.Process(msgspec.msgpack.decode(ours.read()[1], type=Birth).pid)
    ours.read()
    member.suspend()

    for _ in range(20):
        ours.write(RAW, bytes(1_000_000))
    ours.write(KILL)
    end = msgspec.msgpack.decode(ours.read()[1], type=End)
    ours.hang_up()

    assert end.signal == 9


def test_what_the_supervisor_leaves_comes_back(join):
    ours, theirs = join()
    ours.write(FINISH, b"the outcome")

    assert Keeper(theirs).serve() == b"the outcome"


def test_a_keeper_that_is_asked_to_stop_tells(join, run_in_thread):
    ours, theirs = join()
    keeper = Keeper(theirs)
    run_in_thread(keeper.serve)

    keeper.ask_to_stop()

    assert ours.read() == (ASKED, b"")
    ours.hang_up()
