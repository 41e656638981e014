"""The programs of the system that this one replaces, ``main.py`` and ``scripts/*.py``, as commands of ``maskrcnn``.

They keep NVIDIA's flags and default folders; flags that are not NVIDIA's are passed on. See docs/migration.md.
"""

import argparse
import shlex
import shutil
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn.cli.entry_point import Parser, report
from maskrcnn.cli.entry_point import main as run_command
from maskrcnn.errors import UserError
from maskrcnn.runtime.backend import check_gpus, installed_gpus
from maskrcnn.runtime.files import replacing

BACKBONE = "rn50_tf_amp_ckpt_v20.06.0/nvidia_rn50_tf_amp"  # below the folder of weights
BACKBONE_URL = "https://api.ngc.nvidia.com/v2/models/nvidia/rn50_tf_amp_ckpt/versions/20.06.0/zip"
MAX_BACKBONE_BYTES = 1 << 30  # unpacked; a ResNet-50 with its optimizer has 0.2 GB
DATA_DIR, WEIGHTS_DIR = "/data", "/weights"
EVAL_FILE = "annotations/instances_val2017.json"  # below the folder of data

VALUES = (
    *("--data_dir", "--model_dir", "--weights_dir", "--backbone_checkpoint", "--eval_file", "--epochs"),
    *("--steps_per_epoch", "--eval_samples", "--batch_size", "--train_batch_size", "--eval_batch_size", "--seed"),
    *("--l2_weight_decay", "--init_learning_rate", "--momentum", "--log_file", "--log_every", "--log_warmup_steps"),
    *("--log_tensorboard", "--gpus"),
)
LISTS = ("--learning_rate_values", "--learning_rate_boundaries")
SWITCHES = (
    *("--finetune_bn", "--use_synthetic_data", "--xla", "--no_xla", "--amp", "--log_graph", "--eagerly"),
    *("--no_eval", "--slurm_lock"),
)

_ANY = frozenset(("data_dir", "model_dir", "gpus", "seed", "xla", "amp", "eagerly", "verbose"))
_INFER = _ANY | {"eval_batch_size", "eval_samples"}
_EVAL = _INFER | {"eval_file", "log_file", "log_every", "log_warmup_steps"}
_BENCHMARK = (_ANY - {"xla"}) | {"no_xla", "batch_size", "steps", "warmup_steps", "weights_dir"}
_ALL = frozenset(flag.removeprefix("--") for flag in (*VALUES, *LISTS, *SWITCHES)) | {"verbose"}
ACCEPTED: Mapping[str, frozenset[str]] = {  # of NVIDIA's flags, those that a command has; the others do nothing
    "train": _ALL - {"weights_dir", "batch_size", "slurm_lock", "no_xla"},
    "eval": _EVAL,
    "infer": _INFER,
    "benchmark training": _BENCHMARK,
    "benchmark inference": _BENCHMARK,
}
MODES = {"train": "train", "train_and_eval": "train", "eval": "eval", "infer": "infer"}  # of main.py


@dataclass(frozen=True)
class Defaults:
    """What a program assumes for flags that are not given."""

    model_dir: str
    batch_size: int | None = None  # None: that of the command
    xla: bool = False


MAIN = Defaults("/results")
SCRIPTS = {
    "train": Defaults("/tmp/model", 4, xla=True),
    "eval": Defaults("/tmp/model", 8, xla=True),
    "infer": Defaults("/tmp/model", 8, xla=True),
    "benchmark training": Defaults("/tmp/model", 4, xla=True),
    "benchmark inference": Defaults("/tmp/model", 8, xla=True),
}


