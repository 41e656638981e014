"""Attacks through datasets, annotations, images and records."""

import base64
import contextlib
import io
import json
import logging
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from maskrcnn.config import Config, DataConfig
from maskrcnn.data.check import check_folder
from maskrcnn.data.coco.images import read_size as read_size_of_entry
from maskrcnn.data.formats.content import read_ids, read_size
from maskrcnn.data.loader.transforms import decode
from maskrcnn.data.records.split import max_instances
from maskrcnn.data.records.stored_images import store_image
from maskrcnn.data.records.tfrecord import RecordReader
from maskrcnn.data.shapes import write_shapes
from maskrcnn.data.splits import find_dataset
from maskrcnn.errors import UserError
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.evaluation.eval_split import open_eval_split
from maskrcnn.imaging.canvas import resized_size
from maskrcnn.imaging.read import load_image
from maskrcnn.inference.inputs import find_inputs
from maskrcnn.inference.predictor import Predictor
from tests.fuzz.attacks import BROKEN_FILES, HOSTILE, RAW, Attack, Log, Silent, mutated
from tests.ground_truth import ground_truth_detections

HEIGHT, WIDTH, IMAGES, OBJECTS = 24, 32, 4, 4
SMALL = {"image.min_side": 64, "image.max_side": 64}


@contextlib.contextmanager
def log() -> Iterator[list[str]]:
    """The lines that the package logs."""
    handler, logger = Log(), logging.getLogger("maskrcnn")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@cache
def pixels(number: int = 0) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@cache
def encoded(format: str = "PNG", number: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, format)
    return buffer.getvalue()


