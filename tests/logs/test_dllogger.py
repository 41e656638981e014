"""The log's lines, and the clock of evaluations."""

import json

import pytest

from maskrcnn.errors import UserError
from maskrcnn.logs.dllogger import DLLLog
from maskrcnn.logs.throughput import BatchClock, describe_speed


def read(path):
    lines = path.read_text().splitlines()
    assert all(line.startswith("DLLL {") for line in lines)
    return [json.loads(line.removeprefix("DLLL ")) for line in lines]


def test_lines_are_those_of_dllogger(tmp_path):
    log = DLLLog(tmp_path / "runs" / "log.json")
    log.parameters({"epochs": 12})
    log.log((1, 20), {"loss": 0.5})
    log.log((), {"bbox_AP": 0.25})
    log.close()
    lines = read(tmp_path / "runs" / "log.json")
    assert [set(line) for line in lines] == [{"timestamp", "datetime", "elapsedtime", "type", "step", "data"}] * 3
    assert [line["type"] for line in lines] == ["LOG"] * 3
    assert [line["step"] for line in lines] == ["PARAMETER", [1, 20], []]
    assert [line["data"] for line in lines] == [{"epochs": 12}, {"loss": 0.5}, {"bbox_AP": 0.25}]
    assert float(lines[0]["timestamp"]) > 1.6e9
    assert 0 <= float(lines[0]["elapsedtime"]) <= float(lines[2]["elapsedtime"])


def test_a_second_run_appends_and_each_line_is_written_at_once(tmp_path):
    for epoch in (1, 2):
        log = DLLLog(tmp_path / "log.json")
        log.log((epoch,), {})
        assert len(read(tmp_path / "log.json")) == epoch  # before it is closed
        log.close()


def test_unwritable_log_names_the_flag(tmp_path):
    (tmp_path / "log.json").mkdir()
    with pytest.raises(UserError, match=r"log\.json.*--log_file"):
        DLLLog(tmp_path / "log.json")


def test_speed_by_hand():
    speed = describe_speed("train", 4, [1.0, 2.0, 3.0])  # 12 images in 6 s
    assert speed["train_throughput"] == 2.0
    assert speed["train_latency"] == 2.0
    assert speed["train_latency_50"] == 2.0
    assert speed["train_latency_90"] == pytest.approx(2.8)  # 2 + 0.8 * (3 - 2)
    assert describe_speed("train", 4, []) == {}


def test_clock_yields_the_batches_and_excludes_the_warmup(tmp_path, monkeypatch):
    times = iter([0.0, 10.0, 11.0, 13.0, 15.0])  # the batches take 10, 1, 2 and 2 s
    monkeypatch.setattr("maskrcnn.logs.throughput.time.perf_counter", lambda: next(times))
    log = DLLLog(tmp_path / "log.json")
    clock = BatchClock(log, 5, every=2, warmup_steps=1)
    assert list(clock.watch("abcd")) == list("abcd")
    log.close()
    assert clock.speed()["predict_throughput"] == pytest.approx(3.0)  # 15 images in 5 s
    lines = read(tmp_path / "log.json")
    assert [line["step"] for line in lines] == [[1, 2], [1, 4]]
    assert [line["data"]["predict_latency"] for line in lines] == [5.5, 2.0]


def test_a_full_disk_is_reported_with_the_file():
    log = DLLLog("/dev/full")
    with pytest.raises(UserError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        log.log((1, 1), {"loss": 1.0})
    log.close()  # does not raise again
