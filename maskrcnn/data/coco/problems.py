"""Problems of a dataset: their kinds, which of them a run forgives, and how they are reported.

What loses nothing is repaired. An entry that cannot be used is skipped, as long as few are: one bad annotation in
thousands must not stop a run. What points to a mistake in the whole file is hardly tolerated.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from maskrcnn.errors import UserError

TOLERATED = 10  # skipped images, and skipped annotations, that do not stop a run ...
TOLERATED_FRACTION = 0.01  # ... or this fraction of all, if that is more ...
MOST_TOLERATED = 0.25  # ... but never more than this fraction
EXAMPLES = 3  # of each kind, in summaries
NO_MASK = "no mask"
WHILE_READING = "while reading"  # what a reader repaired or skipped, in lines that have its counts
BOXES_ONLY = (
    "boxes without masks, as an object-detection export has; export it as instance segmentation (in Roboflow "
    "'COCO Segmentation', in CVAT and Label Studio polygons or brush masks), or pass --masks_from_boxes to train on "
    "rectangles"
)


Repaired = Callable[[str, str], None]  # called with the kind and the text of a repair


class Severity(Enum):
    """What a problem does to a run."""

    NOTED = "note"  # nothing is done about it
    REPAIRED = "repaired"  # nothing is lost
    SKIPPED = "skipped"  # one entry is lost
    SUSPECT = "suspect"  # one entry is lost, and the others are hardly right


class EntryError(ValueError):
    """An image, annotation or category that cannot be used."""

    def __init__(self, kind: str, text: str, severity: Severity = Severity.SKIPPED) -> None:
        super().__init__(text)
        self.kind, self.severity = kind, severity


@dataclass(frozen=True)
class Problem:
    """Something wrong with a dataset."""

    kind: str  # a few words, equal for equal problems: "no mask"
    file: Path
    item: str  # "annotation 5"; its first word says of what it is
    text: str
    severity: Severity = Severity.SKIPPED

    def __str__(self) -> str:
        return f"{self.file}: {self.item}: {self.text}"

    @property
    def is_loss(self) -> bool:
        """Whether an entry cannot be used."""
        return self.severity in (Severity.SKIPPED, Severity.SUSPECT)

    @property
    def entry(self) -> str:
        """What the item is: "image", "annotation", "category"."""
        return self.item.partition(" ")[0]


class ProblemKind(NamedTuple):
    """All problems of one kind."""

    kind: str
    severity: Severity
    problems: list[Problem]

    def examples(self) -> list[str]:
        """The first few as text."""
        return [str(problem) for problem in self.problems[:EXAMPLES]]


def group_by_kind(problems: Iterable[Problem]) -> list[ProblemKind]:
    """Problems by kind, the most frequent kind first."""
    groups: dict[tuple[str, Severity], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.kind, problem.severity), []).append(problem)
    found = [ProblemKind(kind, severity, group) for (kind, severity), group in groups.items()]
    return sorted(found, key=lambda group: -len(group.problems))


def refuse(problems: Sequence[Problem], totals: dict[str, int], *, skip_bad: bool) -> None:
    """Stops where more is lost than may be skipped by default.

    Args:
        problems: of one split.
        totals: how many images, annotations and categories the split lists.
        skip_bad: whether anything may be skipped.

    Raises:
        UserError: too many entries would be skipped.
    """
    lost = None if skip_bad else _most_serious(problems, totals)
    if lost:
        raise UserError(_refusal(lost, totals.get(lost[0].entry, 0)))


def is_tolerable(problems: Sequence[Problem], totals: dict[str, int]) -> bool:
    """Whether no more is lost than may be skipped by default."""
    return _most_serious(problems, totals) is None


def _most_serious(problems: Sequence[Problem], totals: dict[str, int]) -> list[Problem] | None:
    """The problems of the first sort of entries of which too many are lost."""
    for entry in ("category", "image", "annotation"):
        lost = [problem for problem in problems if problem.entry == entry and problem.is_loss]
        suspect = [problem for problem in lost if problem.severity == Severity.SUSPECT]
        total = totals.get(entry, 0)
        if len(suspect) > TOLERATED_FRACTION * total:
            return suspect
        if len(lost) > tolerated(total):
            return lost
    return None


def tolerated(total: int) -> int:
    """How many of ``total`` entries may be skipped by default."""
    return int(min(max(TOLERATED, TOLERATED_FRACTION * total), MOST_TOLERATED * total))


def _refusal(lost: list[Problem], total: int) -> str:
    entry = lost[0].entry
    without_mask = [problem for problem in lost if problem.kind == NO_MASK]
    if 2 * len(without_mask) > len(lost):
        return f"{lost[0].file}: {len(without_mask)} of {total} objects are {BOXES_ONLY}"
    kinds = Counter(problem.kind for problem in lost)
    counts = f" ({', '.join(f'{kind}: {count}' for kind, count in kinds.most_common(3))})" if len(lost) > 1 else ""
    limit = f"by default up to {TOLERATED} or {TOLERATED_FRACTION:.0%} are skipped"
    plural = {"category": "categories"}.get(entry, f"{entry}s")
    return (
        f"{lost[0].file}: {len(lost)} of {total} {plural} cannot be used{counts}, the first: "
        f"{lost[0].item}: {lost[0].text}; fix them (`maskrcnn data check` lists all), or pass --skip_bad to skip them "
        f"all the same ({limit})"
    )


def summarize(problems: Iterable[Problem]) -> list[str]:
    """One line for each kind: how many there are, what was done, and the first of them."""
    lines: list[str] = []
    for group in group_by_kind(problems):
        first = group.problems[0]
        if group.kind == WHILE_READING:
            lines += dict.fromkeys(problem.text for problem in group.problems)
            continue
        done = "skipped" if first.is_loss else group.severity.value
        count = len(group.problems)
        if count == 1:
            lines.append(f"{done}: {first.item}: {first.text} ({first.file.name})")
        else:
            lines.append(f"{done} {count} x {group.kind}, the first: {first.item}: {first.text} ({first.file.name})")
    return lines
