"""Attacks on the doors for data, a sample of each kind; `python -m tests.fuzz` runs all of them."""

from collections import Counter
from itertools import islice

import pytest

from tests.fuzz import data_attacks, result_attacks
from tests.fuzz.attacks import verdict

EVERY = {  # only each N-th attack of the large kinds
    "coco_fields": 13,
    "eval_fields": 13,
    "labelme_and_via": 37,
    "yolo": 4,
    "own_records": 37,
    "third_party_records": 11,
    "crowds": 3,
    "hard_polygons": 2,
    "comparisons": 7,
    "logs": 5,
}


@pytest.mark.parametrize("kind", [*data_attacks.KINDS, *result_attacks.KINDS], ids=lambda kind: kind.__name__)
def test_every_attack_is_held(kind, tmp_path):
    problems, count = [], Counter()
    for number, attack in enumerate(islice(kind(), 0, None, EVERY.get(kind.__name__, 1))):
        folder = tmp_path / str(number)
        folder.mkdir()
        count[attack.kind] += 1
        if problem := verdict(attack, folder):
            problems.append(f"{attack.kind}: {attack.name}: {problem}")
    assert count
    assert not problems, "\n".join(problems[:20])
