import socket

import pytest

from shoal.runtime.frames import RAW
from shoal.runtime.remote.reception import TOKEN_BYTES, Reception, address_towards, call


def test_callers_get_through_to_whoever_expects_their_number(reception, join):
    _, two = join(2)
    _, one = join(1)

    one.write(RAW, b"one")
    two.write(RAW, b"two")
    again = call(reception.address, reception.port, reception.token, 1)
    again.write(RAW, b"one again")
    line = reception.wait(1)

    assert line.read() == (RAW, b"one again")
    line.close()
    again.close()


def test_who_does_not_know_the_token_is_turned_away(reception):
    with pytest.raises(ConnectionError):
        call(reception.address, reception.port, bytes(TOKEN_BYTES), 1)

    assert reception.wait(1, timeout_s=0.05) is None


def test_a_caller_finds_out_that_it_reached_somebody_else():
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        import threading

        def answer():
            connected, _ = stranger.accept()
            connected.sendall(bytes(TOKEN_BYTES))
            connected.recv(1024)
            connected.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionError, match="somebody else"):
            call("127.0.0.1", port, bytes(TOKEN_BYTES), 1)
        thread.join()


def test_a_silent_caller_keeps_nobody_waiting(reception, join):
    with socket.create_connection((reception.address, reception.port)):
        ours, theirs = join()
        theirs.write(RAW, b"through")

        assert ours.read() == (RAW, b"through")


def test_who_gives_up_goes_without(reception):
    reception.give_up(7)

    assert reception.wait(7) is None


def test_numbers_are_given_once(reception):
    assert len({reception.new_number() for _ in range(10)}) == 10


def test_a_port_that_is_taken_is_refused(reception):
    with pytest.raises(OSError, match="in use"):
        Reception("127.0.0.1", reception.port)


def test_a_closed_reception_takes_no_calls(reception):
    reception.close()
    reception.close()

    with pytest.raises(OSError):
        call(reception.address, reception.port, reception.token, 1)


def test_the_way_to_oneself_is_the_loopback():
    assert address_towards("127.0.0.1") == "127.0.0.1"
    assert address_towards("no such host.invalid") == "127.0.0.1"
