"""Prints the rows of a measurement and keeps them as JSON with the machine, the command and the day."""

import datetime
import json
import resource
import sys
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.runtime.hardware import describe_machine


class Row(NamedTuple):
    name: str
    value: float | None
    unit: str


def write_result(what: str, rows: list[Row], path: Path | None) -> None:
    """A table on the screen, and the file if ``path`` is given."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        value = "-" if row.value is None else f"{row.value:,.4g}" if abs(row.value) < 1000 else f"{row.value:,.0f}"
        print(f"{row.name:<{width}}  {value:>10} {row.unit}")
    if path is None:
        return
    record: dict[str, Any] = {
        "what": what,
        "command": " ".join(["python", *_arguments()]),
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "rows": [row._asdict() for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _arguments() -> list[str]:
    """Of this process, as they were typed, of absolute paths the name: ``-m benchmarks.loader coco --records 10``."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    given = [Path(argument).name if argument.startswith("/") else argument for argument in sys.argv[1:]]
    return (["-m", specification.name] if specification else sys.argv[:1]) + given


def peak_rss_gib() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rss_gib() -> float:
    """Resident set now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**30


def cpu_seconds() -> float:
    """Processor time of this process, all threads and both modes."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
