"""Counts what is held, by kind: `python -m tests.fuzz [WORD ...]`; words choose attacks by their names."""

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import maskrcnn  # noqa: F401  first, since it turns oneDNN on before TensorFlow is imported

# isort: split
from tests.fuzz import data_attacks, result_attacks
from tests.fuzz.attacks import verdict


def main(words: list[str]) -> int:
    held, failed, seconds = Counter(), Counter(), Counter()
    for attack in (attack for kind in (*data_attacks.KINDS, *result_attacks.KINDS) for attack in kind()):
        title = f"{attack.kind}: {attack.name}"
        if not all(word in title for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            problem = verdict(attack, Path(folder))
            seconds[attack.kind] += time.process_time() - started
        (failed if problem else held)[attack.kind] += 1
        if problem:
            print(f"NOT HELD  {title}: {problem}".encode(errors="backslashreplace").decode(), flush=True)
    for kind in dict.fromkeys([*held, *failed]):
        print(
            f"{kind:<24}{held[kind] + failed[kind]:>6}{held[kind]:>6} held{failed[kind]:>6} not{seconds[kind]:>8.1f} s"
        )
    print(f"{'in all':<24}{held.total() + failed.total():>6}{held.total():>6} held{failed.total():>6} not held")
    return int(failed.total() > 0)


sys.exit(main(sys.argv[1:]))