def coco_document() -> dict[str, Any]:
    images = [
        {"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH}
        for number in range(1, IMAGES + 1)
    ]
    annotations = [
        {
            "id": number + 1,
            "image_id": number // OBJECTS + 1,
            "category_id": number % 2 + 1,
            "bbox": [x, 5, 8, 9],
            "segmentation": [[x, 5, x + 8, 5, x + 8, 14, x, 14]],
            "area": 72,
            "iscrowd": 0,
        }
        for number in range(IMAGES * OBJECTS)
        for x in [2 + 5 * (number % OBJECTS)]
    ]
    categories = [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path, text: str | bytes, name: str = "train") -> Path:
    (root / name).mkdir(parents=True)
    for number in range(1, IMAGES + 1):
        (root / name / f"{number}.png").write_bytes(encoded(number=number))
    path = root / "annotations" / f"instances_{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def convert(root: Path, listed: int = IMAGES * OBJECTS, **options: Any) -> None:
    """Converts what is in a folder, and verifies that none of the listed objects is lost without a word."""
    with log() as lines:
        dataset = find_dataset(root, DataConfig(**{"val_fraction": 0.0, **options}))
        dataset.convert(*dataset.names, progress=False)
        split = dataset.open(dataset.names[0])
        dataset.describe(dataset.names[0])
    verify(split)
    kept = int(split.index.objects.sum())
    if kept < listed and not lines:
        raise Silent(f"{kept} of {listed} objects are left, and no line says so")


def verify(split: Any) -> None:
    """The boxes that will be trained on and compared with are finite and in their images."""
    content = json.loads(split.annotation_file.read_bytes())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for entry in content["annotations"]:
        x, y, w, h = entry["bbox"]
        width, height = sizes[entry["image_id"]]
        if not (0 <= x < x + w <= width + 0.01 and 0 <= y < y + h <= height + 0.01):
            raise Silent(f"box {entry['bbox']} in an image of {width} x {height}")


ONE_LESS = {"no annotations/0", "annotations/0/iscrowd is true", "annotations/0/iscrowd is text of a number"}


def coco_fields() -> Iterator[Attack]:
    for name, text in mutated(coco_document()):
        listed = IMAGES * OBJECTS - (name in ONE_LESS)
        yield Attack("COCO: fields", name, lambda root, t=text, n=listed: (write_coco(root, t), convert(root, n)))


def coco_files() -> Iterator[Attack]:
    for name, data in BROKEN_FILES.items():
        yield Attack("COCO: files", name, lambda root, data=data: (write_coco(root, data), convert(root)))
        yield Attack(
            "COCO: files",
            f"data check, {name}",
            lambda root, data=data: (write_coco(root, data), check_folder(root, progress=False)),
        )
    for name, make in NO_FILES.items():

        def run(root: Path, make: Any = make) -> None:
            write_coco(root, json.dumps(coco_document()))
            make(root / "x.json")
            convert(root, train_file="x.json")

        yield Attack("COCO: files", f"--train_file is a {name}", run)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": _link("/dev/zero"),
    "dead link": _link("nowhere"),
    "link to itself": lambda path: path.symlink_to(path),
    "file of 1 TB": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


def hard_polygons() -> Iterator[Attack]:
    """Geometry that breaks rasterizers."""
    far = [1e5, 1e6, 1e8, 1e9, 1e12, 1e14, -1e8, 1e-300]
    shapes = {f"to {value:g}": [[1, 1, value, 1, value, value, 1, value]] for value in far}
    shapes |= {f"around from -{value:g}": [[-value, -value, value, -value, value, value]] for value in far[:6]}
    shapes |= {
        "all points equal": [[5, 5] * 10],
        "a line": [[1, 1, 9, 9, 5, 5]],
        "50,000 points": [[float(v % 30) for v in range(100_000)]],
        "2,000 parts": [[1, 1, 9, 1, 9, 9]] * 2_000,
        "just outside": [[32, 24, 40, 24, 40, 30]],
        "tiny": [[5, 5, 5.0001, 5, 5.0001, 5.0001]],
        "a bow tie": [[1, 1, 9, 9, 9, 1, 1, 9]],
    }
    rles: dict[str, Any] = {
        "counts too long": {"size": [24, 32], "counts": [0, 10**9]},
        "counts of another size": {"size": [10**6, 10**6], "counts": [0, 10**12]},
        "negative counts": {"size": [24, 32], "counts": [-1, 769]},
        "counts of fractions": {"size": [24, 32], "counts": [0.5, 767.5]},
        "counts of nothing": {"size": [24, 32], "counts": ""},
        "counts of a surrogate": {"size": [24, 32], "counts": "@surrogate"},
        "counts not ASCII": {"size": [24, 32], "counts": "é"},
        "counts endless": {"size": [24, 32], "counts": "o" * 1000},
        "counts of 1 MB": {"size": [24, 32], "counts": "0" * 1_000_000},
        "size of true": {"size": [True, 768], "counts": [0, 768]},
        "size of fractions": {"size": [24.0, 32.0], "counts": [0, 768]},
        "size of 2**62": {"size": [2**31, 2**31], "counts": [0, 2**62]},
        "200,000 runs": {"size": [24, 32], "counts": [0] * 200_000 + [768]},
    }
    for name, segmentation in {**shapes, **rles}.items():
        document = coco_document()
        document["annotations"][0] |= {"segmentation": segmentation, "bbox": [1, 1, 30, 20]}
        text = json.dumps(document).replace('"@surrogate"', RAW["@surrogate"])
        yield Attack("COCO: masks", f"convert, {name}", lambda root, t=text: (write_coco(root, t), convert(root)))
        yield Attack("COCO: masks", f"evaluate, {name}", lambda root, t=text: evaluate(root, t))


def evaluate(root: Path, text: str | bytes, listed: int = IMAGES * OBJECTS) -> None:
    """Compares the ground truth of a file with itself: everything there is must be found."""
    path = root / "eval.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    evaluate_file(path, listed)


def evaluate_file(path: Path, listed: int = IMAGES * OBJECTS) -> None:
    with log() as lines:
        scorer = CocoScorer(path)
        for image_id, detections in ground_truth_detections(path):
            scorer.add(image_id, detections)
        metrics = scorer.metrics()
    average = metrics["segm"]["AP"]
    if average is None and not lines:
        raise Silent("no metric is defined, and no line says why")
    if average is not None and average < 0.85:
        raise Silent(f"the ground truth has an AP of {average} compared with itself")
    if not lines and len(scorer._rles) < listed:
        raise Silent(f"{len(scorer._rles)} of {listed} annotations are left, and no line says so")


@cache
def base_folder() -> Path:
    """A converted dataset, which no attack changes."""
    root = Path(tempfile.mkdtemp(prefix="doors-"))
    write_coco(root, json.dumps(coco_document()))
    find_dataset(root, DataConfig(val_fraction=0.0)).convert("train", progress=False)
    return root


def one_shard() -> bytes:
    """A file of our own records."""
    return next((base_folder() / "tfrecords").glob("*.tfrecord")).read_bytes()


@cache
def base_config() -> Config:
    split = find_dataset(base_folder(), DataConfig(val_fraction=0.0)).open("train")
    config = Config.tiny().override({**SMALL, "data.val_fraction": 0.0, "data.max_instances": 4})
    return Config(config.model, config.data, config.train, split.categories)


def eval_fields() -> Iterator[Attack]:
    for name, text in mutated(coco_document()):
        listed = IMAGES * OBJECTS - (name in ONE_LESS)
        yield Attack("evaluation: fields", name, lambda root, t=text, n=listed: evaluate(root, t, n))


def open_eval(path: Path) -> None:
    with log():
        open_eval_split(base_config(), base_folder(), base_folder(), name="train", eval_file=path)


def eval_files() -> Iterator[Attack]:
    for name, data in BROKEN_FILES.items():
        yield Attack("evaluation: files", name, lambda root, data=data: evaluate(root, data))

        def run(root: Path, data: bytes = data) -> None:
            (root / "eval.json").write_bytes(data)
            open_eval(root / "eval.json")

        yield Attack("evaluation: files", f"--eval_file, {name}", run)
    for name, make in NO_FILES.items():
        for what, action in (("ground truth", evaluate_file), ("--eval_file", open_eval)):

            def run_special(root: Path, make: Any = make, action: Any = action) -> None:
                make(root / "eval.json")
                action(root / "eval.json")

            yield Attack("evaluation: files", f"{what} is a {name}", run_special)
    yield Attack("evaluation: files", "--eval_file of no name", lambda root: open_eval(Path("")))


def large_ids() -> Iterator[Attack]:
    """Ids beyond what a float holds, of all entries of a kind."""
    for bits in (53, 60, 62, 63, 64, 100, 1000):
        for which in ("image", "category", "annotation"):
            document = coco_document()
            add = 2**bits
            for entry in document[{"image": "images", "category": "categories", "annotation": "annotations"}[which]]:
                entry["id"] += add
            for entry in document["annotations"] if which != "annotation" else ():
                entry[f"{which}_id"] += add
            text = json.dumps(document)
            name = f"{which} ids from 2**{bits}"
            yield Attack("ids", f"convert, {name}", lambda root, t=text: (write_coco(root, t), convert(root)))
            yield Attack("ids", f"evaluate, {name}", lambda root, t=text: evaluate(root, t))
            yield Attack(
                "ids", f"twice, {name}", lambda root, t=text: (write_coco(root, t), convert(root), convert(root))
            )


def crowds() -> Iterator[Attack]:
    for name, value in {**HOSTILE, "one": 1, "text 1": "1", "text 0": "0", "list of one": [1]}.items():
        document = coco_document()
        for entry in document["annotations"]:
            entry["iscrowd"] = value
        text = json.dumps(document)
        for raw, other in RAW.items():
            text = text.replace(f'"{raw}"', other)

        def run(root: Path, text: str = text) -> None:
            write_coco(root, text)
            with log() as lines:
                dataset = find_dataset(root, DataConfig(val_fraction=0.0))
                dataset.convert("train", progress=False)
            split = dataset.open("train")
            if split.index.objects.sum() < IMAGES * OBJECTS and not any("crowd" in line for line in lines):
                raise Silent("objects became crowds, and no line says so")

        yield Attack("crowds", f"iscrowd of all is {name}", run)
        yield Attack("crowds", f"evaluate, iscrowd of all is {name}", lambda root, t=text: evaluate(root, t))


LABELME = {
    "version": "5.0.1",
    "flags": {},
    "shapes": [
        {"label": "cat", "points": [[2, 5], [10, 5], [10, 14]], "group_id": None, "shape_type": "polygon", "flags": {}},
        {"label": "dog", "points": [[2, 5], [10, 9]], "group_id": 1, "shape_type": "circle", "flags": {}},
        {
            "label": "dog",
            "points": [[2, 5], [10, 9]],
            "shape_type": "mask",
            "mask": base64.b64encode(encoded()).decode(),
        },
    ],
    "imagePath": "1.png",
    "imageData": None,
    "imageHeight": HEIGHT,
    "imageWidth": WIDTH,
}
VIA = {
    "1.png100": {
        "filename": "1.png",
        "size": 100,
        "regions": [
            {
                "shape_attributes": {"name": "polygon", "all_points_x": [2, 10, 10], "all_points_y": [5, 5, 14]},
                "region_attributes": {"class": "cat", "kinds": {"a": True}},
            },
            {
                "shape_attributes": {"name": "ellipse", "cx": 9, "cy": 9, "rx": 4, "ry": 3, "theta": 1.0},
                "region_attributes": {"class": "dog"},
            },
        ],
        "file_attributes": {},
    }
}


def write_images(root: Path, *, count: int = 2) -> None:
    for number in range(1, count + 1):
        (root / f"{number}.png").write_bytes(encoded(number=number))


def train_all(root: Path) -> None:
    with log():
        dataset = find_dataset(root, DataConfig(val_fraction=0.0))
        dataset.convert("train", progress=False)
        verify(dataset.open("train"))


def labelme_and_via() -> Iterator[Attack]:
    for kind, document in (("labelme", LABELME), ("VIA", VIA)):
        for name, text in [*mutated(document), *_shapes_alone(kind, document)]:

            def run(root: Path, text: str = text, document: Any = document) -> None:
                write_images(root)
                (root / "1.json").write_text(text)
                good = json.dumps(document).replace("1.png", "2.png")
                (root / "2.json").write_text(good)
                train_all(root)

            yield Attack(kind, name, run)
        for name, data in BROKEN_FILES.items():

            def run_broken(root: Path, data: bytes = data, document: Any = document) -> None:
                write_images(root)
                (root / "1.json").write_bytes(data)
                (root / "2.json").write_text(json.dumps(document).replace("1.png", "2.png"))
                train_all(root)

            yield Attack(kind, f"a file of {name}", run_broken)
        for name, make in NO_FILES.items():

            def run_special(root: Path, make: Any = make, document: Any = document) -> None:
                write_images(root)
                make(root / "1.json")
                (root / "2.json").write_text(json.dumps(document).replace("1.png", "2.png"))
                train_all(root)

            yield Attack(kind, f"a file that is a {name}", run_special)


def _shapes_alone(kind: str, document: Any) -> Iterator[tuple[str, str]]:
    """Mutations of the shapes after the first one."""
    if kind == "labelme":
        for position in (1, 2):
            for name, text in mutated({**document, "shapes": [document["shapes"][position]]}):
                if name.startswith(("shapes/0", "no shapes/0")):
                    yield f"{document['shapes'][position]['shape_type']}: {name}", text
        return
    entry = document["1.png100"]
    for name, text in mutated({"1.png100": {**entry, "regions": [entry["regions"][1]]}}):
        if "regions/0" in name:
            yield f"ellipse: {name}", text


YAML_FILES = {
    "aliases that expand": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9))
    + "names: *j\n",
    "an alias of itself": "names: &a [*a]\n",
    "merge keys": "a: &a {x: 1}\nnames:\n  <<: [*a, *a]\n",
    "merge of a scalar": "names:\n  <<: 3\n",
    "20,000 lists": "names: " + "[" * 20_000,
    "deep indentation": "".join(f"{' ' * n}a:\n" for n in range(1500)),
    "an object of Python": "names: !!python/object/apply:os.system [touch pwned]\n",
    "a tab": "names:\n\t- cat\n",
    "a NUL": "names: [a\0b]\n",
    "a list as a key": "? [a, b]\n: c\nnames: [cat]\n",
    "a mapping as a key": "? {a: b}\n: c\nnames: [cat]\n",
    "an unknown alias": "names: *nothing\n",
    "two documents": "names: [cat]\n---\nnames: [dog]\n",
    "a huge integer as an id": "names: {" + "9" * 5000 + ": cat}\n",
    "a negative id": "names: {-1: cat, 0: dog}\n",
    "other digits": "names: {²: cat, ٣: dog}\n",
    "a name of markup": "names: ['<script>', dog]\n",
    "names of lists": "names: [[cat], [dog]]\n",
    "names of null": "names:\n",
    "names of a number": "names: 7\n",
    "an upward path": "path: ../../..\ntrain: ../../../etc\nnames: [cat, dog]\n",
    "a path with NUL": 'path: "a\\0b"\ntrain: "a\\0b"\nnames: [cat, dog]\n',
    "a path of a surrogate": 'train: "\\ud800"\nnames: [cat, dog]\n',
    "a path of itself": "train: data.yaml\nnames: [cat, dog]\n",
    "a path list": "train: [[[images]]]\nnames: [cat, dog]\n",
    "a path of a device": "train: /dev/zero\nnames: [cat, dog]\n",
    "a long path": f"train: {'x/' * 5000}\nnames: [cat, dog]\n",
    "a timestamp": "names: [2001-01-01, 1:30]\n",
    "an anchor flood": "names: [" + ", ".join(f"&a{n} x" for n in range(5_000)) + "]\n",
}
LABEL_LINES = {
    "NaN": "nan 0.5 0.5 0.2 0.2",
    "Infinity": "0 inf 0.5 0.2 0.2",
    "1e400": "0 1e400 0.5 0.2 0.2",
    "a class of 1e300": "1e300 0.5 0.5 0.2 0.2",
    "a class of 400 digits": "9" * 400 + " 0.5 0.5 0.2 0.2",
    "a negative class": "-1 0.5 0.5 0.2 0.2",
    "a class of a fraction": "0.5 0.5 0.5 0.2 0.2",
    "a class of 2**63": f"{2**63} 0.5 0.5 0.2 0.2",
    "a negative size": "0 0.5 0.5 -0.2 -0.2",
    "no size": "0 0.5 0.5 0 0",
    "one number": "0",
    "an odd polygon": "0 0.1 0.1 0.2 0.2 0.3",
    "NUL": "0 0.5\0 0.5 0.2 0.2",
    "hexadecimal": "0x1 0.5 0.5 0.2 0.2",
    "underscores": "1_0 0.5 0.5 0.2 0.2",
    "a polygon of equal points": "0 " + "0.5 0.5 " * 20,
    "10,000 points": "0 " + "0.1 0.2 0.3 0.3 " * 5_000,
    "other digits": "٣ 0.5 0.5 0.2 0.2",
}


