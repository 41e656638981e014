"""The command ``doctor``: versions, hardware and what is missing, in a form to paste into a bug report."""

import argparse
import functools
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.cli.flags import add_backend, add_verbose
from maskrcnn.errors import UserError
from maskrcnn.runtime.hardware import installed_version

GIB = 1 << 30
LOW_DISK = 5 * GIB  # a model folder with checkpoints, and converted data
LOW_MEMORY = 4 * GIB
RUNTIMES = ("onnxruntime", "openvino", "ai_edge_litert")  # of exported files


class Line(NamedTuple):
    """An item of the report; a ``problem`` says what is missing and what to do."""

    name: str
    value: str
    problem: str = ""


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="describe this installation and machine, for a bug report",
        description="Prints versions, hardware and what is missing. It imports no backend unless --devices is given.",
    )
    parser.add_argument("--devices", action="store_true", help="import the backend and list its devices (some seconds)")
    add_backend(parser)
    add_verbose(parser)
    parser.set_defaults(action=doctor)


def doctor(options: argparse.Namespace) -> int:
    """Prints the report; the exit status is 1 if something is missing that every command needs."""
    sections = (*SECTIONS, functools.partial(_devices, options)) if options.devices else SECTIONS
    lines = [line for section in sections for line in _guarded(section)]
    width = max(len(line.name) for line in lines)
    print("\n".join(f"{line.name:{width}}  {line.value}" for line in lines))
    problems = [line.problem for line in lines if line.problem]
    print()
    for problem in problems:
        print(f"problem: {problem}")
    if not problems:
        print("no problem found")
    return int(bool(problems))


def _guarded(section: Callable[[], list[Line]]) -> list[Line]:
    """The lines of a section, or the error that it ended with: a report with a gap is better than none."""
    try:
        return section()
    except Exception as error:
        name = getattr(section, "__name__", "_devices").strip("_")
        problem = str(error) if isinstance(error, UserError) else ""
        return [Line(name, f"unknown ({type(error).__name__}: {error})", problem)]


def _system() -> list[Line]:
    from maskrcnn.runtime.hardware import commit

    at = f" at {found}" if (found := commit()) else ""
    return [
        Line("maskrcnn", f"{installed_version('maskrcnn') or 'not installed'}{at}, {Path(__file__).parents[1]}"),
        Line("Python", f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"),
        Line("system", f"{platform.platform()}, {platform.machine()}"),
    ]


def _packages() -> list[Line]:
    """The required packages, and the optional ones that are installed."""
    lines = []
    extras: dict[str, list[str]] = {}
    for requirement in requires("maskrcnn") or ():
        name = re.split(r"[^\w.-]", requirement)[0]
        extra = requirement.partition("extra ==")[2].strip(" '\"")
        if extra and name != "maskrcnn":  # an extra may name another one of its own
            extras.setdefault(extra, []).append(name)
        elif not extra:
            problem = "" if installed_version(name) else f"{name} is not installed; run: pip install {name}"
            lines.append(Line(name, installed_version(name) or "missing", problem))
    for extra, names in extras.items():
        if extra not in ("dev", "docs"):
            found = ", ".join(f"{name} {installed_version(name) or 'missing'}" for name in names)
            lines.append(Line(f"[{extra}]", found))
    return lines


def _processor() -> list[Line]:
    from maskrcnn.runtime.hardware import available_cores, describe_processor, instruction_sets, machine_memory

    memory = machine_memory()
    low = memory is not None and memory < LOW_MEMORY
    problem = f"{memory / GIB:.1f} GiB of memory; use --preset cpu and --train_batch_size 1" if low and memory else ""
    sets = instruction_sets()
    return [
        Line("processor", f"{describe_processor()}, {available_cores()} of {os.cpu_count()} cores"),
        Line("instruction sets", " ".join(sets) if sets else "unknown"),
        Line("memory", f"{memory / GIB:.1f} GiB" if memory else "unknown", problem),
    ]


def _disk() -> list[Line]:
    from maskrcnn.runtime.download import cache_dir

    lines = []
    for name, folder in (("disk, this folder", Path.cwd()), ("disk, downloads", cache_dir())):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        problem = f"{folder}: {free / GIB:.1f} GiB free; free disk space" if free < LOW_DISK else ""
        lines.append(Line(name, f"{free / GIB:.1f} GiB free, {folder}", problem))
    return lines


def _accelerators() -> list[Line]:
    from maskrcnn.runtime.backend import installed_gpus

    found = installed_gpus()
    names = ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", "TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "XLA_FLAGS")
    settings = [f"{name}={os.environ[name]}" for name in (*names, "TF_CONFIG", "SLURM_JOB_ID") if name in os.environ]
    return [
        Line("NVIDIA GPUs", "unknown" if found is None else str(found)),
        Line("environment", " ".join(settings) or "-"),
    ]


def _backend() -> list[Line]:
    from maskrcnn.runtime.backend import BACKENDS

    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        return [Line("backend", name, f"KERAS_BACKEND={name} is not one of {', '.join(BACKENDS)}")]
    if importlib.util.find_spec(name) is not None:
        return [Line("backend", name)]
    remedy = f"pip install 'maskrcnn[{name}]'"
    if any(importlib.util.find_spec(package) for package in RUNTIMES):
        return [Line("backend", f"none: exported files run; for anything else, {remedy}")]
    return [Line("backend", f"{name}, missing", f"{name} is not installed; run: {remedy}")]


def _devices(options: argparse.Namespace) -> list[Line]:
    from maskrcnn.runtime.backend import select_backend

    select_backend(options.backend, verbose=options.verbose)
    from maskrcnn.runtime.hardware import describe_devices, device_name

    return [Line("devices", f"{describe_devices()}: {device_name()}")]


SECTIONS = (_system, _packages, _backend, _processor, _accelerators, _disk)
