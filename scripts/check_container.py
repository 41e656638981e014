"""Runs the steps of the Dockerfile without Docker: COPY and RUN in an empty folder, with a fresh environment's Python.

    python scripts/check_container.py [--variant cpu] [--python PYTHON]

What needs a container is printed as skipped: the base image, users, volumes, and folders of the root.
"""

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDS_ROOT = ("useradd", "install -d", "apt-get")  # change the system


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions and their arguments, with continued lines joined and comments left out."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name.upper(), rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def context(ignore: str) -> list[Path]:
    """The files that .dockerignore lets through, of those that git knows."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kept = [line[1:] for line in ignore.splitlines() if line.startswith("!")]
    return [Path(name) for name in tracked.splitlines() if any(fnmatch.fnmatch(name, f"{k}*") for k in kept)]


def copy(sources: list[str], target: str, files: list[Path], workspace: Path) -> int:
    """Copies files of the context as COPY does; returns their number."""
    chosen = [file for file in files if "." in sources or str(file) in sources]
    missing = [source for source in sources if source != "." and Path(source) not in files]
    if missing:
        raise SystemExit(f"COPY {missing[0]}: not in the context; see .dockerignore")
    for file in chosen:
        place = workspace / file if "." in sources or target != "./" else workspace / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, place)
    return len(chosen)


def main() -> None:
    """Runs the steps and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--variant", default="cpu", help="the build argument VARIANT (default: %(default)s)")
    parser.add_argument("--python", default=sys.executable, help="in place of the base image's (default: this one)")
    options = parser.parse_args()
    files = context((ROOT / ".dockerignore").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder, "workspace")
        workspace.mkdir()
        subprocess.run([options.python, "-m", "venv", f"{folder}/python"], check=True)
        environment = {"PATH": f"{folder}/python/bin:{os.environ['PATH']}", "HOME": folder, "VARIANT": options.variant}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        for name, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
            if name == "COPY":
                *sources, target = rest.split()
                print(f"COPY {rest}: {copy(sources, target, files, workspace)} files")
            elif name == "ENV":
                environment |= dict(pair.split("=", 1) for pair in rest.split())
            elif name == "RUN" and not rest.startswith(NEEDS_ROOT):
                subprocess.run(
                    ["sh", "-ec", rest], cwd=workspace, env=environment, check=True, stdout=subprocess.DEVNULL
                )
                print(f"RUN {rest[:100]}: done")
            else:
                print(f"{name} {rest[:100]}: skipped")
        doctor = subprocess.run(["maskrcnn", "doctor"], cwd=folder, env=environment, capture_output=True, text=True)
        print(f"maskrcnn doctor in it: {doctor.stdout.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
