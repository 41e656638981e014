"""What may lie where a regular file is expected."""

import os
import socket
from pathlib import Path

SPECIAL = ("fifo", "folder", "zero", "full", "tty", "broken link", "circular link", "sparse", "no rights", "socket")


def make_special(path: Path, kind: str) -> None:
    """Puts one of SPECIAL at a path."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 40)
    elif kind == "no rights":
        path.write_bytes(b"")
        path.chmod(0)
    elif kind == "socket":
        place = os.getcwd()
        os.chdir(path.parent)  # its path has at most 107 characters
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
        os.chdir(place)
    else:
        targets = {"zero": "/dev/zero", "full": "/dev/full", "tty": "/dev/tty", "circular link": path.name}
        path.symlink_to(targets.get(kind, "nowhere"))
