"""Kernels of a trace by kind, from a made-up program and a made-up trace."""

import gzip
import json

import pytest

from benchmarks.kernels import read_events, read_program, tabulate

PROGRAM = """HloModule jit_train_step

FileNames
1 "/env/maskrcnn/ops/roi_align.py"
2 "/env/maskrcnn/model/mask_rcnn.py"
3 "/env/keras/src/backend/jax/nn.py"

FunctionNames
1 "_average"

FileLocations
1 {file_name_id=1 function_name_id=1 line=10 end_line=10 column=4 end_column=9}
2 {file_name_id=2 function_name_id=1 line=20 end_line=20 column=4 end_column=9}
3 {file_name_id=3 function_name_id=1 line=30 end_line=30 column=4 end_column=9}

StackFrames
1 {file_location_id=2 parent_frame_id=1}
2 {file_location_id=1 parent_frame_id=1}
3 {file_location_id=3 parent_frame_id=1}

ENTRY %main {
  %gather_fusion.1 = f32[8,4]{1,0} fusion(%p), kind=kLoop, metadata={op_name="f/jvp(m)/gather" stack_frame_id=2}
  %scatter.2 = f32[9,4]{1,0} scatter(%a, %b, %c), metadata={op_name="f/transpose(jvp(m))/scatter-add" stack_frame_id=2}
  %cudnn-conv.3 = (f32[1]{0}, u8[0]{0}) custom-call(%x), metadata={op_name="f/m/conv_general_dilated" stack_frame_id=3}
  ROOT %sort.4 = f32[8]{0} sort(%z), metadata={op_name="f/top_k" source_file="/ops/select.py"}
  %while.5 = (f32[1]{0}) while(%t), metadata={op_name="f/while" source_file="/ops/nms.py"}
}
"""


def test_program_is_read_in_both_forms():
    program = read_program(PROGRAM)
    assert program["gather_fusion.1"].opcode == "fusion"
    assert "/env/maskrcnn/ops/roi_align.py" in program["gather_fusion.1"].sources
    kinds = {name: instruction.kind("kernel") for name, instruction in program.items()}
    assert kinds == {
        "gather_fusion.1": "RoIAlign",
        "scatter.2": "RoIAlign, backward",
        "cudnn-conv.3": "convolutions and dense",
        "sort.4": "top-k",
        "while.5": "NMS",
    }


def test_time_by_kind_with_nested_events_and_gaps():
    program = read_program(PROGRAM)
    events = [
        ("gather_fusion.1", "k", 0.0, 10.0, 1),
        ("while.5", "k", 12.0, 20.0, 1),
        ("gather_fusion.1", "k", 15.0, 5.0, 1),  # inside the loop, which keeps 15
        ("", "MemcpyH2D", 30.0, 4.0, 2),  # on another line, 2 of it at the same time
        ("unknown.9", "loop_add", 34.0, 1.0, 1),
    ]
    times = tabulate(events, program)
    assert times == {"RoIAlign": 15.0, "NMS": 15.0, "copies": 4.0, "idle": 2.0, "elementwise and other": 1.0}
    assert list(times.values()) == sorted(times.values(), reverse=True)


def test_trace_is_read(tmp_path):
    events = [
        {"ph": "X", "pid": 1, "tid": 2, "name": "kernel", "ts": 5, "dur": 2, "args": {"hlo_op": "sort.4"}},
        {"ph": "X", "pid": 1, "tid": 2, "name": "python", "ts": 5, "dur": 2},
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "/device:GPU:0"}},
        {"ph": "X", "pid": 1, "tid": 3, "name": "MemcpyD2H", "ts": 8, "dur": 1, "args": {}},
    ]
    path = tmp_path / "host.trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    found = list(read_events(path))
    assert [event[:4] for event in found] == [("sort.4", "kernel", 5, 2), ("", "MemcpyD2H", 8, 1)]
    assert found[0][4] != found[1][4]


@pytest.mark.parametrize("name", ["jit_train_step", ""])
def test_unknown_instructions_are_other(name):
    assert tabulate([(name, "fusion", 0.0, 1.0, 0)], {})["elementwise and other"] == 1.0
