"""Random configs, flags and checkpoints: each is taken or refused in one line. More of them: FUZZ_EXAMPLES=5000."""

import contextlib
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskrcnn.cli.entry_point import make_parser
from maskrcnn.cli.flags import make_config
from maskrcnn.config import Config, load_config
from maskrcnn.config.typed_fields import field_paths
from maskrcnn.errors import UserError
from maskrcnn.weights.formats.checkpoint_files import read_tensors

pytestmark = pytest.mark.no_backend

FIXTURES = Path(__file__).parents[1] / "fixtures" / "checkpoints"
FILES = [(FIXTURES / name).read_bytes() for name in ("zip.pth", "legacy.pth", "training_loop.pth")]
FILES.append(pickle.dumps({"model": {"a": np.arange(6.0), "b": np.ones((2, 3), "f4")}}, protocol=2))
HEADER = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
FILES.append(struct.pack("<Q", len(HEADER)) + HEADER + bytes(8))
FIELDS = field_paths(Config)
FLAGS = sorted(
    option
    for command in ("train", "eval", "infer")
    for action in make_parser()._subparsers._group_actions[0].choices[command]._actions  # type: ignore[union-attr]
    for option in action.option_strings
    if option.startswith("--") and option not in ("--help", "--config")
)

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "15")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
changes = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "copy", "insert", "number"]), st.integers(0, 2**31), st.binary(max_size=12)
    ),
    min_size=1,
    max_size=6,
)


def mutate(data: bytes, steps: list[tuple[str, int, bytes]]) -> bytes:
    """Bytes with some of them changed, removed, repeated or inserted, or with a length made extreme."""
    for kind, place, noise in steps:
        start = place % max(len(data), 1)
        end = start + 1 + place % 16
        middle = {
            "flip": bytes(byte ^ 0x41 for byte in data[start:end]),
            "cut": b"",
            "copy": data[start:end] * 3,
            "insert": noise + data[start:end],
            "number": (b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\xff" * 8)[place % 3],
        }[kind]
        data = data[:start] + middle + data[end:]
    return data


@fuzz
@given(data=st.sampled_from(FILES), steps=changes)
def test_mutated_checkpoints(data, steps, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(mutate(data, steps))
    with contextlib.suppress(UserError):
        read_tensors(path)


@fuzz
@given(name=st.sampled_from(["archive/data.pkl", "archive/data/0", "archive/byteorder"]), steps=changes)
def test_mutated_entries_of_a_checkpoint(name, steps, tmp_path):
    """Their checksums fit, unlike those of a mutated archive."""
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(FIXTURES / "zip.pth") as whole, zipfile.ZipFile(path, "w") as archive:
        root = whole.namelist()[0].partition("/")[0]
        for entry in whole.namelist():
            content = whole.read(entry)
            is_target = entry.replace(root, "archive", 1) == name
            archive.writestr(entry, mutate(content, steps) if is_target else content)
    with contextlib.suppress(UserError):
        read_tensors(path)


@fuzz
@given(values=st.dictionaries(st.sampled_from(FIELDS), values, max_size=5))
def test_random_settings(values):
    """What passes survives being saved and loaded."""
    with contextlib.suppress(UserError):
        config = Config().override(values)
        assert Config.from_dict(json.loads(config.to_json())) == config


@fuzz
@given(steps=changes)
def test_mutated_config_files(steps, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(mutate(Config.tiny().to_json().encode(), steps))
    with contextlib.suppress(UserError):
        load_config(path)


@fuzz
@given(flags=st.lists(st.tuples(st.sampled_from(FLAGS), st.text(max_size=12)), max_size=4))
def test_random_flags(flags):
    arguments = [f"{name}={text}" for name, text in flags]
    with contextlib.suppress(UserError):
        options = make_parser().parse_args(["train", "--model_dir", "m", *arguments])
        make_config(options)
