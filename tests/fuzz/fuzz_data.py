"""Hypothesis over the doors for data: mutated valid files, for as long as FUZZ_SECONDS says; `make fuzz` runs them."""

import functools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from maskrcnn.input_files import read_json
from tests.fuzz import data_attacks as data
from tests.fuzz.attacks import HOSTILE, Attack, as_text, places, replaced, verdict

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
numbers = st.integers() | st.floats() | st.integers(min_value=-(10**30), max_value=10**30)
texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.sampled_from(list(HOSTILE.values())),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def fuzz(**strategies: Any) -> Callable[[Any], Any]:
    """Repeats a test with drawn inputs until the time is over; what fails is made small and shown."""

    def decorate(test: Any) -> Any:
        started: list[float] = []

        @functools.wraps(test)
        def timed(*args: Any, **drawn: Any) -> None:
            started.append(time.monotonic())
            if started[-1] - started[0] < SECONDS:
                test(*args, **drawn)

        checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
        repeat = settings(
            max_examples=int(SECONDS * 200),
            deadline=None,
            database=None,
            suppress_health_check=checks,
            phases=[Phase.generate, Phase.shrink],
        )
        return repeat(given(**strategies)(timed))

    return decorate


@st.composite
def documents(draw: Any, valid: Any) -> str:
    """A valid document with one to three values replaced, as JSON."""
    document = valid
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(document))))
        document = replaced(document, path, draw(values))
    return as_text(document)


@st.composite
def bytes_like(draw: Any, valid: bytes) -> bytes:
    """A valid file with bytes overwritten, removed or repeated."""
    mutated = bytearray(valid)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, max(len(mutated) - 1, 0)))
        stop = start + draw(st.integers(0, 40))
        mutated[start:stop] = draw(st.binary(max_size=40) | st.just(bytes(mutated[start:stop]) * 2))
    return bytes(mutated)


def hold(kind: str, run: Callable[[Path], Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        problem = verdict(Attack(kind, "drawn", run), Path(folder))
    assert problem is None or problem.startswith("Silent"), problem  # a drawn change may leave a valid file


@fuzz(text=documents(data.coco_document()))
def test_coco(text):
    hold("COCO", lambda root: (data.write_coco(root, text), data.convert(root)))


@fuzz(text=documents(data.coco_document()))
def test_evaluation(text):
    hold("evaluation", lambda root: data.evaluate(root, text))


def one_json(document: Any) -> Any:
    """A good file and a drawn one."""
    good = json.dumps(document).replace("1.png", "2.png")
    return documents(document).map(lambda text: (good, text))


@fuzz(files=one_json(data.LABELME) | one_json(data.VIA))
def test_one_json_an_image(files):
    def run(root: Path) -> None:
        data.write_images(root)
        for number, text in enumerate(files):
            (root / f"{2 - number}.json").write_text(text, errors="surrogatepass")
        data.train_all(root)

    hold("labelme and VIA", run)


@fuzz(content=st.binary(max_size=200) | bytes_like(json.dumps(data.coco_document()).encode()))
def test_json(content):
    def run(root: Path) -> None:
        (root / "x.json").write_bytes(content)
        read_json(root / "x.json", "a table")

    hold("JSON", run)


@fuzz(content=st.sampled_from(data.FORMATS).flatmap(lambda format: bytes_like(data.encoded(format))))
def test_images(content):
    def run(root: Path) -> None:
        (root / "x.jpg").write_bytes(content)
        data.read_everywhere(root / "x.jpg")

    hold("images", run)


@fuzz(
    yaml=bytes_like(b"path: .\ntrain: images\nval: images\nnames:\n  0: cat\n  1: dog\n"),
    label=bytes_like(b"0 0.2 0.2 0.6 0.2 0.6 0.7\n"),
)
def test_yolo(yaml, label):
    hold("YOLO", lambda root: (data.write_yolo(root, yaml, label), data.train_all(root)))


@fuzz(content=bytes_like(data.XML.encode()))
def test_voc(content):
    def run(root: Path) -> None:
        data.write_images(root)
        (root / "1.xml").write_bytes(content)
        (root / "2.xml").write_text(data.XML.replace("1.png", "2.png"))
        data.train_all(root)

    hold("VOC", run)


@fuzz(content=st.deferred(lambda: bytes_like(data.one_shard())))
def test_records(content):
    def run(root: Path) -> None:
        (root / "train-00000-of-00001.tfrecord").write_bytes(content)
        data.read_records(root, same=False)

    hold("records", run)
