"""Wrong numbers and paths of the command line are refused within 0.3 s: before anything heavy is imported."""

import itertools
import subprocess
import sys

import pytest

TRAIN = ("train", "--data_dir", "d", "--model_dir", "m")
EVAL = ("eval", "--data_dir", "d", "--model_dir", "m")
INFER = ("infer", "a.jpg", "--model_dir", "m")
SHAPES = ("data", "shapes", "out")
BENCHMARK = ("benchmark", "training")
COUNTS = {
    TRAIN: (
        *("--epochs", "--steps_per_epoch", "--train_batch_size", "--accumulate", "--max_instances", "--keep"),
        *("--eval_batch_size", "--eval_samples", "--log_every"),
    ),
    EVAL: ("--eval_batch_size", "--eval_samples"),
    INFER: ("--eval_batch_size", "--eval_samples"),
    SHAPES: ("--train_images", "--image_size"),
    ("data", "browse", "d"): ("--num_images",),
    BENCHMARK: ("--batch_size", "--steps"),
    ("benchmark", "inference"): ("--batch_size", "--steps"),
    ("export", "--model_dir", "m"): ("--batch", "--size"),
}
FROM_ZERO = {
    TRAIN: ("--checkpoint_every", "--patience", "--evaluate_every", "--seed", "--gpus", "--log_warmup_steps"),
    EVAL: ("--seed",),
    SHAPES: ("--seed", "--val_images"),
    BENCHMARK: ("--warmup_steps", "--seed"),
}
FLOATS = {
    TRAIN: (
        *("--init_learning_rate", "--learning_rate_values", "--learning_rate_boundaries", "--momentum", "--ema"),
        *("--clip_norm", "--l2_weight_decay", "--scale_jitter", "--color_jitter", "--copy_paste", "--max_time"),
        "--val_fraction",
    ),
    INFER: ("--score_threshold",),
}
WRONG = ("-1", "nan", "inf", "1e999", "x", "9" * 400, " ")
CASES = [
    *((command, flag, value) for command, flags in COUNTS.items() for flag in flags for value in ("0", "1.5", *WRONG)),
    *((command, flag, value) for command, flags in FROM_ZERO.items() for flag in flags for value in ("1.5", *WRONG)),
    *((command, flag, value) for command, flags in FLOATS.items() for flag in flags for value in WRONG),
    *((TRAIN, "--set", value) for value in (
        "train.epochs=0", "epochs", "=", "=1", "train.epochs=", "train.epochs=NaN", "rpn.nms_iou=NaN", "model=1",
        "roi_align.sampling_ratio=1000000", "image.min_side=100000", "train.seed=-1", "train.seed=1e99",
        "train.epochs=" + "[" * 4000, "train.epochs=" + "9" * 4000, "rpn.nms_iou=Infinity", "categories=[]x", "\0=1",
        "backbone.name=a\0b", "rpn=1", "..=1", "train.epochs={}", "data.train_file=",
    )),
    (TRAIN, "--process_id", "-1"), (TRAIN, "--process_id", "x"), (TRAIN, "--num_processes", "0"),
    (TRAIN, "--preset", "fast"), (TRAIN, "--schedule", "5x"), (TRAIN, "--precision", "float8"),
    (TRAIN, "--decay", "linear"), (TRAIN, "--optimizer", "lion"), (EVAL, "--split", "dev"),
    (("demo",), "--epochs", "0"), (("demo",), "--set", "train.epochs=0"),
    (("weights", "import", "f", "--model_dir", "m"), "--set", "norm.epsilon=-1"),
]  # fmt: skip


def short(item):
    return (" ".join(item[:2]) if isinstance(item, tuple) else item[:30]).encode("unicode_escape").decode()


@pytest.mark.parametrize(("command", "flag", "value"), CASES, ids=short)
def test_a_wrong_value_is_one_line(refused, command, flag, value):
    several = [value, value] if flag in ("--size", "--scale_jitter") else [value]
    line = refused(
        *command, *(f"{flag}={value}" for value in several[:1]) if value.startswith("-") else (flag, *several)
    )
    assert flag in line or flag == "--set"


PATHS = {
    TRAIN[:1]: (
        *("--data_dir", "--model_dir", "--config", "--weights", "--backbone_checkpoint", "--train_file", "--val_file"),
        *("--test_file", "--image_dir", "--eval_file", "--log_file", "--log_tensorboard", "--preset", "--backend"),
    ),
    ("eval",): ("--data_dir", "--model_dir", "--eval_file", "--out", "--log_file"),
    ("infer",): ("", "--model_dir", "--weights", "--model", "--out_dir", "--data_dir"),
    ("demo",): ("--out_dir",),
    ("export",): ("--model_dir", "--out", "--check_images"),
    ("weights", "import"): ("", "--model_dir", "--labels"),
    ("weights", "download"): ("", "--model_dir", "--out_dir", "--url"),
    ("data", "convert"): ("", "--out_dir"),
    ("data", "check"): ("", "--json", "--out"),
    ("data", "browse"): ("", "--out_dir"),
    ("data", "shapes"): ("",),
    ("data", "coco"): ("", "--base_url"),
    ("benchmark", "training"): (
        "--data_dir",
        "--model_dir",
        "--weights_dir",
        "--config",
        "--out_file",
        "--compile_cache",
    ),
}
REQUIRED = {
    "train": ("--data_dir", "d", "--model_dir", "m"),
    "eval": ("--data_dir", "d", "--model_dir", "m"),
    "infer": ("--model_dir", "m"),
    "export": ("--model_dir", "m"),
}
NO_PATHS = ("", "a\0b", "\udcff.jpg", "a" * 70_000)


@pytest.mark.parametrize(
    ("command", "flag", "path"),
    [
        (command, flag, path)
        for (command, flags), path in itertools.product(PATHS.items(), NO_PATHS)
        for flag in flags
    ],
    ids=short,
)  # fmt: skip
def test_a_wrong_path_is_one_line(refused, command, flag, path):
    required = list(REQUIRED.get(command[0], ()))
    if flag in required:
        required[required.index(flag) + 1] = path
        refused(*command, *required)
    elif flag:
        refused(*command, *required, flag, path)
    else:
        refused(*command, path, *required)


def test_a_mistake_is_found_before_anything_heavy_is_imported():
    code = (
        "import sys; from maskrcnn.cli import main; status = main(sys.argv[1:]); "
        "print(*sorted({'keras', 'tensorflow', 'jax', 'hotcoco', 'matplotlib'} & set(sys.modules))); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, *TRAIN, "--accumulate", "-1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert not result.stdout.strip()
