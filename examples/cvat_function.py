"""A function for CVAT's auto-annotation, which predicts the images of a task where they are:

pip install cvat-cli 'maskrcnn[onnx]'
cvat-cli --server-host URL --auth USER task auto-annotate TASK_ID --function-file examples/cvat_function.py \
    -p model=str:runs/mine/export/model.onnx --allow-unmatched-labels

The task's labels have the names of the model's classes.
"""

import cvat_sdk.auto_annotation as cvat
from PIL import Image

import maskrcnn

DEFAULT_THRESHOLD = 0.5


class MaskRCNNFunction:
    """Finds objects and gives them to CVAT as polygons, one for each connected part."""

    def __init__(self, model: str) -> None:
        self.predictor = maskrcnn.load(model)
        categories = self.predictor.config.categories
        labels = [cvat.label_spec(category.name, category.index, type="polygon") for category in categories]
        self.spec = cvat.DetectionFunctionSpec(labels=labels)

    def detect(self, context: cvat.DetectionFunctionContext, image: Image.Image) -> list[cvat.DetectionAnnotation]:
        """The polygons of an image; called by CVAT."""
        threshold = context.conf_threshold
        found = self.predictor.predict(image).above(DEFAULT_THRESHOLD if threshold is None else threshold)
        return [
            cvat.polygon(int(index), polygon.round(2).ravel().tolist(), group=number if len(parts) > 1 else 0)
            for number, (index, parts) in enumerate(zip(found.classes, found.to_polygons(), strict=True), start=1)
            for polygon in parts
        ]


def create(model: str) -> MaskRCNNFunction:
    """Called by cvat-cli with the values of ``-p``."""
    return MaskRCNNFunction(model)
