#!/usr/bin/env bash
# Everything that is measured on a GPU, in under 8 minutes: ours (JAX) and torchvision in turns, then profiles for XProf.
#
#     benchmarks/gpu.sh [OUT]             # OUT (default: benchmarks/results/gpu) gets the tables and the JSON
#     PLATFORM=cpu benchmarks/gpu.sh OUT  # tiny sizes on the CPU, to see that it runs through
#
# Needs no network and no TensorFlow. PYTHON (default python3) has JAX, PEER_PYTHON (default the same) torch and
# torchvision. What else is needed (keras, optree, namex, pycocotools) may lie as wheels in ./wheels (`make wheels`); they
# are then put into a folder of their own. PARTS="inference profile" runs only those parts.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

OUT=${1:-benchmarks/results/gpu}
PYTHON=${PYTHON:-python3}
PEER_PYTHON=${PEER_PYTHON:-$PYTHON} # has torch and torchvision
PLATFORM=${PLATFORM:-cuda}
PARTS=${PARTS:-"inference training profile growth"}
LIMIT=${LIMIT:-460} # seconds in all
mkdir -p "$OUT"
CACHE=$(mktemp -d)
trap 'rm -rf "$CACHE"' EXIT

export KERAS_BACKEND=jax PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export XLA_PYTHON_CLIENT_PREALLOCATE=false # so that peak memory is what was used, and torch has room in its turn
if compgen -G 'wheels/*.whl' >/dev/null; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$CACHE/site" wheels/*.whl || exit
  export PYTHONPATH=$CACHE/site:$PYTHONPATH
fi

if [ "$PLATFORM" = cpu ]; then
  export CUDA_VISIBLE_DEVICES=-1
  SMALL=(--size 128 192 --set box_head.samples=16 --set rpn.train_proposals=50 --set rpn.train_candidates=50) STEPS=(--steps 2 --warmup_steps 1) BATCHES="1" GROWTH="1 2" PRECISIONS="float32"
  PEERS="torchvision"
else
  SMALL=() STEPS=(--steps 20 --warmup_steps 4) BATCHES="8" GROWTH="1 2 4 16 24" PRECISIONS="bfloat16 float16"
  PEERS="torchvision-channels_last torchvision-compile"
fi

left() { echo $((LIMIT - SECONDS)); }
compare() { # WHAT BATCHES PRECISIONS CONTESTANTS FILE SECONDS
  [ "$(left)" -gt 20 ] || { echo "no time left for $5"; return; }
  # shellcheck disable=SC2086 # lists are split on purpose
  timeout "$(left)" "$PYTHON" -m benchmarks.side_by_side --what $1 --batch_sizes $2 --precision $3 --contestants $4 \
    --peer_python "$PEER_PYTHON" --device "$PLATFORM" --rounds "${ROUNDS:-1}" --compile_cache "$CACHE/xla" \
    --seconds "$(($6 < $(left) ? $6 : $(left)))" \
    "${STEPS[@]}" "${SMALL[@]}" --out "$OUT/$5.json" | tee "$OUT/$5.md"
}

for part in $PARTS; do
  echo "== $part, $(left) s left"
  case $part in
    inference | training) compare "$part" "$BATCHES" "$PRECISIONS" "jax $PEERS" "$part" 130 ;;
    growth)
      compare inference "$GROWTH" "${PRECISIONS%% *}" jax inference_growth 100
      compare training "$GROWTH" "${PRECISIONS%% *}" jax training_growth 200
      ;;
    profile)
      for what in training inference; do
        [ "$(left)" -gt 20 ] || continue
        timeout "$(left)" "$PYTHON" -m benchmarks.side_by_side.maskrcnn_side $what --xla --batch_size "$BATCHES" \
          --precision "${PRECISIONS%% *}" --steps 3 "${SMALL[@]}" --trace "$OUT/profile_$what"
      done
      ;;
  esac
done
echo "results are in $OUT; $SECONDS s"
