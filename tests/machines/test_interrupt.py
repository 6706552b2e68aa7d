"""Ctrl-C arrives after compiled code, never in the middle of it."""

import signal
import threading

import pytest

from sparsim.machines.interrupt import interrupt_held_back


def test_the_first_waits_and_the_second_does_not():
    reached = []

    def interrupted(times):
        with interrupt_held_back():
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            reached.append(times)

    for times in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            interrupted(times)
    assert reached == [1]


def test_the_handler_is_as_before_and_other_errors_come_through():
    before = signal.getsignal(signal.SIGINT)

    def failing():
        with interrupt_held_back():
            assert signal.getsignal(signal.SIGINT) is not before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_and_ignored_signals_are_left_alone():
    seen = []

    def work():
        with interrupt_held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupt_held_back():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
