"""The command ``benchmark``: measures the speed and memory of training and inference."""

import argparse
from pathlib import Path
from typing import Any

from maskrcnn.cli.flags import add_runtime, make_config, settings, use_backend, whole
from maskrcnn.config import Config
from maskrcnn.errors import UserError

OUT_FILE = "runs/benchmark.jsonl"


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("benchmark", help="measure speed and memory")
    actions = parser.add_subparsers(title="what to measure", metavar="WHAT", required=True)
    _add_action(actions, "training", "measure training steps", "train.batch_size", 4)
    _add_action(actions, "inference", "measure the stages of inference", "train.eval_batch_size", 8)


def _add_action(actions: Any, name: str, help: str, field: str, batch_size: int) -> None:
    parser = actions.add_parser(name, help=help)
    add = parser.add_argument
    add("--batch_size", type=whole(1), default=batch_size, metavar="N", help="default: %(default)s")
    add("--steps", type=whole(1), default=200, metavar="N", help="steps to measure (default: %(default)s)")
    add("--warmup_steps", type=whole(1), default=100, metavar="N", help="steps before them (default: %(default)s)")
    add("--data_dir", metavar="DIR", help="dataset (default: synthetic images)")
    add("--model_dir", metavar="DIR", help="a trained model, for inference; also the folder for converted data")
    if name == "inference":
        add("--model", metavar="FILE", help="instead of --model_dir: a file that `maskrcnn export` wrote")
    add("--weights_dir", metavar="SOURCE", help="the backbone's weights, for training")
    add("--config", metavar="FILE", help="JSON config to start from; other flags override it")
    add("--out_file", metavar="FILE", default=OUT_FILE, help="append the result to this file (default: %(default)s)")
    add("--no_xla", action="store_true", help="TensorFlow: do not compile with XLA")
    add("--compile_cache", metavar="DIR", help="JAX: cache compiled programs in this folder for the next run")
    add_runtime(parser)
    parser.set_defaults(action=lambda options: benchmark(name, field, options))


def benchmark(name: str, field: str, options: argparse.Namespace) -> None:
    """Measures, appends the result to a file and prints it."""
    if options.xla and options.no_xla:
        raise UserError("--xla and --no_xla contradict each other; give one of them")
    model_file = getattr(options, "model", None)
    if model_file and options.model_dir:
        raise UserError("give one of --model_dir and --model")
    config = _config(name, options).override({field: options.batch_size, "train.xla": not options.no_xla})
    if not model_file:
        use_backend(options)
    if options.compile_cache:
        from maskrcnn.runtime.compiler import cache_compilations

        cache_compilations(options.compile_cache)
    from maskrcnn.benchmark.record import BenchmarkOptions, append_record

    if name == "training":
        from maskrcnn.benchmark.training import benchmark_training as measure
    else:
        from maskrcnn.benchmark.inference import benchmark_inference as measure
    benchmark_options = BenchmarkOptions(
        options.steps, options.warmup_steps, options.data_dir, options.model_dir, model_file, options.weights_dir
    )
    record = measure(config, benchmark_options)
    append_record(record, options.out_file)
    print(format_record(record))
    print(f"appended to {options.out_file}")


def _config(name: str, options: argparse.Namespace) -> Config:
    """The config of the flags; for inference with a trained model, that model's config with the flags on top."""
    if getattr(options, "model", None):
        from maskrcnn.inference.exported import load_exported

        return load_exported(options.model).config.override(settings(options))
    saved = Path(options.model_dir, "config.json") if options.model_dir else None
    if name == "inference" and saved and saved.is_file() and not options.config:
        options = argparse.Namespace(**{**vars(options), "config": saved})
    return make_config(options)


def format_record(record: dict[str, Any]) -> str:
    """Formats the record as a table for the terminal."""
    configuration, results, machine = record["configuration"], record["results"], record["machine"]
    backend = configuration["backend"]
    height, width = configuration["canvas"]
    compiled = "XLA" if configuration["xla"] else "no XLA"
    lines = [
        f"{record['kind']} on {record['device']} ({machine['processor']}, {machine['cores']} cores)",
        f"{backend} {machine['versions'].get(backend, '')}, {compiled}, {configuration['precision']}, "
        f"{configuration['batch_size']} images of {height}x{width}, {configuration['data']} data, "
        f"{configuration['steps']} steps after {configuration['warmup_steps']}",
        "",
        f"{'throughput':24}{results['throughput']:10.3f} images/s",
    ]
    if "throughput_all_parts" in results:
        lines.append(f"{'stages one by one':24}{results['throughput_all_parts']:10.3f} images/s")
    parts = {"preprocessing": "preprocessing", "latency": "forward", "postprocessing": "postprocessing"}
    if record["kind"] == "training":
        parts = {"latency": "step"}
    lines += ["", f"{'ms per batch':24}" + "".join(f"{name:>10}" for name in results["latency"])]
    for key, title in parts.items():
        lines.append(f"{title:24}" + "".join(f"{1000 * value:10.1f}" for value in results[key].values()))
    lines.append("")
    if "data_wait" in results:
        lines.append(f"{'waiting for data':24}{results['data_wait']:10.1%} of the time")
    lines.append(f"{'building the model':24}{results['build_seconds']:10.1f} s")
    lines.append(f"{'compiling':24}{results['compile_seconds']:10.1f} s")
    for key, title in (("device", "device"), ("host", "host"), ("host_in_steps", "host, steps")):
        value = results["peak_memory"][key]
        if value is not None:
            lines.append(f"{'peak memory, ' + title:24}{value / 1e9:10.2f} GB")
    return "\n".join(lines)