def write_yolo(root: Path, yaml: str | bytes, line: str | bytes) -> None:
    """Two images, to the second of whose labels a line is added."""
    (root / "images").mkdir()
    (root / "labels").mkdir()
    write_images(root / "images")
    good = b"0 0.2 0.2 0.6 0.2 0.6 0.7\n1 0.2 0.2 0.6 0.2 0.6 0.7\n"
    (root / "labels" / "1.txt").write_bytes(good)
    line = line if isinstance(line, bytes) else line.encode(errors="surrogatepass")
    (root / "labels" / "2.txt").write_bytes(good + line + b"\n")
    (root / "data.yaml").write_bytes(yaml if isinstance(yaml, bytes) else yaml.encode())


def yolo() -> Iterator[Attack]:
    for name, yaml in {**YAML_FILES, **BROKEN_FILES}.items():

        def run_yaml(root: Path, yaml: Any = yaml) -> None:
            write_yolo(root, yaml, "")
            train_all(root)
            if Path("pwned").exists():
                raise Silent("a command was run")

        yield Attack("YOLO: data.yaml", name, run_yaml)
    for name, line in {**LABEL_LINES, **BROKEN_FILES}.items():

        def run_line(root: Path, line: Any = line) -> None:
            write_yolo(root, "names: [cat, dog]\n", line)
            train_all(root)

        yield Attack("YOLO: labels", name, run_line)
        yield Attack(
            "YOLO: labels", f"no names, {name}", lambda root, n=line: (write_yolo(root, "nc: 2\n", n), train_all(root))
        )
    for name, make in NO_FILES.items():
        for place in ("labels/1.txt", "data.yaml", "classes.txt", "train.txt"):

            def run_special(root: Path, make: Any = make, place: str = place) -> None:
                write_yolo(root, "names: [cat, dog]\n", "")
                (root / place).unlink(missing_ok=True)
                make(root / place)
                train_all(root)

            yield Attack("YOLO: labels", f"{place} is a {name}", run_special)


