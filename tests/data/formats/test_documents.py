"""Annotations of other tools: each drawn as the tool writes it, read, and compared with what was drawn."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from maskrcnn.data.formats.documents import find
from maskrcnn.data.formats.recognize import recognize
from tests.data.formats.drawing import (
    average_precision,
    class_counts,
    draw_image,
    iou,
    masks_of,
    polygon_mask,
    read_all,
)

HEIGHT, WIDTH = 40, 64
CAT = [[8.0, 4.0], [56.0, 4.0], [32.0, 20.0]]
DOG = [[10.0, 22.0], [30.0, 22.0], [30.0, 38.0], [10.0, 38.0]]
OBJECTS = {"cat": CAT, "dog": DOG}
MASKS = {name: polygon_mask([tuple(point) for point in points]) for name, points in OBJECTS.items()}


def flat(points):
    return [value for point in points for value in point]


def dots(points):
    return [{"x": x, "y": y} for x, y in points]


def rle_of(name):
    rle = mask_utils.encode(np.asfortranarray(MASKS[name], np.uint8))
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def percent(points):
    return [[x / WIDTH * 100, y / HEIGHT * 100] for x, y in points]


def supervisely(stem):
    part = io.BytesIO()
    ys, xs = np.nonzero(MASKS["dog"])
    Image.fromarray(MASKS["dog"][ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]).save(part, "PNG")
    bitmap = {
        "data": base64.b64encode(zlib.compress(part.getvalue())).decode(),
        "origin": [int(xs.min()), int(ys.min())],
    }
    polygon = {"classTitle": "cat", "geometryType": "polygon", "points": {"exterior": CAT, "interior": []}}
    objects = [polygon, {"classTitle": "dog", "geometryType": "bitmap", "bitmap": bitmap}]
    return f"ds/ann/{stem}.jpg.json", f"ds/img/{stem}.jpg", {"size": {"height": 40, "width": 64}, "objects": objects}


def deepfashion2(stem):
    items = {
        f"item{number}": {"segmentation": [flat(points)], "category_name": name, "bounding_box": [0, 0, 9, 9]}
        for number, (name, points) in enumerate(OBJECTS.items(), start=1)
    }
    return f"annos/{stem}.json", f"image/{stem}.jpg", {"source": "user", "pair_id": 1, **items}


def isat(stem):
    objects = [{"category": name, "group": 1, "segmentation": points} for name, points in OBJECTS.items()]
    info = {"description": "ISAT", "name": f"{stem}.jpg", "width": WIDTH, "height": HEIGHT}
    return f"{stem}.json", f"{stem}.jpg", {"info": info, "objects": objects}


def darwin(stem):
    objects = [{"name": name, "polygon": {"paths": [dots(points)]}} for name, points in OBJECTS.items()]
    item = {"name": f"{stem}.jpg", "slots": [{"width": WIDTH, "height": HEIGHT}]}
    return f"annotations/{stem}.json", f"images/{stem}.jpg", {"version": "2.0", "item": item, "annotations": objects}


def darwin1(stem):
    objects = [{"name": name, "polygon": {"path": dots(points)}} for name, points in OBJECTS.items()]
    image = {"width": WIDTH, "height": HEIGHT, "original_filename": "x.jpg", "filename": f"{stem}.jpg", "path": "/"}
    return f"annotations/{stem}.json", f"images/{stem}.jpg", {"dataset": "d", "image": image, "annotations": objects}


def vott(stem):
    regions = [
        {"type": "POLYGON", "tags": [name], "points": dots(points), "boundingBox": {}}
        for name, points in OBJECTS.items()
    ]
    size = {"width": WIDTH, "height": HEIGHT}
    return f"{stem}-asset.json", f"{stem}.jpg", {"asset": {"name": f"{stem}.jpg", "size": size}, "regions": regions}


def ade20k(stem):
    def entry(name, points, level):
        polygon = {"x": [x for x, _ in points], "y": [y for _, y in points]}
        return {"name": name, "polygon": polygon, "parts": {"part_level": level}, "instance_mask": f"{stem}/0.png"}

    objects = [entry(name, points, 0) for name, points in OBJECTS.items()]
    objects.append(entry("leg", OBJECTS["cat"], 1))
    annotation = {"filename": f"{stem}.jpg", "imsize": [HEIGHT, WIDTH, 3], "object": objects}
    return f"home/{stem}.json", f"home/{stem}.jpg", {"annotation": annotation}


def aperio(stem):
    """MoNuSAC's XML; in MoNuSeg's, attributes are called Description, and objects are of no class."""
    annotations = ""
    for name, points in OBJECTS.items():
        vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
        region = f'<Region Id="1" NegativeROA="0"><Attributes/><Vertices>{vertices}</Vertices></Region>'
        attributes = f'<Attributes><Attribute Name="{name}" Id="0" Value=""/></Attributes>'
        annotations += f"<Annotation>{attributes}<Regions>{region}</Regions></Annotation>"
    return f"Annotations/{stem}.xml", f"Tissue Images/{stem}.tif", f"<Annotations>{annotations}</Annotations>"


@pytest.mark.parametrize(
    ("format", "write"),
    [
        ("ADE20K", ade20k),
        ("Aperio XML", aperio),
        ("Supervisely", supervisely),
        ("DeepFashion2", deepfashion2),
        ("ISAT", isat),
        ("V7 Darwin", darwin),
        ("V7 Darwin", darwin1),
        ("VoTT", vott),
    ],
)
def test_a_file_for_each_image(tmp_path, format, write):
    for split, stems in (("train", "ab"), ("val", "c")):
        for stem in stems:
            file, image, content = write(stem)
            draw_image(tmp_path / split / image)
            path = tmp_path / split / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    dataset = recognize(tmp_path)
    assert dataset.format == format
    splits = read_all(dataset)
    assert {name: class_counts(split) for name, split in splits.items()} == {
        "train": {"cat": 2, "dog": 2},
        "val": {"cat": 1, "dog": 1},
    }
    compare(splits["train"], f"a{image[-4:]}", tmp_path)


def compare(split, file_name, tmp_path):
    """The masks of an image, drawn by another rasterizer, and the AP of the split's own."""
    assert split.notes == []
    for found, name in zip(masks_of(split, file_name), OBJECTS, strict=True):
        assert iou(found, MASKS[name]) > 0.93
    assert average_precision(split, tmp_path) == (1.0, 1.0)


def test_monuseg_has_no_classes(tmp_path):
    file, image, content = aperio("a")
    draw_image(tmp_path / image)
    (tmp_path / file).parent.mkdir()
    region = '<Region NegativeROA="1"><Vertices/></Region><Region><Vertices><Vertex X="1" Y="2"/></Vertices></Region>'
    content = content.replace("</Regions>", f"{region}</Regions>")
    (tmp_path / file).write_text(content.replace('"cat"', '"Description"').replace('"dog"', '"Description"'))
    split = read_all(recognize(tmp_path))["all"]
    assert class_counts(split) == {"object": 2}
    assert [note.split(" (first")[0] for note in split.notes] == [
        "objects skipped: regions to be left out: 2",
        "objects skipped: shapes that have no area: 2",
    ]


def test_sa1b_has_no_classes(tmp_path):
    for stem in ("sa_1", "sa_2"):
        draw_image(tmp_path / f"sa_000020/{stem}.jpg")
        entries = [{"bbox": [0, 0, 9, 9], "predicted_iou": 0.9, "segmentation": rle_of(name)} for name in OBJECTS]
        image = {"image_id": 1, "width": WIDTH, "height": HEIGHT, "file_name": f"{stem}.jpg"}
        (tmp_path / f"sa_000020/{stem}.json").write_text(json.dumps({"image": image, "annotations": entries}))
    dataset = recognize(tmp_path)
    split = read_all(dataset)["all"]
    assert (dataset.format, class_counts(split)) == ("SA-1B", {"object": 4})
    compare(split, "sa_2.jpg", tmp_path)


