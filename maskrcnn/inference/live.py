"""Cameras and streams: the newest frame is taken where a model is slower than they come, and Ctrl-C waits for none."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_S = 0.2  # between looks at whether to stop
LINGER_S = 1.0  # for the thread to end; it may wait for data


def interruptible(call: Callable[[], T]) -> T:
    """Calls in a thread of its own, so that Ctrl-C need not wait for its answer; the thread ends with the program."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # raised again by `result`
            answer.set_exception(error)

    threading.Thread(target=run, name="live", daemon=True).start()
    while not wait([answer], POLL_S).done:
        pass
    return answer.result()


class Newest(Generic[T]):
    """Iterates in a thread of its own, and gives the newest item each time."""

    def __init__(self, items: Iterator[T], stopped: Callable[[], bool]) -> None:
        self._items, self._stopped = items, stopped
        self._waiting: deque[T] = deque(maxlen=1)
        self._changed = threading.Condition()
        self._ended, self._error = False, None
        self._thread = threading.Thread(target=self._read, name="live", daemon=True)
        self.dropped = 0  # items that were replaced by a newer one before they were asked for

    def __iter__(self) -> Iterator[T]:
        self._thread.start()
        while True:
            with self._changed:
                while not self._waiting and not self._ended and not self._stopped():
                    self._changed.wait(POLL_S)
                if self._stopped() or not self._waiting:
                    break
                item = self._waiting.popleft()
            yield item
        if self._error:
            raise self._error

    def close(self) -> bool:
        """Stops reading; returns whether the thread has ended, else it still waits for data."""
        self._ended = True
        if self._thread.is_alive():
            self._thread.join(LINGER_S)
        return not self._thread.is_alive()

    def _read(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    if self._ended:
                        return
                    self.dropped += len(self._waiting)
                    self._waiting.append(item)
                    self._changed.notify()
        except Exception as error:  # raised again where the items are used
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
