"""Hostile JSON wherever a config, class names or the processes of a run are read from it."""

import json

import pytest

from maskrcnn.config import Config, load_config
from maskrcnn.errors import UserError
from maskrcnn.runtime.environment import check_processes
from maskrcnn.weights.importing import read_labels
from maskrcnn.weights.model_files import load_model_config
from tests.special_files import SPECIAL, make_special

DEEP = 20_000
CONTENTS = {
    "nothing": b"",
    "space": b" \n",
    "word": b"maskrcnn",
    "list": b"[]",
    "number": b"3",
    "null": b"null",
    "text": b'"config"',
    "truncated": b'{"train": {"epochs": 3',
    "two documents": b"{}{}",
    "trailing comma": b'{"train": {},}',
    "single quotes": b"{'train': {}}",
    "not UTF-8": b'{"train": "\xff\xfe"}',
    "half a surrogate pair": b'{"data": {"train_file": "\\ud800"}}',
    "surrogate key": b'{"\\ud800": 1}',
    "NUL": b'{"data": {"train_file": "a\\u0000b"}}',
    "NUL bytes": bytes(1000),
    "NaN": b'{"train": {"momentum": NaN}}',
    "Infinity": b'{"train": {"momentum": Infinity}}',
    "minus Infinity": b'{"train": {"momentum": -Infinity}}',
    "1e999": b'{"train": {"momentum": 1e999}}',
    "400 digits": b'{"train": {"epochs": ' + b"9" * 400 + b"}}",
    "5000 digits": b'{"train": {"epochs": ' + b"9" * 5000 + b"}}",
    "5000 digits for a float": b'{"train": {"momentum": ' + b"9" * 5000 + b"}}",
    "5000 digits for text": b'{"data": {"train_file": ' + b"9" * 5000 + b"}}",
    "minus zero epochs": b'{"train": {"epochs": -0}}',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"train":' * DEEP + b"1" + b"}" * DEEP,
    "deep and open": b'{"train":[' * DEEP,
    "deep in a field": b'{"anchors": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a hundred levels": b'{"model":' * 100 + b"1" + b"}" * 100,
    "unknown field": b'{"epochs": 3}',
    "long unknown field": b'{"' + b"e" * 100_000 + b'": 3}',
    "field with colors": b'{"\\u001b[31mtrain": 3}',
    "unhashable choice": b'{"train": {"decay": ["steps"]}}',
    "object for a number": b'{"train": {"epochs": {"a": 1}}}',
    "zip": b"PK\x03\x04" + bytes(100),
    "pickle": b"\x80\x04cos\nsystem\n.",
    "yaml": b"train:\n  epochs: 3\n",
    "sampling_ratio": b'{"model": {"roi_align": {"sampling_ratio": 1000000}}}',
}


def write(path, name):
    if name in CONTENTS:
        path.write_bytes(CONTENTS[name])
    else:
        make_special(path, name)


@pytest.mark.parametrize("name", [*CONTENTS, *SPECIAL])
def test_config_file(name, refused, tmp_path):
    write(tmp_path / "c.json", name)
    assert "c.json" in refused("train", "--data_dir", "d", "--model_dir", "m", "--config", "c.json")


@pytest.mark.parametrize("name", [*CONTENTS, *SPECIAL])
def test_config_of_a_model_folder(name, tmp_path):
    (tmp_path / "model.weights.h5").write_bytes(b"")
    write(tmp_path / "config.json", name)
    with pytest.raises(UserError, match=r"config\.json"):
        load_model_config(tmp_path)


def as_labels(name: str) -> bytes:
    """Contents that begin with a brace, so that they are read as COCO annotations."""
    return CONTENTS[name] if CONTENTS[name].startswith(b"{") else b'{"categories": ' + CONTENTS[name] + b"}"


@pytest.mark.parametrize("name", CONTENTS)
def test_class_names_in_json(name, tmp_path):
    path = tmp_path / "labels.json"
    path.write_bytes(as_labels(name))
    with pytest.raises(UserError, match=r"labels\.json"):
        read_labels(path, 3)


@pytest.mark.parametrize("name", SPECIAL)
def test_class_names_that_are_no_file(name, tmp_path):
    write(tmp_path / "labels.txt", name)
    with pytest.raises(UserError, match=r"labels\.txt"):
        read_labels(tmp_path / "labels.txt", 3)


ROWS = (
    *("1", "[1]", "[null]", "[[]]", '{"a": 1}', '[{"id": 1}]', '[{"name": "a"}]', '[{"id": "x", "name": "a"}]'),
    *('[{"id": null, "name": "a"}]', '[{"id": [1], "name": "a"}]', '[{"id": {}, "name": "a"}]',),
    '[{"id": NaN, "name": "a"}]',
    *('[{"id": 1e999, "name": "a"}]', '[{"id": 1' + "0" * 400 + ', "name": "a"}]', '[{"id": -1, "name": "a"}]'),
    '[{"id": 99999999999999999999999, "name": "a"}, {"id": 1, "name": "b"}]',
)  # fmt: skip


@pytest.mark.parametrize("rows", ROWS, ids=lambda rows: rows[:40])
def test_rows_of_class_names(rows, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text('{"categories": ' + rows + "}")
    with pytest.raises(UserError, match=r"labels\.json"):
        read_labels(path, 3)


WORKERS = {"worker": ["a:1", "b:2"]}
TF_CONFIGS = (
    *("x", "[]", "3", "null", '"a"', "{", "[" * 100_000, '{"cluster": 3}', '{"cluster": []}'),
    *('{"cluster": {"worker": 3}}', '{"cluster": {"worker": []}}', '{"cluster": {"worker": [3]}}',),
    '{"cluster": {"worker": ["a"]}}',
    *('{"cluster": {"worker": ["a:x"]}}', '{"cluster": {"worker": ["a:99999"]}}', '{"cluster": {"worker": ["a b:1"]}}'),
    *('{"cluster": {"worker": {"0": "a:1"}}}', '{"task": 3}', '{"task": []}', '{"cluster": {"worker": "a:1"}}'),
    json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}),
    json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": -1}}),
    json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": "x"}}),
    json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 1.5}}),
    json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 10**30}}),
    json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": None}}),
    json.dumps({"cluster": WORKERS, "task": {"type": "boss", "index": 0}}),
    json.dumps({"cluster": WORKERS, "task": {"type": ["worker"], "index": 0}}),
    json.dumps({"cluster": WORKERS, "task": {"type": None, "index": 0}}),
)  # fmt: skip


