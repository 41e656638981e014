"""The command ``eval``, with a stand-in for the model."""

import json

from maskrcnn.cli import main
from maskrcnn.config import load_config


def test_eval_leaves_the_metrics_of_the_run_alone(model_dir, shapes_dir, tmp_path, read_log, capsys):
    before = (model_dir / "metrics.json").read_bytes()
    command = f"eval --data_dir {shapes_dir} --model_dir {model_dir} --log_file {tmp_path / 'log.json'}"
    assert main([*command.split(), "--log_every", "1", "--log_warmup_steps", "1", "--eval_batch_size", "1"]) == 0
    output = capsys.readouterr().out
    assert "3 images" in output
    assert "mask AP50 lost to: " in output
    metrics = json.loads((model_dir / "metrics_val.json").read_text())
    assert metrics["images"] == 3
    assert metrics["analysis"]["errors"].keys() == {"bbox", "segm"}
    assert len(json.loads((model_dir / "predictions_val.json").read_text())) == 3
    assert "Where AP is lost" in (model_dir / "report_val.html").read_text()
    lines = read_log(tmp_path / "log.json")
    assert [line["step"] for line in lines] == ["PARAMETER", [1, 1], [1, 2], [1, 3], []]
    assert {"bbox_AP", "segm_AP", "predict_throughput"} <= set(lines[-1]["data"])
    out = tmp_path / "out" / "two.json"
    assert main([*command.split(), "--eval_samples", "2", "--out", str(out), "--no_analysis"]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["two.json"]
    assert "analysis" not in json.loads(out.read_text())
    assert json.loads(out.read_text())["images"] == 2
    assert json.loads((model_dir / "metrics_val.json").read_text())["images"] == 3
    assert (model_dir / "metrics.json").read_bytes() == before


def test_eval_ignores_the_number_of_images_of_the_training_run(model_dir, shapes_dir):
    config = load_config(model_dir / "config.json").override({"train.eval_samples": 1})
    (model_dir / "config.json").write_text(config.to_json())
    assert main(f"eval --data_dir {shapes_dir} --model_dir {model_dir}".split()) == 0
    assert json.loads((model_dir / "metrics_val.json").read_text())["images"] == 3


def test_eval_of_the_test_split(model_dir, shapes_dir, tmp_path, capsys):
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "annotations" / "instances_test.json").symlink_to(shapes_dir / "annotations" / "instances_val.json")
    (data / "test").symlink_to(shapes_dir / "val")
    assert main(f"eval --data_dir {data} --model_dir {model_dir} --split test".split()) == 0
    assert json.loads((model_dir / "metrics_test.json").read_text())["images"] == 3
    assert main(f"eval --data_dir {data} --model_dir {model_dir}".split()) == 2
    assert "no val split" in capsys.readouterr().err


def test_eval_with_another_annotation_file(model_dir, shapes_dir, tmp_path, capsys):
    annotations = json.loads((shapes_dir / "annotations" / "instances_val.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**annotations, "images": annotations["images"][:1]}))
    command = f"eval --data_dir {shapes_dir} --model_dir {model_dir} --eval_file {tmp_path / 'other.json'}"
    assert main(command.split()) == 2
    assert "other.json: no image with id" in capsys.readouterr().err


def test_eval_on_data_of_other_categories_names_both(model_dir, shapes_dir, tmp_path, capsys):
    for name in ("train", "val"):
        annotations = json.loads((shapes_dir / "annotations" / f"instances_{name}.json").read_text())
        for category in annotations["categories"]:
            category["name"] = f"my {category['name']}"
        (tmp_path / "data" / "annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "annotations" / f"instances_{name}.json").write_text(json.dumps(annotations))
        (tmp_path / "data" / name).symlink_to(shapes_dir / name)
    assert main(f"eval --data_dir {tmp_path / 'data'} --model_dir {model_dir}".split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "my circle" in line
    assert " circle" in line.replace("my circle", "")
