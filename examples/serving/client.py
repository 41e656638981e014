"""Sends images to the server and prints what it finds in them; needs the standard library only.

python client.py photo.jpg --url http://localhost:8000/predict
"""

import argparse
import json
import urllib.request
from pathlib import Path
from typing import Any


def predict(url: str, encoded: bytes, timeout: float = 60) -> dict[str, Any]:
    """The server's answer for an encoded image.

    Masks are COCO's compressed run-length codes: ``pycocotools.mask.decode(detection["segmentation"])`` is [H, W].
    """
    request = urllib.request.Request(url, encoded, {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return json.load(response)


def main() -> None:
    """Predicts the images that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--url", default="http://localhost:8000/predict")
    parser.add_argument("--score_threshold", type=float, default=0.5)
    options = parser.parse_args()
    for path in options.images:
        for detection in predict(options.url, path.read_bytes())["detections"]:
            if detection["score"] >= options.score_threshold:
                print(f"{path.name}: {detection['category_name']} {detection['score']:.2f} at {detection['bbox']}")


if __name__ == "__main__":
    main()
