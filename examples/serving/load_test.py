"""Loads the server with several clients, checks every answer, and prints throughput and latency.

    python load_test.py images/ --model runs/demo/export/model.onnx --clients 8 --requests 200

With ``--model`` each answer must have the detections that the file finds without the server.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from client import predict

import maskrcnn


def main() -> None:
    """Runs the clients; exits with 1 if an answer is missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("--model", help="the file that the server runs")
    parser.add_argument("--url", default="http://localhost:8000/predict")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200, help="of all clients together")
    options = parser.parse_args()
    paths = sorted(path for path in options.images.iterdir() if path.is_file())
    encoded = [path.read_bytes() for path in paths]
    expected = [found.to_coco(0) for found in maskrcnn.load(options.model).predict(paths)] if options.model else None

    def request(number: int) -> tuple[float, int, str]:
        """Seconds, bytes of the answer, and what is wrong with it."""
        index, began = number % len(encoded), time.perf_counter()
        try:
            answer = predict(options.url, encoded[index])["detections"]
        except OSError as error:
            return time.perf_counter() - began, 0, str(error)
        seconds, size = time.perf_counter() - began, len(json.dumps(answer))
        return seconds, size, "" if expected is None or same(answer, expected[index]) else "other detections"

    predict(options.url, encoded[0])  # the first one may have to wait for the model
    began = time.perf_counter()
    with ThreadPoolExecutor(options.clients) as clients:
        results = list(clients.map(request, range(options.requests)))
    total = time.perf_counter() - began
    seconds, sizes, problems = zip(*results, strict=True)
    wrong = [problem for problem in problems if problem]
    p50, p95, p99 = (1000 * np.percentile(seconds, percent) for percent in (50, 95, 99))
    print(f"{options.clients} clients, {len(results)} requests: {len(results) / total:.1f} images/s")
    print(f"latency ms: 50% {p50:.0f}, 95% {p95:.0f}, 99% {p99:.0f}; answers of {np.mean(sizes):.0f} bytes on average")
    print(f"{len(wrong)} lost or wrong{': ' + wrong[0] if wrong else ''}")
    raise SystemExit(bool(wrong))


def same(answer: list, expected: list) -> bool:
    """Whether these are the same detections; scores may differ by rounding, as a batch is computed in another order."""
    return len(answer) == len(expected) and all(
        one["category_id"] == other["category_id"] and abs(one["score"] - other["score"]) < 1e-3
        for one, other in zip(answer, expected, strict=True)
    )


if __name__ == "__main__":
    main()