XML = (
    "<annotation><filename>1.png</filename><size><width>32</width><height>24</height></size>"
    "<object><name>cat</name><bndbox><xmin>2</xmin><ymin>5</ymin><xmax>10</xmax><ymax>14</ymax></bndbox>"
    "<polygon><x1>2</x1><y1>5</y1><x2>10</x2><y2>5</y2><x3>10</x3><y3>14</y3></polygon></object></annotation>"
)
LOL = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
XML_FILES = {
    "entities that expand": f'<!DOCTYPE a [<!ENTITY l0 "lol">{LOL}]>' + XML.replace("cat", "&l9;"),
    "quadratic entities": f'<!DOCTYPE a [<!ENTITY a "{"x" * 100_000}">]>' + XML.replace("cat", "&a;" * 10_000),
    "an external entity": '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + XML.replace("cat", "&a;"),
    "an external DTD": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">' + XML,
    "parameter entities": "<!DOCTYPE a [<!ENTITY % a \"<!ENTITY b 'c'>\"> %a;]>" + XML.replace("cat", "&b;"),
    "entities in UTF-16": (f'<!DOCTYPE a [<!ENTITY l0 "lol">{LOL}]>' + XML.replace("cat", "&l9;")).encode("utf-16"),
    "entities in UTF-16 declared": (
        f'<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY l0 "lol">{LOL}]>' + XML.replace("cat", "&l9;")
    ).encode("utf-16"),
    "20,000 elements deep": XML.replace("cat", "<a>" * 20_000 + "</a>" * 20_000),
    "unclosed elements": "<annotation><filename>" + "<object>" * 20_000,
    "an unknown encoding": '<?xml version="1.0" encoding="x-nothing"?>' + XML,
    "UTF-7": '<?xml version="1.0" encoding="utf-7"?>' + XML,
    "a long attribute": XML.replace("<name>", f'<name a="{"x" * 1_000_000}">'),
    "a million attributes": XML.replace("<name>", "<name " + " ".join(f'a{n}="x"' for n in range(100_000)) + ">"),
    "an upward path": XML.replace("1.png", "../../../etc/passwd"),
    "an empty name": XML.replace("1.png", ""),
    "a folder as image": XML.replace("1.png", "."),
    "no object": "<annotation><filename>1.png</filename></annotation>",
    **{
        f"a side of {value[:12]}": XML.replace(">10<", f">{value}<")
        for value in ("nan", "inf", "-inf", "1e400", "9" * 400, "-5", "", "x", "1e308", "0x10", "٣", "1_0")
    },
}


