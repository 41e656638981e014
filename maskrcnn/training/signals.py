"""SIGTERM and Ctrl-C: a run saves a checkpoint and ends within seconds."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from tqdm import tqdm

GRACE_SECONDS = 10.0  # for the training step to end
PROMPT_SECONDS = 2.0  # for anything else to end
EXIT_STATUS = 130  # as the shell has it for Ctrl-C


class Interruption:
    """A context that handles Ctrl-C and SIGTERM; a second one has its usual effect.

    While a step is ``unsaved``, a signal only sets ``requested``: the callback that saves the step then raises
    KeyboardInterrupt. At any other time the signal raises it at once. Python runs a handler only between two of its
    instructions; if a compilation or another long operation prevents that, a thread ends the process.

    Args:
        has_checkpoint: whether there is a checkpoint to resume from, for the message of that thread.
    """

    def __init__(self, has_checkpoint: Callable[[], bool] = lambda: False) -> None:
        self.has_checkpoint = has_checkpoint
        self.unsaved = False
        self.requested = False
        self._handlers: dict[signal.Signals, Any] = {}
        self._noticed = threading.Event()

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may handle signals
        for name in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(name) is not signal.SIG_IGN:  # as nohup and `&` set it
                self._handlers[name] = signal.signal(name, self._handle)
        if self._handlers:
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._earlier = signal.set_wakeup_fd(self._writer.fileno())  # written to even while the handler waits
            threading.Thread(target=self._watch, args=(tuple(self._handlers),), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.noticed()
        if self._handlers:
            self._restore_handlers()
            signal.set_wakeup_fd(self._earlier)
            self._writer.close()  # which ends the thread

    def noticed(self) -> None:
        """Keeps the thread from ending the process: the run ends by itself once its last checkpoint is written."""
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
        tqdm.write("saving a checkpoint after this step; press Ctrl-C again to stop at once", file=sys.stderr)

    def _watch(self, numbers: tuple[int, ...]) -> None:
        with self._reader:
            while data := self._reader.recv(1):
                if data[0] in numbers and not self._noticed.wait(GRACE_SECONDS if self.unsaved else PROMPT_SECONDS):
                    checkpoint = "the same command resumes from the last" if self.has_checkpoint() else "there is no"
                    tqdm.write(f"stopped without waiting for the step to end; {checkpoint} checkpoint", file=sys.stderr)
                    sys.stderr.flush()
                    os._exit(EXIT_STATUS)