@pytest.mark.parametrize("text", TF_CONFIGS, ids=lambda text: text[:60])
def test_tf_config(text, refused, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert "TF_CONFIG" in refused("train", "--data_dir", "d", "--model_dir", "m")


@pytest.mark.parametrize("value", ["", "x", "-1", "0", "1.5", "9" * 400, "2(x3)", "\u0663", " 2", "1e3", "0x2"])
@pytest.mark.parametrize("name", ["SLURM_NTASKS", "SLURM_PROCID"])
def test_slurm(name, value, refused, monkeypatch):
    if (name, value) == ("SLURM_PROCID", "0"):
        pytest.skip("the first process")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv(name, value)
    assert name in refused("train", "--data_dir", "d", "--model_dir", "m")


@pytest.mark.parametrize(
    "flags",
    [
        ("host", "2", "0"), ("host:", "2", "0"), (":1", "2", "0"), ("host:x", "2", "0"), ("host:0", "2", "0"),
        ("host:70000", "2", "0"), ("http://host:1", "2", "0"), ("a b:1", "2", "0"), ("host:1", "2", "2"),
        ("host:1", "2", "5"), ("host:1", "1", "1"), ("x" * 300 + ":1", "2", "0"),
    ],
)  # fmt: skip
def test_flags_of_several_processes(flags, refused):
    names = ("--coordinator", "--num_processes", "--process_id")
    pairs = [part for pair in zip(names, flags, strict=True) for part in pair]
    refused("train", "--data_dir", "d", "--model_dir", "m", *pairs)


@pytest.mark.parametrize("name", ["fifo", "zero", "deep lists", "NaN"])
@pytest.mark.parametrize("command", ["benchmark training --config", "benchmark inference --config"])
def test_config_of_other_commands(name, command, refused, tmp_path):
    write(tmp_path / "c.json", name)
    refused(*command.split(), "c.json")


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", '{"cluster": {}}', '{"environment": "cloud"}', '{"cluster": {"worker": ["[::1]:80"]}}',
        json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 1}}),
        json.dumps({"cluster": WORKERS | {"ps": ["10.0.0.1:2222"]}, "task": {"type": "ps", "index": "0"}}),
    ],
)  # fmt: skip
def test_groups_of_processes_that_pass(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert not check_processes(None, None, None)
    assert not check_processes("node-1.cluster.local:1234", 2, 1)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert not check_processes(None, None, None)
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert check_processes(None, None, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_of_editors_pass(encoding, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(Config.tiny().to_json(), encoding=encoding)
    assert load_config(path) == Config.tiny()
