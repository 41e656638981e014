"""Downloads files: interrupted downloads resume, checksums are verified, and a per-user cache keeps the results.

A server is not trusted: addresses and redirects are HTTP only, and each answer has limits of time, rate and size.
"""

import contextlib
import errno
import hashlib
import os
import queue
import shutil
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.runtime.addresses import check_url, file_name, redirected
from maskrcnn.runtime.files import locked, writing

CHUNK = 1 << 20  # bytes
ATTEMPTS = 5  # in a row without receiving a byte
TIMEOUT = 60  # seconds without an answer, and over which the rate is measured
MIN_RATE = 1000  # bytes a second
PATIENCE = 60  # seconds for which the disk may take nothing
MAX_BYTES = 64 << 30  # of a file; the largest, COCO's train2017.zip, has 19 GB
MAX_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)


def cache_dir() -> Path:
    """The user's cache folder: ``MASKRCNN_CACHE``, or ``maskrcnn`` in the place that the system has for caches."""
    if own := os.environ.get("MASKRCNN_CACHE"):
        return Path(own)
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent) / "maskrcnn"


def fetch_once(
    url: str, path: Path, *, md5: str | None = None, sha256: str | None = None, progress: bool = True
) -> None:
    """Downloads ``url`` to ``path`` unless it is there; of several processes, one downloads and the others wait.

    Raises:
        UserError: see `fetch`; or the folder cannot be written.
    """
    with writing(path, "free disk space, or name another folder in the environment variable MASKRCNN_CACHE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent, wait=True):
            if not path.exists():
                fetch(url, path, md5=md5, sha256=sha256, progress=progress)


def fetch(url: str, path: Path, *, md5: str | None = None, sha256: str | None = None, progress: bool = True) -> None:
    """Downloads ``url`` to ``path`` through ``path.partial``, from which a later call resumes.

    Args:
        url: address of the file.
        path: the file to write.
        md5: the checksum in hexadecimal, or its first digits.
        sha256: the checksum in hexadecimal, or its first digits.
        progress: whether to show a progress bar (on a terminal).

    Raises:
        UserError: the server refuses, keeps failing, is too slow or sends too much, or the file is damaged.
        OSError: the disk failed.
    """
    partial = path.with_name(path.name + ".partial")
    failures, before = 0, -1
    while True:
        try:
            if _fetch_rest(url, partial, progress):
                break
            reason, unreachable = "the connection was cut", False
        except urllib.error.HTTPError as error:
            error.close()
            reason, unreachable = f"the server answers {error.code} {str(error.reason)[:100]}", False
            if error.code < 500:
                raise UserError(f"{url}: {reason}; check the address") from error
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            cause = getattr(error, "reason", error)
            reason, unreachable = str(cause)[:200], isinstance(cause, ConnectionRefusedError | socket.gaierror)
        size = partial.stat().st_size if partial.exists() else 0
        failures, before = (failures + 1 if size == before else 1), size
        if unreachable and not size:
            raise UserError(f"{url}: cannot be reached ({reason}); check the network connection")
        if failures >= ATTEMPTS:
            raise UserError(f"{url}: download failed ({reason}); run the command again to resume it")
    for algorithm, expected in (("md5", md5), ("sha256", sha256)):
        if expected is not None and not _digest(partial, algorithm).startswith(expected):
            partial.unlink()
            raise UserError(
                f"{url}: the download is damaged ({algorithm.upper()} differs) and was removed; run the command again"
            )
    os.replace(partial, path)


def _fetch_rest(url: str, partial: Path, progress: bool) -> bool:
    """Appends what is missing; True if the file is complete then."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "maskrcnn"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = _within(TIMEOUT, lambda: _open(url, headers))
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):  # nothing is missing
            return True
        partial.unlink()  # longer than the file: another file's
        return False
    with contextlib.ExitStack() as stack:
        stack.callback(response.close)
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            partial.unlink(missing_ok=True)  # another part than the one asked for
            return False
        have = have if resumed else 0
        total = _total(response, have, url)
        if total is not None and total - have > shutil.disk_usage(partial.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        hidden = None if progress else True
        bar = tqdm(desc=file_name(url), initial=have, total=total, unit="B", unit_scale=True, disable=hidden)
        stack.pop_all()  # from now on, the thread that reads closes it: a close waits for a read to end
        with partial.open("ab" if resumed else "wb") as file, bar:
            for chunk in _chunks(response, url):
                have += len(chunk)
                if have > min(MAX_BYTES, total if total is not None else MAX_BYTES):
                    raise UserError(f"{url}: the server sends more than {_size(have)}; check the address")
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or have == total


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    """The answer of a server, behind redirects to other http or https addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in ("ProxyHandler", "HTTPHandler", "HTTPSHandler", "HTTPDefaultErrorHandler", "HTTPErrorProcessor"):
        opener.add_handler(getattr(urllib.request, handler)())
    target = check_url(url)
    for _ in range(MAX_REDIRECTS):
        try:
            return opener.open(urllib.request.Request(target, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            location = error.headers.get("Location")
            if error.code not in REDIRECTS or not location:
                raise
            error.close()
            target = redirected(target, location)
    raise UserError(f"{url}: more than {MAX_REDIRECTS} redirects; check the address")


def _total(response: HTTPResponse, have: int, url: str) -> int | None:
    """The size of the whole file, if the server states it."""
    length = response.headers.get("Content-Length")
    if length is None:
        return None
    if not (length.isascii() and length.isdecimal() and len(length) < 20):
        raise UserError(f"{url}: the server states a length of {ascii(length)[:40]}; check the address")
    if have + int(length) > MAX_BYTES:
        raise UserError(f"{url}: {_size(have + int(length))}, more than {_size(MAX_BYTES)}; check the address")
    return have + int(length)


def _chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    """Yields what a server sends until it ends.

    Raises:
        UserError: it sends too slowly, as a server does that never means to end.
        Exception: the connection broke.
    """
    chunks: queue.Queue[bytes | Exception] = queue.Queue(4)
    threading.Thread(target=_receive, args=(response, chunks), daemon=True).start()
    began, received = time.monotonic(), 0
    while chunk := _next(chunks):
        yield chunk
        received += len(chunk)
        if (seconds := time.monotonic() - began) > TIMEOUT:
            if received < MIN_RATE * seconds:
                raise UserError(f"{url}: the server sends less than {MIN_RATE} bytes a second; try again later")
            began, received = time.monotonic(), 0


def _next(chunks: "queue.Queue[bytes | Exception]") -> bytes:
    try:
        chunk = chunks.get(timeout=TIMEOUT)
    except queue.Empty:
        raise TimeoutError(f"nothing received for {TIMEOUT} s") from None
    if isinstance(chunk, Exception):
        raise chunk
    return chunk


def _receive(response: HTTPResponse, chunks: "queue.Queue[bytes | Exception]") -> None:
    chunk = b"?"
    with contextlib.closing(response), contextlib.suppress(queue.Full):  # Full: nobody takes them any more
        while chunk:
            try:
                chunk = response.read1(CHUNK)
            except (HTTPException, OSError, ValueError) as error:
                chunks.put(ConnectionError(str(error)[:200] or "the connection was cut"), timeout=PATIENCE)
                return
            chunks.put(chunk, timeout=PATIENCE)


def _within(seconds: float, work: Callable[[], HTTPResponse]) -> HTTPResponse:
    """The answer of a function that may wait for a server longer than any of its time-outs, e.g. byte by byte."""
    results: queue.Queue[HTTPResponse | Exception] = queue.Queue()
    late = threading.Event()

    def run() -> None:
        try:
            result: HTTPResponse | Exception = work()
        except Exception as error:
            result = error
        results.put(result)
        if late.is_set() and isinstance(result, HTTPResponse | urllib.error.HTTPError):
            result.close()

    threading.Thread(target=run, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except queue.Empty:
        late.set()
        raise TimeoutError(f"no answer within {seconds} s") from None
    if isinstance(result, Exception):
        raise result
    return result


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