def voc() -> Iterator[Attack]:
    def run(root: Path, text: str | bytes) -> None:
        write_images(root)
        (root / "1.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
        (root / "2.xml").write_text(XML.replace("1.png", "2.png"))
        train_all(root)

    for name, text in {**XML_FILES, **BROKEN_FILES}.items():
        yield Attack("VOC", name, lambda root, text=text: run(root, text))
    for name, make in NO_FILES.items():

        def run_special(root: Path, make: Any = make) -> None:
            write_images(root)
            make(root / "1.xml")
            (root / "2.xml").write_text(XML.replace("1.png", "2.png"))
            train_all(root)

        yield Attack("VOC", f"a file that is a {name}", run_special)


FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
OTHER_FORMATS = (
    "AVIF",
    "DDS",
    "ICO",
    "PCX",
    "PPM",
    "SGI",
    "TGA",
    "JPEG2000",
    "IM",
    "MSP",
    "SPIDER",
    "XBM",
    "EPS",
    "PDF",
)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\n(pwned) (w) file closefile\nshowpage\n%%EOF\n"


def read_everywhere(path: Path) -> None:
    """Reads an image by every reader there is; each may refuse it, in one line."""
    for read in (load_image, read_size, read_ids, lambda path: _refusing(path, read_size_of_entry, ValueError)):
        with contextlib.suppress(UserError):
            read(path)
    _refusing(path, lambda path: store_image(path, HEIGHT, WIDTH), ValueError)
    load_image(path)


def _refusing(path: Path, read: Any, error: type[Exception]) -> None:
    with contextlib.suppress(error):
        read(path)


def must_refuse(path: Path) -> None:
    """No reader decodes the file."""
    for name, read in {"read_ids": read_ids, "read_size": read_size}.items():
        if read(path) is not None:
            raise Silent(f"{name} decodes it")
    for name, read in {"read_size of an entry": read_size_of_entry, "load_image": load_image}.items():
        try:
            read(path)
        except (ValueError, UserError):
            continue
        raise Silent(f"{name} decodes it")
    try:
        store_image(path, HEIGHT, WIDTH)
    except ValueError:
        return
    raise Silent("store_image decodes it")


def damaged(data: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """Cut, overwritten, repeated."""
    chance = random.Random(seed)
    for part in (0.02, 0.1, 0.3, 0.5, 0.9, 0.99):
        yield f"cut at {part:.0%}", data[: int(len(data) * part)]
    for number in range(20):
        position, value = chance.randrange(min(len(data), 300 if number % 2 else len(data))), chance.randrange(256)
        yield f"byte {position} is {value}", data[:position] + bytes([value]) + data[position + 1 :]
    for number in range(6):
        start = chance.randrange(len(data))
        stop = min(start + 1 << number, len(data))
        yield f"bytes {start} to {stop} are 255", data[:start] + b"\xff" * (stop - start) + data[stop:]
    yield "twice", data * 2
    yield "with a tail of 1 MB", data + bytes(1 << 20)


def bomb(width: int, height: int, mode: str = "L") -> bytes:
    """A small PNG of many pixels."""
    import zlib

    channels = {"L": 1, "RGB": 3}[mode]
    kind = {"L": 0, "RGB": 2}[mode]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    rows = zlib.compress(bytes(min((1 + width * channels) * height, 1 << 26)), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def exif(tag_type: int, count: int, value: bytes) -> bytes:
    """A JPEG with an orientation of another type than a short."""
    entry = struct.pack("<HHI", 0x0112, tag_type, count) + value.ljust(4, b"\0")[:4]
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    data = encoded("JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def images() -> Iterator[Attack]:
    def reading(data: bytes, name: str = "x.jpg", read: Any = read_everywhere) -> Callable[[Path], None]:
        def run(root: Path) -> None:
            (root / name).write_bytes(data)
            read(root / name)

        return run

    for number, format in enumerate(FORMATS):
        for name, data in damaged(encoded(format), number):
            yield Attack("images: damaged", f"{format}, {name}", reading(data))
    for number, format in enumerate(("AVIF", "DDS")):
        for name, data in damaged(encoded(format), 50 + number):
            yield Attack("images: other formats", f"{format}, {name}", reading(data, read=must_refuse))
    for format in OTHER_FORMATS:
        with contextlib.suppress(Exception):
            data = EPS if format == "EPS" else _encoded_any(format)
            for suffix in (".jpg", ".png", ".tif"):
                yield Attack(
                    "images: other formats", f"{format} called {suffix}", reading(data, f"x{suffix}", must_refuse)
                )
    for name, data in BROKEN_FILES.items():
        yield Attack("images: damaged", name, reading(data))
    for tag_type in range(14):
        for count, value in (
            (1, b"\x06\0\0\0"),
            (0, b""),
            (2, b"\x06\0\x03\0"),
            (1000, b"\xff\xff\xff\xff"),
            (4, b"6\0\0\0"),
        ):
            data = exif(tag_type, count, value)
            yield Attack("images: EXIF", f"orientation of type {tag_type}, {count} of {value!r}", reading(data))
    for sides in (
        (20_000, 20_000),
        (100_000, 100_000),
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 1),
        (0, 5),
        (1, 65_535 * 40),
    ):
        for mode in ("L", "RGB"):
            yield Attack("images: bombs", f"{sides[0]} x {sides[1]} of {mode}", reading(bomb(*sides, mode)))
    for name, make in NO_FILES.items():
        yield Attack(
            "images: special files", name, lambda root, make=make: (make(root / "x.jpg"), must_refuse(root / "x.jpg"))
        )
        yield Attack(
            "images: special files",
            f"infer, {name}",
            lambda root, make=make: (
                make(root / "x.jpg"),
                [load_image(path) for path in find_inputs([root / "x.jpg"]).images],
            ),
        )

        def in_dataset(root: Path, make: Any = make) -> None:
            write_coco(root, json.dumps(coco_document()))
            (root / "train" / "1.png").unlink()
            make(root / "train" / "1.png")
            convert(root, skip_bad=True)

        yield Attack("images: special files", f"in a dataset, {name}", in_dataset)
    for path in ("", "a\0b.jpg", "\ud800.jpg", "x" * 5000 + ".jpg", "/dev/zero", "/dev", "x.jpg/y.jpg"):
        yield Attack("images: paths", f"load {path[:20]!r}", lambda root, path=path: load_image(path))
        yield Attack(
            "images: paths",
            f"infer {path[:20]!r}",
            lambda root, path=path: [load_image(p) for p in find_inputs([path]).images],
        )


@cache
def _encoded_any(format: str) -> bytes:
    image = Image.fromarray(pixels())
    for mode in ("RGB", "L", "1", "F", "P"):
        buffer = io.BytesIO()
        with contextlib.suppress(OSError, ValueError, KeyError):
            image.convert(mode).save(buffer, format)
            return buffer.getvalue()
    raise OSError(format)


def own_records() -> Iterator[Attack]:
    """Our own records, damaged after the conversion."""

    def attack(name: str, change: Callable[[Path], Any]) -> Attack:
        def run(root: Path) -> None:
            shutil.copytree(base_folder(), root, dirs_exist_ok=True)
            change(root / "tfrecords")
            read_records(root)

        return Attack("records: our own", name, run)

    def edit(function: Callable[[bytearray], Any]) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = next(folder.glob("*.tfrecord"))
            data = bytearray(path.read_bytes())
            path.write_bytes(function(data) or data)

        return change

    data = one_shard()
    chance = random.Random(3)
    for _ in range(40):
        place = chance.randrange(len(data))
        yield attack(
            f"byte {place} inverted", edit(lambda data, place=place: data.__setitem__(place, data[place] ^ 255))
        )
    masks = data.find(b"mask_bits") + 60
    yield attack(
        "inverted masks",
        edit(lambda data: data[:masks] + bytes(b ^ 255 for b in data[masks : masks + 500]) + data[masks + 500 :]),
    )
    yield attack("a length of 2**63", edit(lambda data: struct.pack("<Q", 2**63) + data[8:]))
    yield attack("a length of 2**64 - 1", edit(lambda data: struct.pack("<Q", 2**64 - 1) + data[8:]))
    yield attack("a length of zero", edit(lambda data: bytes(8) + data[8:]))
    yield attack("cut", edit(lambda data: data[:-100]))
    yield attack("one byte more", edit(lambda data: data + b"x"))
    yield attack("a record twice", edit(lambda data: data + data))
    yield attack("empty", edit(lambda data: bytearray(b"\0") * 0 or None))
    for name, make in NO_FILES.items():

        def change_special(folder: Path, make: Any = make) -> None:
            path = next(folder.glob("*.tfrecord"))
            path.unlink()
            make(path)

        yield attack(f"the shard is a {name}", change_special)
    index = json.loads((base_folder() / "tfrecords" / "train.json").read_bytes())
    for name, text in mutated(index):
        if "surrogate" in name or "origin/" in name:
            continue
        yield attack(f"index: {name}", lambda folder, text=text: (folder / "train.json").write_text(text))
    for name, broken in BROKEN_FILES.items():
        yield attack(f"index: {name}", lambda folder, broken=broken: (folder / "train.json").write_bytes(broken))


def read_records(root: Path, *, same: bool = True) -> None:
    """Opens a converted dataset and decodes it as training does; the records must be the ``same`` as were written."""
    with log():
        dataset = find_dataset(root, DataConfig(val_fraction=0.0))
        dataset.convert("train", progress=False)
        split = dataset.open("train")
        dataset.describe("train")
    ids = [category.id for category in split.categories]
    reader = RecordReader(split.index.files)
    for span, size in zip(split.index.spans, split.index.sizes.tolist(), strict=True):
        resized_size(*size, base_config().model.image)
        data = reader.read(span)
        if same and data not in good_records():
            raise Silent("another record than was written")
        example = decode(data, category_ids=ids, class_indices=ids, max_instances=max_instances(DataConfig(), split))
        if not np.isfinite(example["boxes"].numpy()).all():
            raise Silent("boxes that are not finite")


@cache
def good_records() -> set[bytes]:
    index = find_dataset(base_folder(), DataConfig(val_fraction=0.0)).open("train").index
    reader = RecordReader(index.files)
    return {reader.read(span) for span in index.spans}


def third_party_records() -> Iterator[Attack]:
    mask = Image.fromarray(np.pad(np.full((9, 8), 255, np.uint8), ((5, 10), (2, 22))))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    good: dict[str, list[Any]] = {
        "image/encoded": [encoded("JPEG")],
        "image/format": [b"jpeg"],
        "image/filename": [b"1.jpg"],
        "image/source_id": [b"1"],
        "image/height": [HEIGHT],
        "image/width": [WIDTH],
        **{
            f"image/object/bbox/{side}": [value]
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), (0.06, 0.2, 0.31, 0.58), strict=True)
        },
        "image/object/class/label": [1],
        "image/object/class/text": [b"cat"],
        "image/object/is_crowd": [0],
        "image/object/area": [72.0],
        "image/object/mask": [buffer.getvalue()],
    }
    numbers = [0, -1, 2, 2**31, 2**63 - 1, -(2**63)]
    floats = [float("nan"), float("inf"), -1.0, 2.0, 1e30, 0.0]
    texts = [b"", b"x", b"\xff\xfe", b"a\0b", b"9" * 400, b"-1", b"1.5", "٣".encode(), b"<b>\n", bytes(1 << 20)]
    pictures = [
        *texts,
        EPS,
        encoded("JPEG")[:100],
        bomb(20_000, 20_000),
        bomb(8000, 8000, "RGB"),
        encoded("GIF"),
        encoded("BMP"),
    ]
    for key, values in good.items():
        hostile: list[list[Any]] = [[], values * 2]
        if isinstance(values[0], bytes):
            hostile += [[value] for value in (pictures if key in ("image/encoded", "image/object/mask") else texts)]
            hostile += [[1], [1.0]]
        elif isinstance(values[0], float):
            hostile += [[value] for value in floats] + [[1], [b"x"]]
        else:
            hostile += [[value] for value in numbers] + [[1.0], [b"x"]]
        for number, value in enumerate(hostile):
            shown = repr(value)[:30]

            def run(root: Path, key: str = key, value: Any = value) -> None:
                write_record(root, [{**good, key: value}, {**good, "image/source_id": [b"2"]}])
                dataset = find_dataset(root, DataConfig(val_fraction=0.0))
                with log():
                    split, val = dataset.open("train"), dataset.open("val")
                    names = [category.name for category in split.categories]
                    if any(not name.isprintable() for name in names):
                        raise Silent(f"classes {names}")
                    check_folder(root, progress=False)
                    if val.annotation_file:
                        evaluate_records(val.annotation_file)
                read_records(root, same=False)

            yield Attack("records: third-party", f"{number}: {key} is {shown}", run)

        def run_without(root: Path, key: str = key) -> None:
            write_record(root, [{k: v for k, v in good.items() if k != key}, {**good, "image/source_id": [b"2"]}])
            find_dataset(root, DataConfig(val_fraction=0.0)).open("val")
            read_records(root, same=False)

        yield Attack("records: third-party", f"no {key}", run_without)


def evaluate_records(path: Path) -> None:
    scorer = CocoScorer(path)
    for image_id, detections in ground_truth_detections(path):
        scorer.add(image_id, detections)
    scorer.metrics()


def write_record(root: Path, records: list[dict[str, list[Any]]]) -> None:
    for name in ("train", "val"):
        with tf.io.TFRecordWriter(str(root / f"{name}-00000-of-00001.tfrecord")) as writer:
            for record in records:
                writer.write(
                    tf.train.Example(
                        features=tf.train.Features(feature={k: _feature(v) for k, v in record.items()})
                    ).SerializeToString()
                )


def _feature(values: list[Any]) -> tf.train.Feature:
    if values and isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def png_masks() -> Iterator[Attack]:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[3:9, 3:9], ids[3:9, 15:25] = 1, 2
    for number, format in enumerate(("PNG", "TIFF", "BMP")):
        buffer = io.BytesIO()
        Image.fromarray(ids).save(buffer, format)
        for name, data in [*damaged(buffer.getvalue(), 100 + number), *BROKEN_FILES.items()]:

            def run(
                root: Path, data: bytes = data, good: bytes = buffer.getvalue(), suffix: str = format.lower()
            ) -> None:
                for folder in ("images", "masks"):
                    (root / folder).mkdir()
                write_images(root / "images", count=3)
                for stem in (1, 2, 3):
                    (root / "masks" / f"{stem}.{suffix}").write_bytes(good if stem > 1 else data)
                train_all(root)

            yield Attack("PNG masks", f"{format}, {name}", run)


class Nothing:
    """A model that is never asked."""

    def predict_on_batch(self, x: Any) -> Any:
        number = len(x["images"])
        return {
            "boxes": np.zeros((number, 1, 4), np.float32),
            "classes": np.ones((number, 1), np.int32),
            "scores": np.zeros((number, 1), np.float32),
            "masks": np.zeros((number, 1, 28, 28), np.float32),
            "valid": np.zeros((number, 1), bool),
        }


def arguments() -> Iterator[Attack]:
    values: dict[str, Any] = {
        "None": None,
        "a number": 3,
        "a fraction": 0.5,
        "bytes": b"x.jpg",
        "an object": object(),
        "a set": {"x.jpg"},
        "a dict": {"a": 1},
        "a generator": (path for path in ()),
        "a file": io.BytesIO(encoded()),
        "true": True,
        "a list of None": [None],
        "a list of lists": [[pixels()]],
        "a list of numbers": [1, 2],
        "nested lists of numbers": pixels().tolist(),
        "a tensor": tf.constant(pixels()),
        "floats": pixels().astype(np.float32),
        "an object array": np.array([None, 1], object),
        "a batch": pixels()[None],
        "no pixels": np.zeros((0, 5, 3), np.uint8),
        "no width": np.zeros((5, 0, 3), np.uint8),
        "two channels": np.zeros((5, 5, 2), np.uint8),
        "a scalar array": np.uint8(3),
        "no dimension": np.array(3, np.uint8),
        "no text": "",
        "a path with NUL": "a\0b",
        "a folder": "/",
        "a float image": Image.new("F", (4, 4)),
        "an empty image": Image.new("RGB", (0, 0)),
        "a closed image": _closed(),
        "an image without a width": Image.new("RGB", (0, 5)),
    }
    predictor = Predictor(Nothing(), Config.tiny().override(SMALL))
    for name, value in values.items():

        def run(root: Path, value: Any = value) -> None:
            with contextlib.suppress(StopIteration):
                predictor.predict(value)
                if not isinstance(value, list | set | dict | tuple) and not hasattr(value, "__iter__"):
                    raise Silent("predicted")

        yield Attack("predict: arguments", name, run)
    for name, size in {
        "zero": 0,
        "negative": -1,
        "text": "2",
        "a fraction": 1.5,
        "NaN": float("nan"),
        "true": True,
    }.items():

        def run_size(root: Path, size: Any = size) -> None:
            predictor.predict([pixels(), pixels()], batch_size=size)
            if size is not True:
                raise Silent("predicted")

        yield Attack("predict: arguments", f"batch_size {name}", run_size)


def _closed() -> Image.Image:
    image = Image.open(io.BytesIO(encoded()))
    image.close()
    return image


def other() -> Iterator[Attack]:
    def must_raise(action: Callable[[Path], Any]) -> Callable[[Path], None]:
        def run(root: Path) -> None:
            before = sorted(root.rglob("*"))
            try:
                action(root)
            except UserError:
                if sorted(root.rglob("*")) != before:
                    raise Silent("left something behind") from None
                raise
            raise Silent("was not refused")

        return run

    def small(folder: Path) -> Path:
        return write_shapes(folder, train_images=1, val_images=1, image_size=32, progress=False)

    def holds(*names: str) -> Callable[[Path], None]:
        def run(root: Path) -> None:
            for name in names:
                (root / "d" / name).parent.mkdir(parents=True, exist_ok=True)
                (root / "d" / name).write_bytes(encoded())
            must_raise(lambda root: small(root / "d"))(root)

        return run

    for names in (
        ("train/a.jpg",),
        ("images/a.jpg", "labels/a.txt"),
        ("data.yaml",),
        ("notes.txt",),
        ("val/a.jpg", "x.json"),
        ("annotations/x.json",),
        ("config.json",),
    ):
        yield Attack("data shapes", f"into a folder with {', '.join(names)}", holds(*names))
    yield Attack("data shapes", "into no folder", must_raise(lambda root: small(Path(""))))
    yield Attack("data shapes", "twice", lambda root: (small(root / "d"), small(root / "d")))
    for paths in ([""], ["", "x.jpg"], ["a\0b"], ["\ud800"], []):
        yield Attack("infer: paths", repr(paths), must_raise(lambda root, paths=paths: find_inputs(paths)))
    for name in ("", "a\0b", "\ud800", "/dev/null", "x" * 5000):
        yield Attack(
            "dataset folders",
            f"find {name[:20]!r}",
            must_raise(lambda root, name=name: find_dataset(name, DataConfig())),
        )
        for option in ("train_file", "val_file", "image_dir"):
            if name:
                yield Attack(
                    "dataset folders",
                    f"{option} {name[:20]!r}",
                    must_raise(
                        lambda root, name=name, option=option: find_dataset(
                            base_folder(), DataConfig(**{option: name})
                        ).read(("train", "val"))
                    ),
                )


KINDS = (coco_fields, coco_files, hard_polygons, eval_fields, eval_files, large_ids, crowds, labelme_and_via, yolo, voc)
KINDS += (images, own_records, third_party_records, png_masks, arguments, other)
