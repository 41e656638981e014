"""Signals that end a run at once, after its step, and where Python cannot run a handler."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from maskrcnn.training.signals import EXIT_STATUS, Interruption


@pytest.fixture
def default_handler():
    """Ctrl-C as Python has it, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_with_nothing_to_save_a_signal_ends_the_run_at_once(default_handler, number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Interruption():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_with_something_to_save_it_waits(default_handler):
    with Interruption() as interruption:
        interruption.unsaved = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested
        interruption.noticed()


def test_ignored_signals_stay_ignored(default_handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
    assert not interruption.requested


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def enter():
        with Interruption():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(
    ("has_checkpoint", "expected"), [(True, "resumes from the last checkpoint"), (False, "there is no checkpoint")]
)
def test_a_process_that_cannot_run_the_handler_ends_all_the_same(has_checkpoint, expected):
    """An endless step: the handler waits for its end, the thread does not."""
    code = f"""
import os, signal, threading
from maskrcnn.training import signals
signals.GRACE_SECONDS = 0.2
with signals.Interruption(lambda: {has_checkpoint}) as this:
    this.unsaved = True
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while True:
        pass
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == EXIT_STATUS
    assert "stopped without waiting for the step to end" in result.stderr
    assert expected in result.stderr
