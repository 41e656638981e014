"""Choosing the backend and what depends on it. Tests of the time before Keras loads run in a process of their own."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.runtime import backend, compiler, hardware


def run(code, **environment):
    variables = {**os.environ, "KERAS_BACKEND": "", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False, timeout=120
    )


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("name", "variable", "expected"), [(None, "", "tensorflow"), (None, "jax", "jax"), ("jax", "tensorflow", "jax")]
)
def test_flag_then_variable_then_tensorflow(name, variable, expected):
    code = f"""
from maskrcnn.runtime.backend import *
print(select_backend({name!r}), active_backend())"""
    result = run(code, KERAS_BACKEND=variable)
    assert result.stdout.split() == [expected] * 2
    assert result.stderr == ""  # log output is suppressed


def test_unknown_and_late_choices():
    with pytest.raises(UserError, match="'torch' is not one of tensorflow, jax"):
        backend.select_backend("torch")
    assert backend.select_backend(keras.backend.backend()) == keras.backend.backend()
    other = {"tensorflow": "jax", "jax": "tensorflow"}[keras.backend.backend()]
    with pytest.raises(UserError, match=f"already runs on {keras.backend.backend()}"):
        backend.select_backend(other)


@pytest.mark.parametrize("platforms", ["cuda", "cuda,cpu", "GPU"])
def test_platforms_of_jax_without_a_gpu(platforms, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr(backend, "installed_gpus", lambda: 0)
    monkeypatch.setattr(backend, "active_backend", lambda: "jax")
    with pytest.raises(UserError, match=f"JAX_PLATFORMS={platforms}: this machine has no NVIDIA GPU"):
        backend.select_backend("jax")


def test_missing_back_end_names_the_remedy(monkeypatch):
    monkeypatch.setattr("maskrcnn.runtime.backend.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'maskrcnn\[jax\]'"):
        backend.select_backend("jax")


@pytest.mark.parametrize(
    ("before", "gpus", "after"), [(None, 2, "0,1"), ("4,5,6", 2, "4,5"), ("4,5,6", 0, "-1"), ("-1", 1, "-1")]
)
def test_gpus_are_the_first_of_the_visible_ones(before, gpus, after, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(backend, "installed_gpus", backend.installed_gpus if before else lambda: 8)
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    backend.select_backend(keras.backend.backend(), gpus=gpus)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == after


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("2", 1), ("0,1,-1,3", 2), ("GPU-ab,MIG-cd", 2)])
def test_visible_gpus_are_counted_without_a_backend(visible, count, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert backend.installed_gpus() == count


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UserError, match=r"--gpus 5: this machine has 1 .*; use --gpus 1"):
        backend.select_backend(keras.backend.backend(), gpus=5)


@pytest.mark.parametrize(
    ("precision", "compute"),
    [("float32", "float32"), ("tf32", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16")],
)
def test_precision_sets_the_layers_policy(precision, compute):
    try:
        backend.set_precision(precision)
        policy = keras.config.dtype_policy()
        assert (policy.compute_dtype, policy.variable_dtype) == (compute, "float32")
        assert _fast_products() == (precision != "float32")
    finally:
        backend.set_precision("float32")


def _fast_products() -> bool:
    if keras.backend.backend() == "jax":
        import jax

        return jax.config.jax_default_matmul_precision != "highest"
    import tensorflow as tf

    return tf.config.experimental.tensor_float_32_execution_enabled()


def test_seed_repeats_random_numbers():
    values = []
    for seed in (1, 1, 2):
        backend.set_seed(seed)
        values.append((np.random.random(), float(keras.random.uniform(()))))
    assert values[0] == values[1] != values[2]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX is deterministic, and always compiled")
@pytest.mark.parametrize("xla", [False, True])
def test_seed_makes_operations_deterministic_unless_xla_compiles_them(xla):
    from tensorflow.python.framework import config

    backend.set_seed(1, xla=xla)
    assert config.is_op_determinism_enabled() == (not xla)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", **compiler.compile_options(xla=xla))  # warns, which is an error here, where they clash
    assert model.jit_compile == xla


def test_compile_options():
    always = keras.backend.backend() == "jax"
    assert compiler.compile_options() == {"jit_compile": always, "run_eagerly": False}
    assert compiler.compile_options(xla=True) == {"jit_compile": True, "run_eagerly": False}
    assert compiler.compile_options(xla=True, eagerly=True) == {"jit_compile": False, "run_eagerly": True}


def test_device_and_memory():
    assert hardware.describe_devices().startswith(f"{keras.backend.backend()} ")
    peak = hardware.peak_memory()
    assert 50e6 < peak.host < 1e12  # bytes: an interpreter with TensorFlow in it


def test_machine_is_described():
    machine = hardware.describe_machine()
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 1e8
    assert machine["onednn"] is (os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1")  # set when maskrcnn is imported
    assert machine["onednn_max_cpu_isa"] == os.environ.get("ONEDNN_MAX_CPU_ISA")
    assert machine["instruction_sets"] == hardware.instruction_sets()


@pytest.mark.parametrize(("setting", "expected"), [("1", True), ("0", False), ("", None), (None, None)])
def test_onednn_is_read_from_the_environment(monkeypatch, setting, expected):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    if setting is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
    assert hardware.uses_onednn() is expected


@pytest.mark.parametrize(
    ("instructions", "limit", "expected"),
    [
        (["sse4_2", "avx2", "avx512f"], "", True),
        (["sse4_2", "avx2", "avx512f"], "avx512_core", True),
        (["sse4_2", "avx2", "avx512f"], "AVX2", False),
        (["sse4_2", "avx2", "avx512f"], "avx2_vnni", False),
        (["sse4_2", "avx2", "avx512f"], "AVX", False),
        (["sse4_2", "avx2"], "", False),
        (["asimd"], "", None),
        (None, "", None),
    ],
)
def test_whether_onednn_computes_with_avx512(monkeypatch, instructions, limit, expected):
    monkeypatch.setattr(hardware, "instruction_sets", lambda: instructions)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert hardware.uses_avx512() is expected


def test_instruction_sets_of_x86_and_arm():
    x86 = {"flags": "fpu sse4_2 avx2 avx512f avx512_bf16 amx_bf16"}
    assert hardware.instruction_sets(x86) == ["sse4_2", "avx2", "avx512f", "avx512_bf16", "amx_bf16"]
    assert hardware.instruction_sets({"Features": "fp asimd crc32 sve"}) == ["asimd", "sve"]
    assert hardware.instruction_sets({"model name": "unknown"}) is None


def test_machine_is_described_where_the_system_reports_little(monkeypatch):
    """On Windows there is no `resource`, `sysconf`, `sched_getaffinity` or /proc, on macOS only the first two."""
    monkeypatch.setitem(sys.modules, "resource", None)  # importing it fails
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "sched_getaffinity")

    def fail(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.open", fail)
    monkeypatch.setattr("pathlib.Path.read_text", fail)
    monkeypatch.setattr("pathlib.Path.write_text", fail)
    monkeypatch.setattr(hardware, "installed_version", lambda package: None)  # reads files too
    machine = hardware.describe_machine()
    assert machine["instruction_sets"] is machine["memory_bytes"] is None
    assert machine["cores"] == os.cpu_count()
    assert machine["processor"]
    assert hardware.peak_memory().host is None
    hardware.reset_peak_memory()
    assert hardware.peak_resident() is None


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has graphs")
def test_graph_is_counted_and_written(tmp_path):
    counts = compiler.write_graph(
        lambda batch: keras.ops.matmul(batch["x"], batch["x"]), {"x": np.eye(2)}, str(tmp_path)
    )
    assert counts["MatMul"] == 1
    (events,) = tmp_path.iterdir()
    assert b"MatMul" in events.read_bytes()


def test_mapped_in_turn_is_stacked():
    assert np.asarray(compiler.sequential_map(lambda index: index * np.array([1, 2]), 3)).tolist() == [
        [0, 0],
        [1, 2],
        [2, 4],
    ]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA orders its own work")
def test_a_gradient_waits_for_another():
    import tensorflow as tf

    @tf.function(autograph=False)
    def gradients(first, second):
        with tf.GradientTape() as tape:
            tape.watch((first, second))
            one, other = compiler.with_gradient_dependency(tf.square(first), second)
            loss = 3 * one + tf.square(other)
        return tape.gradient(loss, (first, second))

    arguments = tf.constant(2.0), tf.constant(5.0)
    assert [float(value) for value in gradients(*arguments)] == [12.0, 10.0]
    operations = gradients.get_concrete_function(*arguments).graph.get_operations()
    (waiting,) = [one for one in operations if one.control_inputs and one.type == "Identity"]
    assert waiting.inputs[0].op.type == "Mul"  # 3, times the gradient of the loss


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA orders its own work")
def test_what_is_done_after_a_value_waits_for_it():
    import tensorflow as tf

    @tf.function(autograph=False)
    def double(value, other):
        with compiler.after(value):
            return tf.add(other, other, name="doubled")

    graph = double.get_concrete_function(tf.constant(1.0), tf.constant(2.0)).graph
    assert [one.name for one in graph.get_operation_by_name("doubled").control_inputs] == ["value"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always knows the sizes")
@pytest.mark.parametrize("transform", [compiler.trace_once, compiler.compiled_by_xla])
def test_a_trace_of_unknown_sizes_is_not_used_for_known_ones(transform):
    """XLA cannot compile all that a trace of unknown sizes holds."""
    import tensorflow as tf

    shapes = []
    traced = transform(lambda values: shapes.append(values.shape.as_list()) or values + 1)
    tf.function(traced, input_signature=[tf.TensorSpec([None])])(tf.ones(3))
    for _ in range(2):
        tf.function(traced)(tf.ones(3))
    assert shapes == [[None], [3]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX runs a function as it is called")
def test_what_is_traced_once_runs_eagerly_in_a_model_that_does():
    import tensorflow as tf

    eagerly = []
    once = compiler.trace_once(lambda values: eagerly.append(tf.executing_eagerly()) or values)
    once(tf.ones(2))
    tf.function(once)(tf.ones(2))
    assert eagerly == [True, False]


def test_a_function_compiled_by_xla_works_in_the_gradient_of_a_branch():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX compiles whole steps")
    scale = compiler.compiled_by_xla(lambda values, count: values * tf.cast(count, "float32"))

    @tf.custom_gradient
    def scaled(values, count):
        return scale(values, count), lambda upstream: (scale(upstream, count), None)

    @tf.function
    def slope(values, index):
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = tf.switch_case(index, [lambda: scaled(values, index + 3), lambda: scaled(values, index + 6)])
        return tape.gradient(outputs, values)

    assert slope(tf.ones(2), tf.constant(1)).numpy().tolist() == [7, 7]


def test_one_gpu_where_there_is_none_hides_them_all(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(backend, "installed_gpus", lambda: 0)
    backend.select_backend(keras.backend.backend(), gpus=1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
