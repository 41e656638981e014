"""The commands demo, train, eval and infer."""

import argparse
from typing import Any

from maskrcnn.cli.flags import (
    DATA,
    EVALUATION,
    SCHEDULES,
    SPLIT,
    TRAINING,
    add_flags,
    add_runtime,
    make_config,
    settings,
)
from maskrcnn.config import Config
from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    add_demo(commands)
    add_train(commands)
    add_eval(commands)
    add_infer(commands)


def add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo", help="train on drawn shapes, evaluate, and show the result", allow_abbrev=False
    )
    parser.add_argument("--out_dir", default="runs/demo", metavar="DIR", help="gets everything (default: %(default)s)")
    add_flags(parser, "training", TRAINING)
    add_flags(parser, "evaluation", EVALUATION)
    add_runtime(parser)
    parser.set_defaults(action=demo)


def add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train a model; the same command goes on with it", allow_abbrev=False)
    parser.add_argument("--data_dir", metavar="DIR", help="COCO data or TFRecords")
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="gets the model, checkpoints and logs")
    parser.add_argument("--config", metavar="FILE", help="JSON config to start from; other flags go before it")
    parser.add_argument(
        "--backbone_checkpoint",
        metavar="PATH",
        help="ImageNet checkpoint, model folder, .weights.h5, or published name",
    )
    parser.add_argument("--weights", metavar="PATH", help="fine-tune a whole model: a folder, a checkpoint or a name")
    parser.add_argument("--use_synthetic_data", action="store_true", help="train on random images, to measure speed")
    parser.add_argument(
        "--schedule", choices=SCHEDULES, help="epochs and drops of the learning rate: 1x (default) or 3x"
    )
    add_flags(parser, "training", TRAINING)
    add_flags(parser, "data", DATA)
    add_flags(parser, "evaluation", EVALUATION)
    parser.add_argument("--eval_file", metavar="FILE", help="COCO annotations to evaluate with")
    parser.add_argument("--no_eval", action="store_true", help="do not evaluate")
    add_runtime(parser)
    add_logging(parser)
    group = parser.add_argument_group("several machines", "TensorFlow: the variable TF_CONFIG; SLURM: found out alone")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of JAX's first process")
    group.add_argument("--num_processes", type=positive, metavar="N", help="of the run")
    group.add_argument("--process_id", type=int, metavar="I", help="of this one, from 0")
    group = parser.add_argument_group("TensorBoard")
    group.add_argument("--log_tensorboard", metavar="DIR", help="write TensorBoard logs there")
    group.add_argument("--log_graph", action="store_true", help="write TensorFlow's graph for TensorBoard")
    parser.set_defaults(action=train)


def add_eval(commands: Any) -> None:
    parser = commands.add_parser("eval", help="COCO metrics of a model on the val split", allow_abbrev=False)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="COCO data or TFRecords")
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="the model; gets metrics.json")
    parser.add_argument("--eval_file", metavar="FILE", help="COCO annotations to compare with")
    add_flags(parser, "data", (*SPLIT, *DATA))
    add_flags(parser, "evaluation", EVALUATION)
    add_runtime(parser)
    add_logging(parser)
    parser.set_defaults(action=evaluate)


def add_infer(commands: Any) -> None:
    parser = commands.add_parser("infer", help="predict pictures, or the val split", allow_abbrev=False)
    parser.add_argument("paths", nargs="*", metavar="IMAGE", help="pictures and folders of pictures")
    parser.add_argument("--data_dir", metavar="DIR", help="data whose val split is predicted if no picture is given")
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="the model")
    parser.add_argument("--out_dir", metavar="DIR", help="gets the results (default: MODEL_DIR/predictions)")
    parser.add_argument("--score_threshold", type=float, default=0.5, metavar="S", help="least score that is drawn")
    add_flags(parser, "data", (*SPLIT, *DATA))
    add_flags(parser, "evaluation", EVALUATION)
    add_runtime(parser)
    parser.set_defaults(action=infer)


def add_logging(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("logging")
    group.add_argument(
        "--log_file", metavar="FILE", help="log in DLLogger's format (default: MODEL_DIR/mrcnn-dlll.json)"
    )
    group.add_argument("--log_every", type=positive, default=100, metavar="N", help="steps between two entries")
    group.add_argument("--log_warmup_steps", type=int, default=100, metavar="N", help="steps that speed leaves out")


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def demo(options: argparse.Namespace) -> None:
    changes = settings(options)
    _select_backend(options)
    from maskrcnn.demo import demo_config, run_demo
    from maskrcnn.evaluation.coco_metrics import format_metrics

    print(format_metrics(run_demo(options.out_dir, demo_config().override(changes))))


def train(options: argparse.Namespace) -> None:
    config = make_config(options)
    if bool(options.data_dir) == options.use_synthetic_data:
        raise UserError("give either --data_dir or --use_synthetic_data")
    _select_backend(options)
    from maskrcnn.logs.dllogger import LogOptions
    from maskrcnn.runtime.distribution import connect

    devices = connect(options.coordinator, options.num_processes, options.process_id)  # before anything computes
    from maskrcnn.evaluation.coco_metrics import format_metrics
    from maskrcnn.training.run import train
    from maskrcnn.weights.transfer import weights_config

    if options.weights and not options.config:
        config = Config(model=weights_config(options.weights)).override(settings(options))
    logs = LogOptions(
        options.log_file, options.log_every, options.log_warmup_steps, options.log_tensorboard, options.log_graph
    )
    metrics = train(
        config,
        data_dir=options.data_dir,
        model_dir=options.model_dir,
        eval_file=options.eval_file,
        backbone_checkpoint=options.backbone_checkpoint,
        weights=options.weights,
        evaluate=not options.no_eval,
        logs=logs,
        devices=devices,
    )
    if "bbox" in metrics and devices.is_chief:
        print(format_metrics(metrics))


def evaluate(options: argparse.Namespace) -> None:
    changes = settings(options)
    _select_backend(options)
    from maskrcnn.evaluation.coco_metrics import format_metrics
    from maskrcnn.evaluation.run import evaluate_folder
    from maskrcnn.logs.dllogger import LogOptions

    metrics = evaluate_folder(
        options.model_dir,
        options.data_dir,
        settings=changes,
        eval_file=options.eval_file,
        logs=LogOptions(options.log_file, options.log_every, options.log_warmup_steps),
    )
    print(format_metrics(metrics))


def infer(options: argparse.Namespace) -> None:
    changes = settings(options)
    _select_backend(options)
    from maskrcnn.inference.run import infer_folder

    out_dir = options.out_dir or f"{options.model_dir}/predictions"
    infer_folder(
        options.model_dir,
        out_dir,
        paths=options.paths,
        data_dir=options.data_dir,
        settings=changes,
        score_threshold=options.score_threshold,
    )
    print(f"predictions.json and pictures are in {out_dir}")


def _select_backend(options: argparse.Namespace) -> None:
    from maskrcnn.runtime.backend import select_backend

    select_backend(options.backend, gpus=options.gpus, verbose=options.verbose)