def datumaro(stems):
    labels = {"label": {"labels": [{"name": name} for name in OBJECTS]}}
    annotations = [
        {"type": "polygon", "label_id": 0, "points": flat(CAT)},
        {"type": "mask", "label_id": 1, "rle": rle_of("dog")},
    ]
    items = [
        {"id": stem, "annotations": annotations, "image": {"path": f"{stem}.jpg", "size": [HEIGHT, WIDTH]}}
        for stem in stems
    ]
    return "annotations/default.json", json.dumps({"infos": {}, "categories": labels, "items": items})


def label_studio(stems):
    values = [{"points": percent(points), "polygonlabels": [name]} for name, points in OBJECTS.items()]
    results = [{"type": "polygonlabels", "from_name": "l", "to_name": "i", "value": value} for value in values]
    tasks = [
        {"annotations": [{"result": results}], "data": {"image": f"/data/upload/1/abcdef12-{stem}.jpg"}}
        for stem in stems
    ]
    return "project-1.json", json.dumps(tasks)


def label_studio_min(stems):
    label = [{"points": percent(points), "polygonlabels": [name]} for name, points in OBJECTS.items()]
    tasks = [
        {"image": f"/data/upload/1/{stem}.jpg", "label": label, "annotation_id": 1, "annotator": 1} for stem in stems
    ]
    return "min.json", json.dumps(tasks)


def scalabel(stems):
    labels = [
        {"category": name, "poly2d": [{"vertices": points, "types": "L" * len(points)}]}
        for name, points in OBJECTS.items()
    ]
    return "labels/ins_seg.json", json.dumps([{"name": f"{stem}.jpg", "labels": labels} for stem in stems])


def via3(stems):
    return "via.json", json.dumps(
        {
            "attribute": {"1": {"aname": "kind", "options": {"0": "cat", "1": "dog"}}},
            "file": {str(number): {"fname": f"{stem}.jpg"} for number, stem in enumerate(stems)},
            "metadata": {
                f"{number}_{kind}": {"vid": str(number), "xy": [7, *flat(points)], "av": {"1": str(kind)}}
                for number in range(len(stems))
                for kind, points in enumerate(OBJECTS.values())
            },
            "view": {str(number): {"fid_list": [str(number)]} for number in range(len(stems))},
        }
    )


