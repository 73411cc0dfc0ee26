"""What the runtime gives to a replica, without a supervisor, and where a front would listen."""

import os
import socket
import threading

import pytest


class Member:
    rank = 3

    def __init__(self):
        self.stopping = threading.Event()
        self._ends = os.pipe()

    def fileno(self):
        return self._ends[0]

    def receive_nowait(self):
        return None

    def stop(self):
        self.stopping.set()
        os.write(self._ends[1], b"\0")

    def close(self):
        for end in self._ends:
            os.close(end)


@pytest.fixture
def member():
    member = Member()
    yield member
    member.close()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener
