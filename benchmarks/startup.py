"""Installing, starting and one image: a model folder beside its exported files; writes a JSON file.

    maskrcnn demo --out_dir runs/demo
    for format in onnx openvino saved_model; do maskrcnn export --model_dir runs/demo --format $format; done
    python -m benchmarks.startup runs/demo photo.jpg

Install sizes are those of the files of all packages that an extra requires here. The others are medians of processes of
their own, in turns; processor time hardly changes with what else runs on the machine.
"""

import statistics
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.result import RESULTS, ROOT, Row, make_parser, report, run_process

CONTESTANTS = {  # name -> the file in the model's folder, the extra that it needs
    "live model": ("", "tensorflow"),
    "ONNX Runtime": ("export/model.onnx", "runtime"),
    "OpenVINO": ("export/model.xml", "openvino"),
    "LiteRT": ("export/model.tflite", "litert"),
    "SavedModel": ("export/saved_model", "tensorflow"),
}
TURN = """
import json, os, sys, time
began, cpu = time.perf_counter(), time.process_time()
import maskrcnn
predictor = maskrcnn.load(sys.argv[1])
loaded, loaded_cpu = time.perf_counter() - began, time.process_time() - cpu
found = len(predictor.predict(sys.argv[2]))
from maskrcnn.runtime.hardware import peak_resident
print(json.dumps({"load": loaded, "load processor": loaded_cpu, "first image": time.perf_counter() - began,
                  "first image processor": time.process_time() - cpu, "peak": peak_resident(), "detections": found}))
"""


def main() -> None:
    """Measures in turns and prints a table."""
    parser = make_parser(__doc__, RESULTS / "startup.json")
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("image")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    options = parser.parse_args()
    paths = {name: options.model_dir / file for name, (file, _) in CONTESTANTS.items()}
    turns: dict[str, list[dict[str, float]]] = {name: [] for name, path in paths.items() if path.exists()}
    for _ in range(options.rounds):
        for name, own in turns.items():
            own.append(run_process(["-c", TURN, str(paths[name]), options.image]))
    rows = [summarize(name, own) for name, own in turns.items()]
    report(options.out, "Installing, starting, and the first image", rows, turns=turns)


def summarize(name: str, turns: list[dict[str, float]]) -> Row:
    """A contestant's medians."""
    median = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    return {
        "": name,
        "install, MB": install_size(CONTESTANTS[name][1]) / 1e6,
        "import and load, s": median["load"],
        "of processor": median["load processor"],
        "and one image, s": median["first image"],
        "of processor, with it": median["first image processor"],
        "peak memory, MB": median["peak"] / 1e6,
        "detections": median["detections"],
    }


def install_size(extra: str) -> int:
    """Bytes of all packages that this one requires with an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"][extra])]
    sizes: dict[str, int] = {}
    while waiting:
        name = waiting.pop().name.lower()
        if name in sizes:
            continue
        package = distribution(name)
        files = (Path(str(package.locate_file(file))) for file in package.files or ())
        sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
        required = (Requirement(text) for text in package.requires or ())
        waiting += [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    return sum(sizes.values())


if __name__ == "__main__":
    main()
