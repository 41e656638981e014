"""The processes of a run as flags and the environment describe them, checked before a backend reads them."""

import os
import re
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.input_files import parse_json

ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]{1,253}):(\d{1,5})")
MAX_PROCESSES = 1_000_000


def check_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> bool:
    """Checks the flags of several processes, and the variables of which the backends build their group.

    Returns:
        Whether SLURM started several tasks.

    Raises:
        UserError: flags that do not fit together, or a variable that describes no group of processes.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise UserError("--coordinator, --num_processes and --process_id belong together; give all three")
    if coordinator is not None and not _is_address(coordinator):
        raise UserError(f"--coordinator {coordinator}: expected HOST:PORT")
    if num_processes is not None and process_id is not None and not 0 <= process_id < num_processes:
        raise UserError(f"--process_id {process_id}: expected 0 to {num_processes - 1}")
    if text := os.environ.get("TF_CONFIG"):
        _check_tf_config(text)
    tasks = _number("SLURM_NTASKS", 1, MAX_PROCESSES)
    return tasks is not None and tasks > 1 and _number("SLURM_PROCID", 0, tasks - 1) is not None


def _check_tf_config(text: str) -> None:
    problem = UserError(
        'TF_CONFIG: expected {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}; '
        "correct the variable or unset it"
    )
    try:
        content: Any = parse_json(text)
    except ValueError as error:
        raise problem from error
    if not isinstance(content, dict):
        raise problem
    cluster, task = content.get("cluster", {}), content.get("task", {})
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise problem
    for addresses in cluster.values():
        if not isinstance(addresses, list) or not addresses or not all(map(_is_address, addresses)):
            raise problem
    kind, index = task.get("type", "worker"), str(task.get("index", 0))
    if cluster and (kind not in list(cluster) or not _is_number(index, 0, len(cluster[kind]) - 1)):
        raise problem


def _number(name: str, low: int, high: int) -> int | None:
    """The value of a variable; None if it is not set."""
    text = os.environ.get(name)
    if text is None:
        return None
    if not _is_number(text, low, high):
        raise UserError(f"{name}={text[:40]}: expected an integer from {low} to {high}; correct or unset it")
    return int(text)


def _is_number(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high


def _is_address(text: Any) -> bool:
    found = ADDRESS.fullmatch(text) if isinstance(text, str) else None
    return found is not None and _is_number(found[2], 1, 65_535)
