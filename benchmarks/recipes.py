"""What a recipe is worth on small data at equal time, and what fine-tuning is worth: whole trainings on a CPU.

    python -m benchmarks.recipes recipes --seeds 0 1 2                       # on drawn shapes
    python -m benchmarks.recipes recipes --data_dir DIR --classes window     # on a dataset of your own
    python -m benchmarks.recipes finetuning --seeds 0 1 2

Recipes differ in one thing from BASE and train for the same processor time, to whose end their learning rate falls; a
short run tells how many steps that is. Fine-tuning starts from a model of other drawn shapes, some of whose classes
have the same names. Each run is a folder below --work_dir; those that are complete are not run again.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
import unittest.mock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

import maskrcnn
from benchmarks.result import RESULTS, Row, make_parser, mean_and_deviation, plotting, report
from maskrcnn.config import Config, NormConfig
from maskrcnn.data.shapes import write_shapes
from maskrcnn.demo import demo_config
from maskrcnn.model import resnet
from maskrcnn.model.layers import ConvNorm
from maskrcnn.training.presets import FROM_SCRATCH

RECORD = "record.json"
Settings = Mapping[str, Any]

MODELS = {"demo": demo_config, "preset": lambda: maskrcnn.Recipe("cpu").complete(images=1, on_cpu=True)}
# The recipe of the preset `cpu` as it was when these were compared
BASE: Settings = FROM_SCRATCH | {
    "train.decay": "cosine",
    "train.learning_rate_boundaries": (0.1,),
    "train.epochs": 1,
    "train.evaluate_every": 0,
    "data.max_instances": None,
}
DROP: dict[str, Any] = {
    "train.decay": "steps",
    "train.learning_rate_values": (0.002, 0.0002),
    "train.learning_rate_boundaries": (0.1, 0.7),
}
GROUP_NORM = "group norm"  # instead of batch norm; the model has no setting for it
RECIPES: dict[str, Settings] = {
    "preset cpu": {},
    "SGD, rate 0.05": {"train.optimizer": "sgd", "train.learning_rate_values": (0.05,)},
    "twice the rate": {"train.learning_rate_values": (0.004,)},
    "a drop at 70%": DROP,
    "batches of 8 and a drop at 70%": DROP | {"train.batch_size": 8},
    "EMA 0.99": {"train.ema": 0.99},
    "batches of 8": {"train.batch_size": 8},
    "no flip": {"data.horizontal_flip": False},
    "scales 0.1 to 2 (LSJ)": {"data.scale_jitter": (0.1, 2.0)},
    "copy-paste 0.5": {"data.copy_paste": 0.5},
    "frozen norms": {"norm.train": False},
    "frozen stem": {"backbone.freeze_at": 1},
    GROUP_NORM: {},
}
# What hardly changes the time of a step: such recipes share one measurement of it
FREE = ("train.optimizer", "train.learning_rate", "train.decay", "train.ema", "data.horizontal_flip")
CALIBRATION_STEPS, SKIPPED_STEPS = 24, 4

# Classes of the first model, and of the data that it is fine-tuned on: as they are, and under names of their own
FIRST = {name: name for name in ("circle", "square", "triangle")}
SECOND = {name: name for name in ("star", "circle", "ring", "square")}
RENAMED = SECOND | {"circle": "disc", "square": "tile"}
STARTS: dict[str, tuple[bool, dict[str, str], Settings]] = {  # whether from the first model, names of the classes
    "from scratch": (False, SECOND, {}),
    "fine-tuned": (True, SECOND, {}),
    "fine-tuned, no name in common": (True, RENAMED, {}),
    "fine-tuned as COCO's weights are": (
        True,
        SECOND,
        {
            "train.optimizer": "sgd",
            "train.clip_norm": None,
            "train.learning_rate_values": (0.01,),
            "train.batch_size": 1,
        },
    ),
}
FIRST_STEPS, ALL_STEPS = 1400, (100, 300, 1000)
VAL_IMAGES = 100
MEANS = {"mask50": "mask AP50", "seconds": "processor s"}  # of the runs of a row


class GroupConvNorm(ConvNorm):
    """A convolution with group norm (arXiv:1803.08494), of up to 32 groups of at least four channels."""

    def __init__(self, filters: int, *args, norm: NormConfig | None = None, **kwargs):
        super().__init__(filters, *args, norm=norm, **kwargs)
        scale = self.norm.gamma_initializer
        self.norm = keras.layers.GroupNormalization(
            min(32, filters // 4), epsilon=1e-5, gamma_initializer=scale, dtype=self.dtype_policy, name="norm"
        )

    def call(self, inputs, training=False):
        return super().call(inputs, training=True)  # without folding: the statistics are those of each image


class StepClock(keras.callbacks.Callback):
    """Measures the processor seconds of all steps but the first ones, in which the model is compiled."""

    def on_train_begin(self, logs=None):
        self.steps, self.began, self.ended = -SKIPPED_STEPS, 0.0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.ended = time.process_time()
        if self.steps == 0:
            self.began = self.ended

    def seconds_per_step(self) -> float:
        """The mean."""
        return (self.ended - self.began) / self.steps


def train_once(
    folder: Path, data: Path, config: Config, steps: int, weights: Path | None = None, *, evaluate: bool = True
) -> dict[str, Any]:
    """Trains in a folder, unless that was done; returns AP and time. Only a model that was not scored is kept."""
    record = folder / RECORD
    if record.exists():
        return json.loads(record.read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    keras.utils.clear_session()
    clock = StepClock()
    metrics = maskrcnn.train(
        config.override({"train.steps_per_epoch": steps}),
        data_dir=data,
        model_dir=folder,
        start=maskrcnn.Start(weights=weights),
        options=maskrcnn.RunOptions(evaluate=evaluate),
        callbacks=[clock],
    )
    seconds = clock.seconds_per_step()
    found = {"steps": steps, "seconds_per_step": seconds, "seconds": seconds * steps}
    if evaluate:
        found |= {"box": metrics["bbox"]["AP"], "mask": metrics["segm"]["AP"], "mask50": metrics["segm"]["AP50"]}
        found["classes"] = {name: values["segm_AP"] for name, values in metrics["per_class"].items()}
        shutil.rmtree(folder)
        folder.mkdir()
    record.write_text(json.dumps(found), encoding="utf-8")
    return found


def draw(folder: Path, *, train_images: int, seed: int = 0) -> Path:
    """Draws a dataset, unless that was done."""
    if not (folder / "annotations" / "instances_val.json").exists():
        write_shapes(folder, train_images=train_images, val_images=VAL_IMAGES, seed=seed)
    return folder


def select_classes(source: Path, target: Path, names: Mapping[str, str]) -> Path:
    """Copies a COCO dataset with some of its classes only, in the order of ``names`` and under their new names."""
    if target.exists():
        return target
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("tfrecords"))
    numbers = {name: number for number, name in enumerate(names, start=1)}
    for path in target.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        own = {
            category["id"]: numbers[category["name"]] for category in content["categories"] if category["name"] in names
        }
        content["annotations"] = [
            {**annotation, "category_id": own[annotation["category_id"]]}
            for annotation in content["annotations"]
            if annotation["category_id"] in own
        ]
        content["categories"] = [{"id": numbers[old], "name": new} for old, new in names.items()]
        path.write_text(json.dumps(content), encoding="utf-8")
    return target


def compare_recipes(options: argparse.Namespace) -> None:
    """Trains each recipe for the same time with each seed; the result has all runs in the folder."""
    base = _base(options)
    name = options.data_dir.name if options.data_dir else "drawn"
    folder = options.work_dir / f"{name}_{options.model}_{options.side}"
    if options.data_dir:
        data = select_classes(options.data_dir, folder / "data", {name: name for name in options.classes})
    else:
        data = draw(folder / "data", train_images=200)
    for seed in options.seeds:
        for recipe in options.only or RECIPES:
            costly = _costly(recipe)
            alike = next(other for other in RECIPES if _costly(other) == costly)
            short = train_once(
                folder / f"time of {alike}", data, base.override(costly), CALIBRATION_STEPS, evaluate=False
            )
            steps = round(options.seconds / short["seconds_per_step"])
            config = base.override({**RECIPES[recipe], "train.seed": seed})
            with unittest.mock.patch.object(resnet, "ConvNorm", GroupConvNorm if recipe == GROUP_NORM else ConvNorm):
                run = train_once(folder / f"{recipe}, {seed}", data, config, steps)
            _print_run(recipe, seed, run)
    runs = {recipe: own for recipe in RECIPES if (own := _read_runs(folder, recipe))}
    rows = [{"recipe": recipe, "steps": own[0]["steps"], **summarize(own)} for recipe, own in runs.items()]
    title = (
        f"Recipes on {name}, {options.model}'s model at {options.side} px: {options.seconds:g} processor seconds each"
    )
    report(options.out or RESULTS / f"recipes_{folder.name}.json", title, rows, runs=runs)
    with plotting(RESULTS / f"recipes_{folder.name}.png", title) as (axis,):
        for recipe, own in reversed(runs.items()):
            masks = [run["mask"] for run in own]
            axis.plot(masks, [recipe] * len(own), "o", color="#1f77b4", alpha=0.5)
            axis.plot(statistics.mean(masks), recipe, "|", color="black", markersize=14)
        axis.axvline(statistics.mean(run["mask"] for run in runs["preset cpu"]), color="gray", linestyle=":")
        axis.set(xlabel="mask AP, a point for each seed")


def _base(options: argparse.Namespace) -> Config:
    side = {"image.min_side": options.side, "image.max_side": options.side, "train.seed": 0}
    return MODELS[options.model]().override({**BASE, **side})


def _costly(recipe: str) -> dict[str, Any]:
    return {key: value for key, value in RECIPES[recipe].items() if not key.startswith(FREE)}


def compare_starts(options: argparse.Namespace) -> None:
    """Trains a first model, and from it and from scratch on other shapes, for each number of steps with each seed."""
    base = _base(options)
    folder = options.work_dir / "finetuning"
    drawn = draw(folder / "shapes", train_images=800)
    first = folder / "first"
    train_once(first, select_classes(drawn, folder / "a", FIRST), base, FIRST_STEPS, evaluate=False)
    others = draw(folder / "others", train_images=100, seed=1)
    for seed in options.seeds:
        for steps in options.steps:
            for start in options.only or STARTS:
                tuned, names, settings = STARTS[start]
                data = select_classes(others, folder / "_".join(names.values()), names)
                config = base.override({**settings, "train.seed": seed})
                run = train_once(folder / f"{start} {steps}, {seed}", data, config, steps, first if tuned else None)
                _print_run(f"{start} {steps}", seed, run)
    named = {start: {steps: _read_runs(folder, f"{start} {steps}") for steps in ALL_STEPS} for start in STARTS}
    named = {start: {steps: runs for steps, runs in own.items() if runs} for start, own in named.items()}
    rows = []
    for start, own in named.items():
        shared = [new for old, new in STARTS[start][1].items() if old in FIRST]
        for steps, runs in own.items():
            known = statistics.mean(run["classes"][name] for run in runs for name in shared)
            rows.append({"start": start, "steps": steps, **summarize(runs), "mask AP of circle and square": known})
    title = f"Fine-tuning on 100 drawn images of other classes, at {options.side} px"
    report(options.out or RESULTS / "finetuning.json", title, rows, runs=named)
    with plotting(RESULTS / "finetuning.png", title) as (axis,):
        for start, own in named.items():
            means = [statistics.mean(run["mask"] for run in runs) for runs in own.values()]
            (line,) = axis.plot(list(own), means, label=start)
            for steps, runs in own.items():
                axis.plot([steps] * len(runs), [run["mask"] for run in runs], "o", color=line.get_color())
        axis.set(xlabel="steps of the whole training", ylabel="mask AP", xscale="log")
        axis.set_xticks(ALL_STEPS, ALL_STEPS)
        axis.legend()


def _print_run(name: str, seed: int, run: dict[str, Any]) -> None:
    print(f"{name}, seed {seed}: mask AP {run['mask']:.3f} in {run['seconds']:.0f} s", file=sys.stderr, flush=True)


def _read_runs(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"{name}, */{RECORD}"))]


def summarize(runs: list[dict[str, Any]]) -> Row:
    """Means over the seeds, and the deviation of one run."""
    means = {title: statistics.mean(run[name] for run in runs) for name, title in MEANS.items()}
    return {"seeds": len(runs), **mean_and_deviation("mask AP", [run["mask"] for run in runs]), **means}


def main() -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("what", choices=("recipes", "finetuning"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, nargs="+", default=ALL_STEPS, help="of fine-tuning")
    parser.add_argument("--model", choices=MODELS, default="demo", help="the demonstration's, or the preset's")
    parser.add_argument("--side", type=int, default=128, help="px of the images")
    parser.add_argument("--seconds", type=float, default=50, help="processor seconds of the steps of each recipe")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="recipes or starts; default: all")
    parser.add_argument("--data_dir", type=Path, help="COCO dataset with train and val; default: drawn shapes")
    parser.add_argument("--classes", nargs="+", help="of that dataset; others are left out")
    parser.add_argument("--work_dir", type=Path, default=Path("runs/recipes"))
    options = parser.parse_args()
    compare_recipes(options) if options.what == "recipes" else compare_starts(options)


if __name__ == "__main__":
    main()
