"""SIGTERM and Ctrl-C: a run saves what it can and leaves within seconds."""

import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any

from tqdm import tqdm

GRACE_SECONDS = 10.0  # for the end of a training step; after that the last checkpoint must do
PROMPT_SECONDS = 2.0  # for anything else to end
EXIT_STATUS = 130  # of the shell, for Ctrl-C


class Interruption:
    """Used as a context, it takes Ctrl-C and SIGTERM; a second one has its usual effect.

    While there is something to save at the end of the step (``unsaved``), a signal only sets ``requested``: whoever
    saves then raises KeyboardInterrupt. At any other time the signal raises it at once. Python handles signals between
    two of its instructions only; where a compilation or a long operation keeps it from that, a thread ends the process.
    """

    def __init__(self) -> None:
        self.unsaved = False
        self.requested = False
        self._handlers: dict[signal.Signals, Any] = {}
        self._noticed = threading.Event()

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may take signals
        for name in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(name) is not signal.SIG_IGN:  # as nohup and `&` want it
                self._handlers[name] = signal.signal(name, self._handle)
        if self._handlers:
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._earlier = signal.set_wakeup_fd(self._writer.fileno())  # told even while Python is kept waiting
            threading.Thread(target=self._watch, args=(tuple(self._handlers),), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.noticed()
        if self._handlers:
            self._restore_handlers()
            signal.set_wakeup_fd(self._earlier)
            self._writer.close()  # which ends the thread

    def noticed(self) -> None:
        """Says that the run is leaving, however long its last checkpoint takes."""
        self._noticed.set()

    def _restore_handlers(self) -> None:
        for name, handler in self._handlers.items():
            signal.signal(name, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._restore_handlers()
        if not self.unsaved:
            self.noticed()
            raise KeyboardInterrupt
        self.requested = True
        tqdm.write("saving a checkpoint after this step; again to stop at once", file=sys.stderr)

    def _watch(self, numbers: tuple[int, ...]) -> None:
        with self._reader:
            while data := self._reader.recv(1):
                if data[0] in numbers and not self._noticed.wait(GRACE_SECONDS if self.unsaved else PROMPT_SECONDS):
                    tqdm.write("left in the middle of a step; the last checkpoint stays", file=sys.stderr)
                    sys.stderr.flush()
                    os._exit(EXIT_STATUS)
