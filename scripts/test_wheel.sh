#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh environment of each Python given, and runs the tests that compute nothing.
#   bash scripts/test_wheel.sh [PYTHON ...]     default: those of python3.11, python3.12 and python3.13 that exist
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pythons=("$@")
if [ $# -eq 0 ]; then
  for name in python3.11 python3.12 python3.13; do
    command -v "$name" >/dev/null && pythons+=("$name") || echo "$name: not installed, skipped"
  done
fi

install() { # PYTHON PACKAGE ...; with uv where it is there, which is many times as fast
  if command -v uv >/dev/null; then uv pip install --quiet --python "$@"; else "$1" -m pip install --quiet "${@:2}"; fi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${pythons[0]}" -m venv "$work/build"
install "$work/build/bin/python" build
git archive --format=tar HEAD | (mkdir "$work/source" && tar -x -C "$work/source")
"$work/build/bin/python" -m build --quiet --wheel --outdir "$work/dist" "$work/source"
wheel=$(ls "$work"/dist/*.whl)
echo "built $(basename "$wheel")"

for python in "${pythons[@]}"; do
  environment=$work/$("$python" -c 'import sys; print("py%d%d" % sys.version_info[:2])')
  "$python" -m venv "$environment"
  install "$environment/bin/python" "$wheel[tensorflow,onnx]" pytest hypothesis safetensors
  mkdir "$environment/run"
  (
    cd "$environment/run" # not in the repository, whose package would be imported instead
    "$environment/bin/maskrcnn" --version
    "$environment/bin/maskrcnn" doctor >/dev/null
    cp -r "$work/source"/{tests,benchmarks,pyproject.toml} .
    KERAS_BACKEND=tensorflow "$environment/bin/python" -m pytest -q -p no:cacheprovider tests/imaging tests/logs \
      tests/cli/test_doctor.py tests/cli/test_flags.py tests/cli/test_reference_scripts.py tests/data/formats \
      tests/runtime/test_portability.py tests/runtime/test_files.py tests/weights/formats | tail -n 5
  )
  echo "$("$python" --version): passed"
  rm -rf "$environment" # 2 GB
done
