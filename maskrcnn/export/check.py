"""An exported file beside the live model: the same detections within tolerances, or the file is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.config import Config
from maskrcnn.data.shapes import draw_image
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import canvas_size, resize
from maskrcnn.inference.detections import Outputs
from maskrcnn.inference.exported import ExportedModel
from maskrcnn.inference.predictor import Model

DRAWN = 4  # images drawn where none are given, so that the model finds something in at least one
DRAWN_SIZE = 256  # px, both sides


class Case(NamedTuple):
    """An image on its canvas."""

    name: str
    canvas: NDArray[np.uint8]  # [H, W, 3]
    image_size: tuple[int, int]  # height and width, px


@dataclass(frozen=True)
class Tolerance:
    """The largest differences that pass."""

    boxes: float = 1e-2  # px of the canvas
    scores: float = 3e-4  # rounding alone makes up to 1.3e-4 of it, on some processors
    masks: float = 1e-3  # probability
    reach: float = np.inf  # no corner of a partner is further away, as a fraction of the box's longer side
    agreement: float | None = None  # where set, the only condition: the fraction of all scores that has a partner


# Rounding moves boxes and scores a little, and doubtful detections come and go; `maskrcnn eval --model` tells how many.
EIGHT_BITS = Tolerance(reach=0.25, agreement=0.8)
TOLERANCES = {
    "float32": Tolerance(),
    "float16": Tolerance(reach=0.05, agreement=0.98),
    "bfloat16": EIGHT_BITS,
    "int8": EIGHT_BITS,
}


@dataclass(frozen=True)
class Difference:
    """How the exported file's detections in one image differ from the live model's."""

    image: str
    detections: int  # of the live model
    unmatched: int  # of either one, without a partner of the same class
    boxes: float  # largest difference, px
    scores: float
    masks: float
    matched_scores: float = 0.0  # sum of the scores of both that have a partner
    all_scores: float = 0.0

    def passes(self, tolerance: Tolerance) -> bool:
        """Whether the same detections were found, within the tolerance."""
        if tolerance.agreement is not None:
            return True  # depends on all images together, see `agreement`
        within = self.boxes <= tolerance.boxes and self.scores <= tolerance.scores and self.masks <= tolerance.masks
        return within and not self.unmatched


def compare_outputs(
    image: str, live: Outputs, exported: Outputs, *, score_threshold: float, tolerance: Tolerance
) -> Difference:
    """Pairs the detections of one image, each with the nearest of its class.

    Detections may swap places where their scores are equal but for rounding, and one whose score is that close to the
    lowest that is kept may be missing.

    Args:
        image: its name.
        live: the live model's outputs for it, as `MaskRCNN` returns them without the batch dimension.
        exported: those of the file.
        score_threshold: of detections.
        tolerance: what is close.
    """
    first, second = np.nonzero(live["valid"])[0], np.nonzero(exported["valid"])[0]
    boxes = live["boxes"][first]  # [K, 4]
    distances = np.abs(boxes[:, None] - exported["boxes"][second]).max(axis=-1, initial=0)
    reach = tolerance.reach * (boxes[:, 2:] - boxes[:, :2]).max(axis=-1, initial=1e-6)
    possible = (live["classes"][first][:, None] == exported["classes"][second]) & (distances <= reach[:, None])
    distances = np.where(possible, distances, np.inf)
    pairs = []
    while distances.size and np.isfinite(distances.min()):
        row, column = np.unravel_index(distances.argmin(), distances.shape)
        pairs.append((first[row], second[column]))
        distances[row, :], distances[:, column] = np.inf, np.inf
    alone = [live["scores"][sorted(set(first) - {pair[0] for pair in pairs})]]
    alone.append(exported["scores"][sorted(set(second) - {pair[1] for pair in pairs})])
    all_scores = float(live["scores"][first].sum() + exported["scores"][second].sum())
    matched_scores = all_scores - float(np.concatenate(alone).sum())
    cut = live["scores"].min() if live["valid"].all() else score_threshold
    unmatched = int((np.concatenate(alone) > cut + tolerance.scores).sum())
    mine, theirs = (np.array([pair[side] for pair in pairs], int) for side in (0, 1))
    largest = {}
    for name in ("boxes", "scores", "masks"):
        differences = live[name][mine].astype(float) - exported[name][theirs]
        padding = exported[name][~exported["valid"]]  # zeros
        largest[name] = float(max(np.abs(differences).max(initial=0), np.abs(padding).max(initial=0)))
    return Difference(image, len(first), unmatched, **largest, matched_scores=matched_scores, all_scores=all_scores)


def agreement(differences: Sequence[Difference]) -> float:
    """The fraction of the scores of all detections, of the file and the model, that has a partner in the other one."""
    return sum(row.matched_scores for row in differences) / max(sum(row.all_scores for row in differences), 1e-9)


def check_file(
    exported: ExportedModel,
    live: Model,
    config: Config,
    images: Sequence[tuple[str, NDArray[np.uint8]]],
    tolerance: Tolerance,
) -> list[Difference]:
    """Runs the file beside the live model: on images, on gray noise, and on a canvas without any image.

    Args:
        exported: the file.
        live: the model that it was made of, in float32.
        config: of the model.
        images: names and RGB pixels [h, w, 3]; without any, drawn shapes are taken.
        tolerance: the largest differences that pass.

    Returns:
        The differences in each image.

    Raises:
        UserError: outputs of another shape or type.
    """
    differences: list[Difference] = []
    sources = images or _drawn_images()
    for height, width in _canvases(exported, config):
        cases = [_place(name, image, height, width) for name, image in sources]
        cases.append(Case("gray", _gray(height, width), (height, width)))
        cases.append(Case("no image", np.zeros((height, width, 3), np.uint8), (0, 0)))
        differences += _compare_cases(exported, live, cases, config.model.box_head.score_threshold, tolerance)
    return differences


def refuse(differences: Sequence[Difference], tolerance: Tolerance, path: Path) -> None:
    """Raises an error unless the differences show that the file does what the model does.

    Raises:
        UserError: the file differs, or the model finds nothing in any of the images, so that nothing was compared.
    """
    for row in differences:
        if not row.passes(tolerance):
            raise UserError(
                f"{path.name}: differs from the live model and was not kept ({row.image}: {row.unmatched} detections "
                f"without a partner, boxes {row.boxes:.1e} px, scores {row.scores:.1e}, masks {row.masks:.1e}); please "
                "report it with the table of differences"
            )
    if tolerance.agreement is not None and agreement(differences) < tolerance.agreement:
        raise UserError(
            f"{path.name}: only {agreement(differences):.0%} of its detections, weighted by their scores, are the live "
            f"model's, and it was not kept; at least {tolerance.agreement:.0%} are expected; calibrate 8-bit "
            "integers on images like those that the model was trained on"
        )
    if not any(row.detections for row in differences):
        raise UserError(
            f"{path.name}: the model finds nothing in the images that it is checked on; give images with objects by "
            "--check_images"
        )


def format_differences(differences: Sequence[Difference], tolerance: Tolerance) -> str:
    """The differences as a table."""
    lines = [f"{'largest difference':32}{'detections':>11}{'unmatched':>10}{'boxes, px':>10}{'scores':>9}{'masks':>9}"]
    for row in differences:
        numbers = f"{row.detections:11}{row.unmatched:10}{row.boxes:10.1e}{row.scores:9.1e}{row.masks:9.1e}"
        lines.append(f"{row.image[:32]:32}{numbers}{'' if row.passes(tolerance) else '  too large'}")
    if tolerance.agreement is None:
        lines.append(f"{'tolerance':53}{tolerance.boxes:10.1e}{tolerance.scores:9.1e}{tolerance.masks:9.1e}")
    else:
        fraction = f"{agreement(differences):.1%}, at least {tolerance.agreement:.0%} expected"
        lines.append(f"same detections, weighted by score: {fraction}")
    return "\n".join(lines)


def _compare_cases(
    exported: ExportedModel, live: Model, cases: list[Case], score_threshold: float, tolerance: Tolerance
) -> list[Difference]:
    """The live model runs image by image, the file in batches."""
    images = np.stack([case.canvas for case in cases])
    image_sizes = np.array([case.image_size for case in cases], np.float32)
    theirs = exported.predict_on_batch({"images": images, "image_sizes": image_sizes})
    differences = []
    for i, case in enumerate(cases):
        outputs = live.predict_on_batch({"images": images[i : i + 1], "image_sizes": image_sizes[i : i + 1]})
        mine = {name: np.asarray(value)[0] for name, value in outputs.items()}
        its = {name: value[i] for name, value in theirs.items()}
        forms = [{name: (value.shape, value.dtype) for name, value in one.items()} for one in (mine, its)]
        if forms[0] != forms[1]:
            raise UserError(f"{exported.path.name}: its outputs are {forms[1]}, the live model's {forms[0]}")
        height, width = images.shape[1:3]
        name = f"{case.name}, {height}x{width}"
        differences.append(compare_outputs(name, mine, its, score_threshold=score_threshold, tolerance=tolerance))
    return differences


def _canvases(exported: ExportedModel, config: Config) -> list[tuple[int, int]]:
    """Height and width of the canvases that the file takes: landscape and portrait if it takes any."""
    _, height, width, _ = exported.shape
    if height and width:
        return [(height, width)]
    short, long = canvas_size(1, 1, config.model.image)
    return sorted({(short, long), (long, short)})


def _place(name: str, image: NDArray[np.uint8], height: int, width: int) -> Case:
    """An image in the upper left corner of a canvas, as large as fits."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = (min(round(image.shape[0] * scale), height), min(round(image.shape[1] * scale), width))
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: size[0], : size[1]] = resize(image, size)
    return Case(name, canvas, size)


def _gray(height: int, width: int) -> NDArray[np.uint8]:
    """Gray with a little noise: on a flat image all anchors tie, and rounding would choose among them.

    With generated weights, the live model itself finds other boxes in a flat image when XLA compiles it.
    """
    noise = np.random.default_rng(0).normal(128, 4, (height, width, 3))
    return noise.clip(0, 255).astype(np.uint8)


def _drawn_images() -> list[tuple[str, NDArray[np.uint8]]]:
    return [(f"drawn shapes {seed}", draw_image(np.random.default_rng(seed), DRAWN_SIZE)[0]) for seed in range(DRAWN)]