def main(command: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """Runs a script, or ``main.py`` where ``command`` is None, and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        translated = translate(command, arguments)
    except UserError as error:
        return report(error, verbose=False)
    print(shlex.join(["maskrcnn", *translated]), flush=True)
    return run_command(translated)


def translate(command: str | None, arguments: Sequence[str]) -> list[str]:
    """The arguments of ``maskrcnn`` that do what a script, or ``main.py`` (None), does with ``arguments``.

    Raises:
        UserError: no mode, no data, no weights to start from, or more GPUs than there are.
    """
    parser = _parser(command)
    options, rest = parser.parse_known_args(arguments)
    flags = {name: value for name, value in vars(options).items() if value is not None and value is not False}
    if command is None:
        mode = next((word for word in rest if word in MODES), None)
        if mode is None:
            raise UserError(f"main.py needs a mode: one of {', '.join(MODES)}")
        rest.remove(mode)
        command, defaults = MODES[mode], MAIN
    else:
        defaults = SCRIPTS[command]
    if flags.get("gpus", 0) > 1:  # the command says it of one
        check_gpus(flags["gpus"])
    _set_defaults(command, flags, defaults, rest)
    unused = [f"--{name}" for name in flags if name not in ACCEPTED[command] | {"slurm_lock", "no_xla"}]
    if unused:
        print(f"{command} does not use {' '.join(unused)}", file=sys.stderr)
    translated = command.split()
    for name, value in flags.items():
        if name in ACCEPTED[command]:
            values = value if isinstance(value, list) else [] if value is True else [value]
            translated += [f"--{name}", *map(str, values)]
    if command == "train" and not {"--preset", "--config"} & set(rest):
        translated += ["--preset", "reference"]
    return translated + rest


def _parser(command: str | None) -> argparse.ArgumentParser:
    program = f"`maskrcnn {command}`" if command else f"`maskrcnn` in a mode: {', '.join(MODES)}"
    parser = Parser(
        usage=f"%(prog)s {'' if command else 'MODE '}[FLAG ...]",
        description=f"Runs {program}, with the flags and default folders of NVIDIA's script, and others too. "
        "`maskrcnn COMMAND --help` explains them.",
    )
    for flag in VALUES:
        kind = int if flag in ("--gpus", "--batch_size", "--eval_samples") else str
        parser.add_argument(flag, type=kind, metavar="VALUE")
    for flag in LISTS:
        parser.add_argument(flag, nargs="*", metavar="VALUE")
    for flag in SWITCHES:
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    return parser


def _set_defaults(command: str, flags: dict, defaults: Defaults, rest: list[str]) -> None:
    """Completes and renames NVIDIA's flags in place."""
    batch_size = flags.pop("batch_size", defaults.batch_size)
    if batch_size is not None:
        name = {"train": "train_batch_size", "eval": "eval_batch_size", "infer": "eval_batch_size"}.get(command)
        flags.setdefault(name or "batch_size", batch_size)
    if defaults.xla and installed_gpus() == 0:
        flags["no_xla"] = True  # on a CPU it makes TensorFlow slower, see docs/performance/trials.md
    if defaults.xla and not command.startswith("benchmark") and not {"no_xla", "eagerly"} & flags.keys():
        flags["xla"] = True
    weights_dir = flags.pop("weights_dir", WEIGHTS_DIR)
    if command.startswith("benchmark"):
        _set_benchmark_defaults(command, flags, defaults, weights_dir)
        return
    if not {"--weights", "--model"} & set(rest) or command == "train":
        flags.setdefault("model_dir", defaults.model_dir)
    if command == "infer" and any(Path(word).exists() for word in rest):
        pass  # images
    elif not flags.get("use_synthetic_data"):
        _set_data(command, flags)
    elif command == "train":
        flags.pop("data_dir", None)
    else:
        raise UserError(f"{command} reads real images; measure speed with scripts/benchmark_inference.py instead")
    if command == "train" and "backbone_checkpoint" not in flags and "--weights" not in rest:
        _set_backbone(flags, Path(weights_dir))


def _set_data(command: str, flags: dict) -> None:
    """Sets the folder of data, and the annotations beside NVIDIA's TFRecords, which hold only part of them."""
    data_dir = Path(flags.setdefault("data_dir", DATA_DIR))
    if not data_dir.is_dir():
        raise UserError(
            f"{data_dir}: no such folder; download COCO with "
            f"`bash dataset/download_and_preprocess_coco.sh {data_dir}`, or name your data with --data_dir"
        )
    eval_file = data_dir / EVAL_FILE
    if command in ("train", "eval") and eval_file.is_file() and any(data_dir.glob("val*.tfrecord")):
        flags.setdefault("eval_file", str(eval_file))


def _set_backbone(flags: dict, weights_dir: Path) -> None:
    """Sets the default checkpoint of the backbone, which a run that resumes does without."""
    path = weights_dir / BACKBONE
    if path.with_name(path.name + ".index").is_file():
        flags["backbone_checkpoint"] = str(path)
    elif not Path(flags["model_dir"], "checkpoints").is_dir():
        raise UserError(
            f"{path}: no such checkpoint; get it with `python scripts/download_weights.py --save_dir={weights_dir}`, "
            "take torchvision's with --backbone_checkpoint resnet50, or name a ResNet-50 of your own with "
            "--backbone_checkpoint FILE (--weights none: start from random weights)"
        )


def _set_benchmark_defaults(command: str, flags: dict, defaults: Defaults, weights_dir: str) -> None:
    """Takes data, model and weights from the default folders where they exist; a benchmark runs without them too."""
    backbone = flags.pop("backbone_checkpoint", str(Path(weights_dir, BACKBONE)))
    if command == "benchmark training" and (Path(f"{backbone}.index").is_file() or Path(backbone).exists()):
        flags["weights_dir"] = backbone
    for theirs, ours in (("steps_per_epoch", "steps"), ("log_warmup_steps", "warmup_steps")):
        if theirs in flags:
            flags[ours] = flags.pop(theirs)
    if "eval_samples" in flags:
        flags.setdefault("steps", max(1, flags.pop("eval_samples") // flags["batch_size"]))
    if flags.pop("use_synthetic_data", False):
        flags.pop("data_dir", None)
    elif Path(DATA_DIR).is_dir():
        flags.setdefault("data_dir", DATA_DIR)
    if Path(defaults.model_dir, "config.json").is_file():
        flags.setdefault("model_dir", defaults.model_dir)


def download_weights(arguments: Sequence[str] | None = None) -> int:
    """Downloads NVIDIA's ResNet-50 for ``--backbone_checkpoint`` and returns the exit status."""
    parser = Parser(description="Downloads NVIDIA's ResNet-50, trained on ImageNet.")
    parser.add_argument("--save_dir", default=WEIGHTS_DIR, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--download_url", default=BACKBONE_URL, metavar="URL", help="default: %(default)s")
    try:
        options = parser.parse_args(arguments)
        print(f"NVIDIA's ResNet-50 is in {_download_backbone(options.download_url, Path(options.save_dir))}")
    except (UserError, OSError) as error:
        return report(error, verbose=False)
    return 0


def _download_backbone(url: str, save_dir: Path) -> Path:
    """Downloads the archive, unless its files are there, and returns the checkpoint's name.

    Raises:
        UserError: the download fails, or is not the archive.
    """
    from maskrcnn.runtime.download import fetch_once

    path = save_dir / BACKBONE
    if path.with_name(path.name + ".index").is_file():
        return path
    archive = save_dir / "rn50_tf_amp_ckpt.zip"
    try:
        fetch_once(url, archive)
        with zipfile.ZipFile(archive) as file:
            _unpack(file, path, url)
    except OSError:
        raise
    except UserError as error:
        raise UserError(f"{error}; or train with torchvision's: --backbone_checkpoint resnet50") from error
    except Exception as error:  # a damaged archive can fail in any way
        raise UserError(f"{url}: not a zip archive, or a damaged one ({error}); check the address") from error
    finally:
        archive.unlink(missing_ok=True)
    return path


def _unpack(archive: zipfile.ZipFile, path: Path, url: str) -> None:
    """Unpacks the files of a checkpoint, its index last, since it marks the rest."""
    members = [entry for entry in archive.infolist() if Path(entry.filename).name.startswith(path.name)]
    if not any(entry.filename.endswith(".index") for entry in members):
        raise UserError(f"{url}: the archive holds no {path.name}; check the address")
    size = sum(entry.file_size for entry in members)
    if size > MAX_BACKBONE_BYTES:
        limit = f"at most {MAX_BACKBONE_BYTES / 1e9:.0f} are unpacked"
        raise UserError(f"{url}: the archive's {path.name} has {size / 1e9:.1f} GB, {limit}; check the address")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in members):
        raise UserError(f"{url}: the archive is compressed in a way that zip files hardly ever are; check the address")
    path.parent.mkdir(parents=True, exist_ok=True)
    for entry in sorted(members, key=lambda entry: entry.filename.endswith(".index")):
        part = path.parent / Path(entry.filename).name
        with archive.open(entry) as source, replacing(part) as temporary, temporary.open("wb") as target:
            shutil.copyfileobj(source, target)
