#!/usr/bin/env bash
# Downloads COCO 2017 (20 GB) into a folder and converts it: bash dataset/download_and_preprocess_coco.sh /data
# What is there already is kept. Other flags go to `maskrcnn data coco`; PYTHON=... names another Python.
set -euo pipefail

if [ $# -eq 0 ]; then
  echo "usage: bash download_and_preprocess_coco.sh DATA_DIR [--splits train val] [--base_url URL]" >&2
  exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
if [ ! -x "$(command -v "$python")" ]; then
  python=$(command -v python || command -v python3)
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

"$python" -m maskrcnn data coco "$@"
"$python" -m maskrcnn data convert "$1"
