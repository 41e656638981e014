"""Adds a model's detections to a FiftyOne dataset, to look at them in its app and compare them with the annotations:

pip install fiftyone 'maskrcnn[onnx]'
python examples/fiftyone_predictions.py photos/ runs/mine/export/model.onnx

A dataset that is there already: ``add_predictions(fiftyone.load_dataset(NAME), maskrcnn.load(MODEL))``.
"""

import argparse
from typing import Any

import fiftyone

import maskrcnn


def to_fiftyone(found: maskrcnn.Detections) -> fiftyone.Detections:
    """The detections with their masks, each in its box, as FiftyOne keeps them."""
    return fiftyone.Detections(
        detections=[
            fiftyone.Detection.from_mask(mask, label=name, confidence=float(score))
            for name, score, mask in zip(found.names, found.scores, found.masks, strict=True)
            if mask.any()
        ]
    )


def add_predictions(dataset: Any, model: Any, field: str = "predictions", score_threshold: float = 0.1) -> None:
    """Predicts the images of a dataset or view into a field of its samples; the app filters by confidence."""
    for sample in dataset.iter_samples(progress=True, autosave=True):
        sample[field] = to_fiftyone(model.predict(sample.filepath).above(score_threshold))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="folder")
    parser.add_argument("model", help="model folder, or a file of `maskrcnn export`")
    options = parser.parse_args()
    dataset = fiftyone.Dataset.from_images_dir(options.images)
    add_predictions(dataset, maskrcnn.load(options.model))
    print(dataset.count_values("predictions.detections.label"))
    fiftyone.launch_app(dataset).wait()


if __name__ == "__main__":
    main()
