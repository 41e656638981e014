"""Mutation tests: breaks the ops on purpose, one fault at a time, and checks that a test fails.

    python tests/mutations.py [WORD ...]    only the faults whose file or text contains all words

Each fault is applied to a copy of the package in a temporary folder, where the tests of the module must then fail.
Exits with status 1 if they pass on a broken copy, or fail on the original.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PASSED, FAILED = 0, 1  # of pytest; other statuses mean that no test ran
TIMEOUT = 120  # seconds for the tests of one module


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A fault: ``old``, which occurs once in ``maskrcnn/ops/<module>.py``, becomes ``new``."""

    module: str
    old: str
    new: str


MUTATIONS = (
    # boxes
    Mutation("boxes", "(boxes[..., 2] - boxes[..., 0]) * (", "(boxes[..., 2] - boxes[..., 0] + 1) * ("),
    Mutation("boxes", "ops.maximum(width, 0.0) * ops.maximum(height, 0.0)", "width * height"),
    Mutation("boxes", "area(first) + area(second) - intersection", "area(first) + area(second)"),
    Mutation("boxes", "[1, 0, 1, 0]", "[0, 1, 0, 1]"),
    Mutation("boxes", "ops.maximum(boxes, 0.0)", "boxes"),
    Mutation("boxes", "ops.minimum(deltas[..., 2:], MAX_LOG_SCALE)", "deltas[..., 2:]"),
    Mutation("boxes", '"float32") / ops.convert_to_tensor(weights', '"float32") * ops.convert_to_tensor(weights'),
    Mutation("boxes", "boxes[..., :2] + 0.5 * sizes, sizes", "boxes[..., :2], sizes"),
    Mutation("boxes", "sizes, anchor_sizes = ops.maximum(sizes, MIN_SIDE), ops.maximum(anchor_sizes, MIN_SIDE)", ""),
    Mutation("boxes", ">= min_size, axis=-1)", "> min_size, axis=-1)"),
    # anchors
    Mutation("anchors", "size / height_ratios, size * height_ratios", "size * height_ratios, size / height_ratios"),
    Mutation("anchors", "if rounded else", "if not rounded else"),
    Mutation("anchors", "np.round(", "np.ceil("),
    Mutation("anchors", "ops.stack([x, y, x, y], axis=-1)", "ops.stack([y, x, y, x], axis=-1)"),
    Mutation("anchors", "* float(stride)", "* float(stride) + 0.5 * stride"),
    # matching
    Mutation("matching", "best_iou >= positive_iou", "best_iou > positive_iou"),
    Mutation("matching", "best_iou < negative_iou", "best_iou <= negative_iou"),
    Mutation("matching", "ops.where(valid, iou, -1.0)", "iou"),
    Mutation("matching", "(iou == highest) & valid", "iou == highest"),
    Mutation("matching", "ops.max(iou, axis=1, keepdims=True)", "ops.max(iou, axis=2, keepdims=True)"),
    Mutation("matching", "if allow_low_quality:", "if not allow_low_quality:"),
    # indexing
    Mutation("indexing", "_flat_indices(indices, size), axis=0", "indices, axis=0"),
    Mutation("indexing", "ops.reshape(_flat_indices(indices, size), (-1, 1))", "ops.reshape(indices, (-1, 1))"),
    Mutation("indexing", "scatter_update(flat, indices", "scatter_update(ops.zeros_like(flat), indices"),
    Mutation("indexing", "found = values > 0", "found = values >= 0"),
    Mutation("indexing", 'ops.where(found, ops.cast(indices, "int32"), 0)', 'ops.cast(indices, "int32")'),
    Mutation("indexing", "or keys.shape[-1] < count", "or keys.shape[-1] < 0"),
    Mutation("indexing", "offsets[-1] + height * width", "offsets[-1] + height"),
    # fast/padding_buckets
    Mutation("fast/padding_buckets", "ops.where(valid, positions, 0)", "ops.where(valid, 1, 0)"),
    Mutation("fast/padding_buckets", "needed > size", "needed >= size"),
    Mutation("fast/padding_buckets", "needed = ops.max(", "needed = ops.min("),
    Mutation("fast/padding_buckets", "for size in sizes[:-1])", "for size in sizes[:-2])"),
    Mutation("fast/padding_buckets", "tensor[:, :size]", "tensor[:, -size:]"),
    # fast/sparse_convolution
    Mutation(
        "fast/sparse_convolution",
        "locations[..., None] >= table.offsets[1:]",
        "locations[..., None] > table.offsets[1:]",
    ),
    Mutation("fast/sparse_convolution", "locations[..., None, None] - offset", "locations[..., None, None]"),
    Mutation(
        "fast/sparse_convolution",
        "local // width + steps[:, None], local % width + steps",
        "local // width + steps, local % width + steps[:, None]",
    ),
    Mutation("fast/sparse_convolution", "- side // 2", "- side // 2 + 1"),
    Mutation("fast/sparse_convolution", "(rows >= 0) & ", ""),
    Mutation("fast/sparse_convolution", "(columns < width)", "(columns <= width)"),
    Mutation("fast/sparse_convolution", "ops.clip(columns, 0, width - 1)", "columns"),
    Mutation("fast/sparse_convolution", "ops.where(inside, x, ops.zeros_like(x))", "x + 0"),
    Mutation("fast/sparse_convolution", "inside = inside[:, 1:-1, 1:-1]", "inside = inside[:, 2:, 2:]"),
    Mutation("fast/sparse_convolution", "ops.relu(ops.add(x, bias))", "ops.add(x, bias)"),
    Mutation("fast/sparse_convolution", "ops.add(x, bias)", "ops.add(x, 0 * bias)"),
    # sampling
    Mutation("sampling", "= int(num_samples * positive_fraction)", "= round(num_samples * positive_fraction)"),
    Mutation("sampling", "room = num_samples - ops.sum(", "room = num_samples - max_positives + 0 * ops.sum("),
    Mutation("sampling", "& (positions <= lowest_index)", ""),
    Mutation("sampling", "(keys > lowest) | ((keys", "((keys"),
    Mutation("sampling", "ops.where(candidates, keys, -1.0)", "keys"),
    Mutation("sampling", "& (limit > 0)", ""),
    Mutation("sampling", "ops.where(labels == POSITIVE, 2.0, 1.0)", "1.0"),
    # nms
    Mutation("nms", "> iou_threshold", ">= iou_threshold"),
    Mutation("nms", "ops.expand_dims(positions, 1) < positions", "ops.expand_dims(positions, 1) <= positions"),
    Mutation("nms", "ops.expand_dims(positions, 1) < positions", "ops.expand_dims(positions, 1) != positions"),
    Mutation("nms", "return valid & (ops.squeeze(hits, -2) < 0.5)", "return ops.squeeze(hits, -2) < 0.5"),
    Mutation("nms", "ops.any(before != now)", "ops.any(before & False)"),
    Mutation("nms", "if groups is not None:\n        overlaps", "if False:\n        overlaps"),
    Mutation("nms", "ops.top_k(scores, num_boxes)", "ops.top_k(-scores, num_boxes)"),
    Mutation("nms", "num_boxes - ops.arange(num_boxes)", "ops.arange(num_boxes) + 1"),
    # roi_align
    Mutation("roi_align", "start - 0.5, end - start", "start, end - start"),
    Mutation("roi_align", "ops.maximum(end - start, 1.0)", "end - start"),
    Mutation("roi_align", "(sample + 0.5) / grid.sampling_ratio", "sample / grid.sampling_ratio"),
    Mutation("roi_align", "(points >= -1.0) & (points <= limit)", "points <= limit"),
    Mutation("roi_align", "(points >= -1.0) & (points <= limit)", "(points >= -1.0) & (points <= limit - 1.0)"),
    Mutation("roi_align", "(points >= -1.0) & (points <= limit)", "(points > -1.0) & (points < limit)"),
    Mutation("roi_align", "ops.clip(points, 0.0, limit - 1.0)", "ops.clip(points, -1.0, limit - 1.0)"),
    Mutation("roi_align", "ops.minimum(low + 1.0, limit - 1.0)", "low + 1.0"),
    Mutation("roi_align", "[(1.0 - fraction) * share", "[fraction * share"),
    Mutation(
        "roi_align",
        "_bilinear_samples(boxes[..., 1], boxes[..., 3],",
        "_bilinear_samples(boxes[..., 0], boxes[..., 2],",
    ),
    Mutation("roi_align", 'ops.cast(height, "float32"), bins[0]', 'ops.cast(height, "float32"), bins[1]'),
    Mutation("roi_align", 'ops.cast(width, "float32"), bins[1]', 'ops.cast(height, "float32"), bins[1]'),
    Mutation("roi_align", "offset[..., None] + rows.locations * width[..., None]", "rows.locations * width[..., None]"),
    Mutation(
        "roi_align", "offset[..., None] + rows.locations * width[..., None]", "offset[..., None] + rows.locations"
    ),
    Mutation("roi_align", '"float32") / grid.sampling_ratio', '"float32")'),
    Mutation("roi_align", " + 1e-6)  # epsilon", ")  # epsilon"),
    Mutation("roi_align", "ops.floor(CANONICAL_LEVEL", "ops.round(CANONICAL_LEVEL"),
    Mutation("roi_align", "ops.clip(level, min_level, max_level)", "level"),
    # fast/bilinear_average
    Mutation("fast/bilinear_average", "weight * ops.expand_dims(columns", "weight * ops.expand_dims(rows"),
    Mutation("fast/bilinear_average", "location + ops.expand_dims(columns", "location + 0 * ops.expand_dims(columns"),
    Mutation("fast/bilinear_average", "* weights[..., None]\n    return pooled", "\n    return pooled"),
    Mutation(
        "fast/bilinear_average",
        "upstream[:, None] * weights[..., None]",
        "upstream[:, None] + 0.0 * weights[..., None]",
    ),
    Mutation("fast/bilinear_average", "ops.fori_loop(0, rows", "ops.fori_loop(1, rows"),
    Mutation("fast/bilinear_average", "ops.zeros((batch, size, channels)", "ops.ones((batch, size, channels)"),
    # kernel_gradient, cpu_convolution
    Mutation("fast/kernel_gradient", "ops.flip(kernel, (0, 1))", "ops.flip(kernel, 0)"),
    Mutation(
        "fast/kernel_gradient",
        "ops.transpose(ops.flip(kernel, (0, 1)), (0, 1, 3, 2))",
        "ops.transpose(kernel, (1, 0, 3, 2))",
    ),
    Mutation("fast/kernel_gradient", "(margin, margin), (margin, margin)", "(2 * margin, 0), (margin, margin)"),
    Mutation("fast/kernel_gradient", "ops.transpose(inputs, (3, 1, 2, 0))", "ops.transpose(inputs, (3, 2, 1, 0))"),
    Mutation("fast/cpu_convolution", "(0, 1, 3, 2, 4, 5)", "(0, 1, 4, 2, 3, 5)"),
    Mutation("fast/cpu_convolution", "ops.add(outputs, self.bias)", "outputs"),
    # winograd
    Mutation("fast/winograd", "0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)", "1.0, -1.0, 2.0, -2.0"),
    Mutation("fast/winograd", "/ np.prod(root - others)", "* np.prod(root - others)"),
    Mutation("fast/winograd", "inputs[5], kernel[5, 2], outputs[3, 5] =", "inputs[5], kernel[5, 1], outputs[3, 5] ="),
    Mutation("fast/winograd", "outputs[:batch, :height, :width]", "outputs[-batch:, :height, :width]"),
    Mutation("fast/winograd", "total + strip_gradient(index)", "strip_gradient(index)"),
    Mutation("fast/winograd", "fori_loop(1, strips.count", "fori_loop(0, strips.count"),
    Mutation("fast/winograd", "(margin, right), (0, 0)", "(right, margin), (0, 0)"),
    Mutation("fast/winograd", "index // self.parts * self.maps", "index // self.parts"),
    Mutation("fast/winograd", "index % self.parts * self.rows", "index % self.parts"),
    Mutation("fast/winograd", "_range(side)[:, None] * width", "_range(side)[:, None] * height"),
    Mutation("fast/winograd", "(2, 3, 0, 4, 1, 5)", "(2, 3, 1, 4, 0, 5)"),
    Mutation("fast/winograd", "max(size, 1) if", "size if"),
    Mutation("fast/winograd", "else ops.maximum(size, 1)", "else size"),
    # masks
    Mutation("masks", 'masks = ops.cast(masks, "float32")', 'masks = ops.cast(masks, "float32") * 0.5'),
    Mutation("masks", "regions[..., 1::2], boxes[..., 1::2]", "regions[..., 0::2], boxes[..., 0::2]"),
    Mutation("masks", "ops.swapaxes(columns, -1, -2)", "ops.swapaxes(rows, -1, -2)"),
    Mutation("masks", "ops.matmul(ops.matmul(rows, masks)", "ops.matmul(ops.matmul(columns, masks)"),
    Mutation("masks", "(sample + 0.5)", "sample"),
    Mutation("masks", "ops.maximum(end - start, 1.0) / bins", "(end - start) / bins"),
    Mutation("masks", "& (points >= -1.0) & (points <= pixels)", ""),
    Mutation("masks", "ops.clip(points, 0.0, pixels - 1.0)", "points"),
    Mutation("masks", "ops.clip(ops.ceil(bin_size), 1.0, max_samples)", "ops.ceil(bin_size)"),
    Mutation("masks", "ops.ceil(bin_size)", "ops.floor(bin_size)"),
    Mutation("masks", "(boxes[..., 0] - regions[..., 0]) * pixels", "boxes[..., 0] * pixels"),
    Mutation(
        "masks", "ops.maximum(regions[..., 1] - regions[..., 0], MIN_REGION)", "regions[..., 1] - regions[..., 0]"
    ),
    Mutation("masks", "[..., None, None, None] == channels", "[..., None, None, None] == channels[::-1]"),
    Mutation("masks", "ops.where(chosen, logits, 0.0)", "logits * ops.cast(chosen, logits.dtype)"),
)


