"""The command data."""

import json

import pytest

from maskrcnn.cli import main


@pytest.fixture
def drawn(tmp_path, capsys):
    folder = tmp_path / "shapes"
    command = f"data shapes {folder} --train_images 3 --val_images 2 --image_size 64 --seed 5"
    assert main(command.split()) == 0
    assert f"3 + 2 images in {folder}" in capsys.readouterr().out
    return folder


def test_shapes_check_convert(drawn, tmp_path, capsys):
    assert main(["data", "check", str(drawn), "--json", str(tmp_path / "report.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("COCO, 3 + 2 images, 5 classes\n")
    assert "can be trained on" in printed
    assert json.loads((tmp_path / "report.json").read_text())["splits"]["val"]["images"] == 2
    assert main(["data", "convert", str(drawn), "--out_dir", str(tmp_path / "records")]) == 0
    assert "train: 3 images" in capsys.readouterr().out
    assert list((tmp_path / "records").glob("val*.tfrecord"))
    assert not (drawn / "tfrecords").exists()
    assert main(["data", "convert", str(drawn), "--to", "yolo", "--out_dir", str(tmp_path / "yolo")]) == 0
    assert (tmp_path / "yolo" / "data.yaml").is_file()


def test_folders_may_be_given_by_flags(drawn, tmp_path, capsys):
    assert main(["data", "check", "--data_dir", str(drawn)]) == 0
    assert (
        main(["data", "shapes", "--out_dir", str(tmp_path / "more"), "--train_images", "1", "--val_images", "1"]) == 0
    )
    assert main(["data", "convert", "--data_dir", str(drawn), "--to", "yolo", "--out_dir", str(tmp_path / "yolo")]) == 0
    assert (tmp_path / "yolo" / "data.yaml").is_file()
    capsys.readouterr()
    assert main(["data", "check"]) == 2
    assert capsys.readouterr().err == "error: one of the arguments DIR is required; see maskrcnn data check --help\n"
    assert main(["data", "check", str(drawn), "--data_dir", str(drawn)]) == 2
    assert capsys.readouterr().err.startswith("error: argument --data_dir: not allowed with argument DIR")


@pytest.mark.parametrize("flag", ["--json", "--out"])
def test_check_replaces_no_file_of_the_dataset(drawn, capsys, flag):
    path = drawn / "annotations" / "instances_val.json"
    before = path.read_bytes()
    assert main(["data", "check", str(drawn), flag, str(path)]) == 2
    assert "a file of the dataset, which the report would replace" in capsys.readouterr().err
    assert path.read_bytes() == before
    own = drawn / ("report.json" if flag == "--json" else "problems.txt")
    assert [main(["data", "check", str(drawn), flag, str(own)]) for _ in range(2)] == [0, 0]


def test_check_says_what_stops_training(drawn, tmp_path, capsys):
    path = drawn / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"][:4]:
        entry["category_id"] = 99
    path.write_text(json.dumps(content))
    problems = tmp_path / "problems.txt"
    assert main(["data", "check", str(drawn), "--out", str(problems)]) == 2
    printed = capsys.readouterr()
    assert "skipped: 4 x unlisted category" in printed.out
    assert f"problems are in {problems}" in printed.out
    assert len(problems.read_text().splitlines()) == 5
    assert "4 of 14 annotations cannot be used" in printed.err.splitlines()[-1]
    assert main(["data", "convert", str(drawn)]) == 2
    assert not list((drawn / "tfrecords").glob("*.tfrecord"))
    assert main(["data", "convert", str(drawn), "--skip_bad"]) == 0


def test_browse_writes_a_page(drawn, tmp_path, capsys):
    assert main(["data", "browse", str(drawn), "--out_dir", str(tmp_path / "page"), "--split", "val"]) == 0
    assert f"look at {tmp_path / 'page' / 'val.html'}" in capsys.readouterr().out
    assert (tmp_path / "page" / "val.html").read_text().count("<img") == 2


def test_coco_passes_its_flags_on(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(
        "maskrcnn.data.coco.download.download_coco", lambda out_dir, **flags: calls.append((out_dir, flags)) or out_dir
    )
    assert main(["data", "coco", str(tmp_path), "--splits", "val", "--base_url", "http://localhost:1"]) == 0
    assert calls == [(str(tmp_path), {"base_url": "http://localhost:1", "splits": ("val",)})]
    assert main(["data", "coco", str(tmp_path)]) == 0
    assert calls[1][1]["splits"] == ("train", "val")
