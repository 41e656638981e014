"""What all benchmarks share: their flags, turns in processes of their own, and the one form of a result.

A result is a table for the screen, and a JSON file that says where and how it was measured.
"""

import argparse
import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskrcnn.runtime.hardware import describe_machine

Row = dict[str, Any]  # column -> text, number or None; all rows of a result make one table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Environment variables that change the speed of a CPU; recorded where they are set.
SPEED_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "TF_ENABLE_ONEDNN_OPTS",
    "XLA_FLAGS",
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_NUM_THREADS",
)
# Highest instruction set -> variables for oneDNN (TensorFlow, torch, OpenVINO), XLA, ATen and MKL (torch). TensorFlow's
# Eigen kernels, of which the model needs few, and ONNX Runtime keep the instruction sets that they find.
MAX_ISA = {
    "AVX2": ("AVX2", "AVX2", "avx2", "AVX2"),
    "SSE4_2": ("SSE41", "SSE4_2", "default", "SSE4_2"),
}


def make_parser(description: str | None, out: Path | None = None) -> argparse.ArgumentParser:
    """The parser of a benchmark: its module's docstring is the help, ``--out`` the file of its result."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = " (default: %(default)s)" if out else ""
    parser.add_argument("--out", type=Path, default=out, metavar="FILE", help=f"where to save the result{default}")
    return parser


def restrict_instructions(max_isa: str | None) -> None:
    """Lets this process's children use no CPU instructions beyond a set of `MAX_ISA`; None lets them use all."""
    if max_isa:
        onednn, xla, aten, mkl = MAX_ISA[max_isa]
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa={xla}".strip()
        os.environ |= {"ONEDNN_MAX_CPU_ISA": onednn, "XLA_FLAGS": flags}
        os.environ |= {"ATEN_CPU_CAPABILITY": aten, "MKL_ENABLE_INSTRUCTIONS": mkl}


def run_process(command: list[str], *, capture_errors: bool = False, **variables: str) -> Any:
    """Runs Python in a process of its own, and returns the JSON of the last line that it prints, if any.

    Args:
        command: the arguments of this Python, or another Python and its arguments.
        capture_errors: keep what it prints to stderr for the exception, instead of showing it.
        variables: environment variables.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    if command[0].startswith("-"):
        command = [sys.executable, *command]
    elif command[0] != sys.executable:
        environment.pop("PYTHONPATH", None)  # packages of this Python
    stderr = subprocess.PIPE if capture_errors else None
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1]) if result.stdout else None


def report(path: Path | None, title: str, rows: list[Row], **details: Any) -> None:
    """Prints a result, and saves it if there is a path."""
    print(format_table(rows))
    if path:
        save_result(path, title, rows, **details)


def save_result(path: Path, title: str, rows: list[Row], **details: Any) -> None:
    """Writes a result as JSON.

    Args:
        path: the file; its folders are made.
        title: what was measured, a heading of ``docs/performance.md``.
        details: settings and raw values, kept beside the rows.
    """
    record = {
        "title": title,
        "command": _command(),
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "environment": {name: os.environ[name] for name in SPEED_VARIABLES if os.environ.get(name)},
        **details,
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _command() -> str:
    """The command line of this process, with absolute paths reduced to their names."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    module = specification.name.removesuffix(".__main__") if specification else Path(sys.argv[0]).name
    arguments = [Path(argument).name if argument.startswith("/") else argument for argument in sys.argv[1:]]
    return " ".join(["python", *(["-m"] if specification else []), module, *arguments])


def format_table(rows: list[Row]) -> str:
    """The rows in Markdown; a column that a row does not have stays empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([_text(row.get(column)) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def mean_and_deviation(name: str, values: list[float]) -> Row:
    """Columns for the mean over the seeds, and the deviation of one run."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {name: statistics.mean(values), f"{name}, deviation": deviation}


@contextlib.contextmanager
def plotting(path: Path, *titles: str) -> Iterator[list[Any]]:
    """Axes for each title, side by side; the plot is saved afterwards."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(titles), figsize=(4 + 3 * len(titles), 4.2), layout="constrained", squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        if len(titles) == 1:  # centered over the labels at the left, too, which may be long
            figure.suptitle(title, fontsize=10)
        else:
            axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    yield list(axes[0])
    figure.savefig(path, dpi=110)
    plt.close(figure)