def broken_text(mutation: Mutation) -> str:
    """The module's source with the fault in it.

    Raises:
        ValueError: the text to replace is not there exactly once.
        SyntaxError: the result is not Python.
    """
    source = (ROOT / "maskrcnn" / "ops" / f"{mutation.module}.py").read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        raise ValueError(f"{mutation.module}.py: {mutation.old!r} occurs {source.count(mutation.old)} times, not once")
    broken = source.replace(mutation.old, mutation.new)
    compile(broken, mutation.module, "exec")  # a fault that does not even compile proves nothing
    return broken


def run_tests(folder: Path, modules: list[str]) -> int:
    """pytest's exit status for the tests of the modules, run against the package in ``folder``.

    A fault that keeps the tests from ending counts as a failure.
    """
    tests = [
        str(folder / "tests" / "ops" / f"{Path(module).parent}" / f"test_{Path(module).name}.py") for module in modules
    ]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False, timeout=TIMEOUT * len(modules)
        )
    except subprocess.TimeoutExpired:
        return FAILED
    return run.returncode


def copy_project(folder: Path) -> None:
    """Copies the package and its tests to ``folder``; pytest imports the package from there, not from the checkout."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "maskrcnn", folder / "maskrcnn", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "ops", folder / "tests" / "ops", ignore=ignored)
    (folder / "tests" / "fixtures" / "goldens").mkdir(parents=True)
    fixture = Path("tests", "fixtures", "goldens", "ops.npz")
    shutil.copy(ROOT / fixture, folder / fixture)
    shutil.copy(ROOT / "pyproject.toml", folder)


def main(words: list[str]) -> int:
    chosen = [one for one in MUTATIONS if all(word in f"{one.module}.py {one.old} {one.new}" for word in words)]
    texts = [broken_text(mutation) for mutation in chosen]  # all faults can be made before any test is run
    survivors = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        if run_tests(folder, sorted({mutation.module for mutation in chosen})) != PASSED:
            print("the tests fail on the original package; fix that first")
            return 1
        for mutation, text in zip(chosen, texts, strict=True):
            path = folder / "maskrcnn" / "ops" / f"{mutation.module}.py"
            original = path.read_text(encoding="utf-8")
            path.write_text(text, encoding="utf-8")
            caught = run_tests(folder, [mutation.module]) == FAILED
            path.write_text(original, encoding="utf-8")
            survivors += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'} {mutation.module}: {mutation.old!r} -> {mutation.new!r}")
    print(f"{len(chosen) - survivors} of {len(chosen)} faults caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
