"""The check of a dataset: what it holds, and everything that is wrong with it, images included."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from tqdm import tqdm

from maskrcnn.config import DataConfig
from maskrcnn.data.coco.annotations import CocoDataset
from maskrcnn.data.coco.problems import EXAMPLES, WHILE_READING, Problem, Severity, group_by_kind, refuse
from maskrcnn.data.formats.found_dataset import SPLIT_NAMES
from maskrcnn.data.reading import require_objects
from maskrcnn.data.records.prepare import prepare_images
from maskrcnn.data.records.tfrecord import record_spans, verified_records
from maskrcnn.data.records.third_party import check_record, class_texts, count_objects, parse
from maskrcnn.data.splits import Dataset, find_dataset
from maskrcnn.errors import UserError
from maskrcnn.input_files import read_json
from maskrcnn.runtime.files import write_text

SMALL, LARGE = 32**2, 96**2  # px, COCO's bounds of an object's area
REFUSED = "refused"  # the kind of what stops training
MAX_CLASSES = 30  # that are listed in the summary
PROBLEMS_FILE = "problems.txt"  # the default name of the full list


@dataclass
class Report:
    """What a dataset holds. Counts are of what is listed, usable or not."""

    format: str
    splits: dict[str, dict[str, int]] = field(default_factory=dict)  # images, objects and crowds of each
    classes: Counter[str] = field(default_factory=Counter)  # objects of each
    problems: list[Problem] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # why training would refuse it
    held_out: bool = False
    sizes: list[tuple[int, int]] = field(default_factory=list)  # width, height of each usable image
    objects_per_image: list[int] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)  # px, of usable objects

    def to_json(self) -> dict[str, Any]:
        """The report as ``maskrcnn data check --json`` writes it."""
        return {
            "format": self.format,
            "splits": self.splits,
            "classes": [{"name": name, "objects": count} for name, count in self.classes.items()],
            "problems": [
                {"kind": group.kind, "count": len(group.problems), "examples": group.examples()}
                for group in group_by_kind(self.problems)
            ],
        }

    def lines(self) -> Iterator[str]:
        """The report to read."""
        images = " + ".join(str(counts["images"]) for counts in self.splits.values())
        yield f"{self.format}, {images} images, {len(self.classes)} class{'' if len(self.classes) == 1 else 'es'}"
        yield f"{'split':<8}{'images':>9}{'objects':>9}{'crowds':>9}"
        for name in SPLIT_NAMES:
            counts = self.splits.get(name)
            row = "".join(f"{count:>9}" for count in counts.values()) if counts else "  missing"
            yield f"{name:<8}{row}" + ("  (held out of train)" if name == "val" and self.held_out else "")
        listed = ", ".join(f"{name} {count}" for name, count in self.classes.most_common(MAX_CLASSES))
        yield f"objects by class: {listed}" + (", ..." if len(self.classes) > MAX_CLASSES else "")
        if self.sizes:
            smallest, largest = (pick(self.sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
            yield f"image sizes: {smallest[0]} x {smallest[1]} to {largest[0]} x {largest[1]} px"
        if self.objects_per_image:
            most = max(self.objects_per_image)
            yield f"usable objects per image: {mean(self.objects_per_image):.1f} on average, {most} at most"
        if self.areas:
            small, large = sum(area < SMALL for area in self.areas), sum(area >= LARGE for area in self.areas)
            medium = len(self.areas) - small - large
            yield f"object areas: {small} small (under 32 x 32 px), {medium} medium, {large} large (from 96 x 96 px)"
        for group in group_by_kind(problem for problem in self.problems if problem.kind != REFUSED):
            if group.kind == WHILE_READING:  # in lines that have their counts
                yield "while reading:"
                yield from (f"  {text}" for text in dict.fromkeys(problem.text for problem in group.problems))
                continue
            done = "skipped" if group.problems[0].is_loss else group.severity.value
            yield f"{done}: {len(group.problems)} x {group.kind}"
            yield from (f"  {example}" for example in group.examples())

    def is_shown_in_full(self) -> bool:
        """Whether `lines` has all problems."""
        groups = group_by_kind(self.problems)
        return all(len(group.problems) <= EXAMPLES or group.kind == WHILE_READING for group in groups)

    def write_json(self, path: str | Path) -> None:
        """Writes the report as JSON."""
        write_text(Path(path), json.dumps(self.to_json(), indent=2) + "\n")

    def write_problems(self, path: str | Path) -> None:
        """Writes all problems, a line each."""
        write_text(Path(path), "".join(f"{problem}\n" for problem in self.problems))


def keep_dataset(data_dir: str | Path, json_file: str | Path | None, problems_file: str | Path) -> None:
    """Makes sure that no report replaces a file of the dataset.

    Raises:
        UserError: a file in the folder has its name, and is no such report.
    """
    folder, problems = Path(data_dir).resolve(), Path(problems_file)
    places = [(problems, problems.name == PROBLEMS_FILE)]
    places += [(Path(json_file), _is_report(Path(json_file)))] if json_file else []
    for path, is_ours in places:
        if os.path.isfile(path) and path.resolve().is_relative_to(folder) and not is_ours:
            raise UserError(f"{path}: a file of the dataset, which the report would replace; give another path")


def _is_report(path: Path) -> bool:
    try:
        content = read_json(path, "a report")
    except UserError:
        return False
    return isinstance(content, dict) and set(content) == {"format", "splits", "classes", "problems"}


def check_folder(data_dir: str | Path, options: DataConfig | None = None, *, progress: bool = True) -> Report:
    """The report on the dataset in a folder.

    Raises:
        UserError: no dataset, or annotations that cannot be read at all.
    """
    dataset = find_dataset(data_dir, options or DataConfig())
    report = _check_records(dataset, progress) if dataset.records else _check_annotations(dataset, progress)
    if not report.errors and not sum(counts["objects"] for counts in report.splits.values()):
        report.errors.append(f"{data_dir}: the dataset has no object to learn from; add annotations")
    for error in report.errors:
        report.problems.append(Problem(REFUSED, Path(data_dir), "dataset", error, Severity.SUSPECT))
    return report


def _check_annotations(dataset: Dataset, progress: bool) -> Report:
    report = Report(dataset.format, held_out=dataset.held_out is not None)
    checked = dataset.read(dataset.names)
    report.classes.update({category.name: 0 for category in next(iter(checked.splits.values())).categories})
    for name, split in checked.splits.items():
        prepared = prepare_images(split, split.images, finish=lambda image: None)
        bar = tqdm(prepared, f"checking {name}", len(split.images), unit=" images", disable=not progress)
        found = [problem for problems, _ in bar for problem in problems]
        try:
            refuse([*split.problems, *found], split.totals, skip_bad=dataset.options.skip_bad)
            if name == "train":
                require_objects(split)
        except UserError as error:
            report.errors.append(str(error))
        if name == "val" and report.held_out:  # the entries listed are those of train
            report.problems += found
            crowds = Counter(annotation.is_crowd for group in split.annotations.values() for annotation in group)
            report.splits[name] = {"images": len(split.images), "objects": crowds[False], "crowds": crowds[True]}
        else:
            report.problems += [*split.problems, *found]
            images, annotations, crowds = (split.totals[key] for key in ("image", "annotation", "crowd"))
            report.splits[name] = {"images": images, "objects": annotations - crowds, "crowds": crowds}
            names = {category.id: category.name for category in split.categories}
            report.classes.update({names[id]: count for id, count in split.class_totals.items()})
        _add_sizes(split, report)
    if report.held_out:
        train, val = report.splits["train"], report.splits["val"]
        report.splits["train"] = {key: train[key] - val[key] for key in train}
    report.errors = list(dict.fromkeys(report.errors))
    return report


def _add_sizes(split: CocoDataset, report: Report) -> None:
    for image in split.images:
        objects = [annotation for annotation in split.annotations.get(image.id, ()) if not annotation.is_crowd]
        report.sizes.append((image.width, image.height))
        report.objects_per_image.append(len(objects))
        for annotation in objects:
            x1, y1, x2, y2 = annotation.box
            report.areas.append(annotation.area or (x2 - x1) * (y2 - y1))


def _check_records(dataset: Dataset, progress: bool) -> Report:
    report = Report(dataset.format)
    for name, files in dataset.records.items():
        counts = report.splits.setdefault(name, {"images": 0, "objects": 0, "crowds": 0})
        for path in tqdm(files, f"checking {name}", unit=" files", disable=not progress):
            try:
                _check_file(path, counts, report)
            except UserError as error:
                text = str(error).removeprefix(f"{path}: ")
                report.problems.append(Problem("damaged file", path, "file", text, Severity.SUSPECT))
                report.errors.append(str(error))
    return report


def _check_file(path: Path, counts: dict[str, int], report: Report) -> None:
    record_spans((path,))
    for number, serialized in enumerate(verified_records(path)):
        counts["images"] += 1
        if text := check_record(serialized):
            problem = Problem("bad record", path, f"record {number}", f"{text}; write it again", Severity.SUSPECT)
            report.problems.append(problem)
            report.errors.append(str(problem))
            continue
        features = parse(serialized)
        labels, crowds = count_objects(features)
        counts["objects"] += labels - crowds
        counts["crowds"] += crowds
        flags = list(features["image/object/is_crowd"].int64_list.value) or [0] * labels
        report.classes.update(text for text, flag in zip(class_texts(features), flags, strict=False) if not flag)
        report.objects_per_image.append(labels - crowds)