def cvat(stems):
    ys, xs = np.nonzero(MASKS["dog"])
    part = MASKS["dog"][ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    edges = np.flatnonzero(np.diff(np.r_[0, part.ravel(), 0]))
    runs = np.diff([0, *edges, part.size]) if part.ravel()[-1] == 0 else np.diff([0, *edges])
    points = ";".join(f"{x},{y}" for x, y in CAT)
    box = f'left="{xs.min()}" top="{ys.min()}" width="{part.shape[1]}" height="{part.shape[0]}"'
    objects = f'<polygon label="cat" points="{points}"/><mask label="dog" rle="{", ".join(map(str, runs))}" {box}/>'
    images = "".join(f'<image id="0" name="{stem}.jpg" width="64" height="40">{objects}</image>' for stem in stems)
    return "annotations.xml", f"<?xml version='1.0'?><annotations><version>1.1</version>{images}</annotations>"


@pytest.mark.parametrize(
    ("format", "write"),
    [
        ("Datumaro", datumaro),
        ("Label Studio", label_studio),
        ("Label Studio", label_studio_min),
        ("Scalabel", scalabel),
        ("VIA 3", via3),
        ("CVAT for images", cvat),
    ],
)
def test_a_file_for_all_images(tmp_path, format, write):
    for stem in "ab":
        draw_image(tmp_path / f"images/{stem}.jpg")
    file, text = write("ab")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    dataset = recognize(tmp_path)
    assert dataset.format == format
    split = read_all(dataset)["all"]
    assert class_counts(split) == {"cat": 2, "dog": 2}
    compare(split, "b.jpg", tmp_path)


def test_what_cannot_be_used_is_counted(tmp_path):
    _, _, content = supervisely("a")
    good = content["objects"]
    content["objects"] = [
        *good,
        {"classTitle": "cat", "geometryType": "point", "points": {"exterior": [[1, 1]], "interior": []}},
        {"classTitle": "cat", "geometryType": "rectangle", "points": {"exterior": [[30, 8], [2, 3]], "interior": []}},
        {"geometryType": "polygon", "points": {"exterior": CAT}},
        {"classTitle": "dog", "geometryType": "polygon"},
        {"classTitle": "dog", "geometryType": "bitmap", "bitmap": {"data": "AAAA", "origin": [0, 0]}},
    ]
    for stem in "abc":
        draw_image(tmp_path / f"ds/img/{stem}.jpg", 40, 60 if stem == "c" else 64)
        (tmp_path / "ds/ann").mkdir(exist_ok=True)
        (tmp_path / f"ds/ann/{stem}.jpg.json").write_text(
            json.dumps(content if stem == "a" else {**content, "objects": good})
        )
    (tmp_path / "ds/ann/lost.jpg.json").write_text(json.dumps({**content, "objects": []}))
    (tmp_path / "ds/ann/broken.jpg.json").write_text("{")
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"cat": 3, "dog": 2}
    assert [note.partition(" (first")[0] for note in split.notes] == [
        "files skipped that are not written like the others: 1",
        "missing images skipped: 1",
        "objects skipped: shapes that have no area: 1",
        "objects skipped that name no class: 1",
        "objects skipped whose numbers are missing or wrong: 2",
        "images skipped whose annotations state another size: 1",
    ]
    (box,) = [entry for entry in split.content["annotations"] if "segmentation" not in entry]
    assert box["bbox"] == [2, 3, 28, 5]


def test_holes_are_cut_out(tmp_path):
    hole = [[14, 26], [26, 26], [26, 34], [14, 34]]
    points = {"exterior": DOG, "interior": [hole]}
    draw_image(tmp_path / "ds/img/a.jpg")
    (tmp_path / "ds/ann").mkdir()
    content = {"size": {"height": 40, "width": 64}, "objects": [{"classTitle": "dog", "points": points}]}
    (tmp_path / "ds/ann/a.jpg.json").write_text(json.dumps(content))
    (mask,) = masks_of(read_all(find(tmp_path))["all"], "a.jpg")
    assert iou(mask, MASKS["dog"] & ~polygon_mask([tuple(point) for point in hole])) > 0.85
    assert not mask[30, 20]


def test_other_json_is_not_taken(tmp_path):
    draw_image(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(json.dumps({"objects": [], "labels": {}, "image": "a.jpg"}))
    assert find(tmp_path) is None


WRITERS = {
    **{
        write.__name__: lambda write=write: write("a")[::2]
        for write in (ade20k, supervisely, deepfashion2, isat, darwin, darwin1, vott)
    },
    **{
        write.__name__: lambda write=write: (write("a")[0], json.loads(write("a")[1]))
        for write in (datumaro, label_studio, label_studio_min, scalabel, via3)
    },
}


def places(content, place=()):
    """The path to every value in a document."""
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in children:
        yield (*place, key)
        yield from places(value, (*place, key))


@pytest.mark.parametrize("name", WRITERS)
def test_no_wrong_value_anywhere_stops_the_reader(tmp_path, name):
    file, content = WRITERS[name]()
    draw_image(tmp_path / "img/a.jpg")
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    for place in places(content):
        for value in (None, "x", -1, [[1]]):
            changed = json.loads(json.dumps(content))
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = value
            path.write_text(json.dumps(changed))
            for split in read_all(dataset).values() if (dataset := find(tmp_path)) else ():
                assert len(split.content["annotations"]) <= 3
