import signal
import threading

import pytest

from shoal.runtime.env.signals import AskedToStopError, Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_raises_once_in_the_main_thread(number):
    before = signal.getsignal(number)
    signals = Signals()

    with signals.caught():
        with pytest.raises(AskedToStopError, match=number.name):
            signal.raise_signal(number)
        signal.raise_signal(number)

    assert signal.getsignal(number) == before


def test_inside_the_block_somebody_else_is_told():
    told = []
    signals = Signals()

    with signals.caught(), signals.told_to(lambda: told.append(True)):
        signal.raise_signal(signal.SIGTERM)

    assert told == [True]


def test_another_thread_can_wake_the_main_thread():
    signals = Signals()

    with signals.caught():
        threading.Timer(0.05, signals.raise_in_main_thread).start()
        with pytest.raises(AskedToStopError):
            threading.Event().wait(60)


def test_in_another_thread_nothing_changes():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def run():
        with Signals().caught():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert seen == [before]
