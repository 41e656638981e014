"""Drawn objects, each in a gray of its own, and a stand-in for a model that finds all grays in an image."""

import numpy as np
from PIL import Image

from maskrcnn.config import Category, Config

CATEGORIES = (Category(1, 1, "dark"), Category(2, 2, "light"))


class GrayModel:
    """Detects each gray above 0 as an object: class 2 from 128 on; more pixels have a higher score."""

    def predict_on_batch(self, x):
        found = [self._detect(image[..., 0]) for image in np.asarray(x["images"])]
        most = max(1, *(len(one) for one in found))
        outputs = {
            "boxes": np.zeros((len(found), most, 4), np.float32),
            "classes": np.zeros((len(found), most), np.int32),
            "scores": np.zeros((len(found), most), np.float32),
            "masks": np.zeros((len(found), most, 28, 28), np.float32),
            "valid": np.zeros((len(found), most), np.bool_),
        }
        for i, objects in enumerate(found):
            for k, (box, gray, score, mask) in enumerate(objects):
                outputs["boxes"][i, k] = box
                outputs["classes"][i, k] = 2 if gray >= 128 else 1
                outputs["scores"][i, k] = score
                outputs["masks"][i, k] = mask
                outputs["valid"][i, k] = True
        return outputs

    def _detect(self, gray):
        objects = []
        for value in np.unique(gray[gray > 0]):
            mask = gray == value
            rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
            box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            if mask.sum() < 4:
                continue
            part = Image.fromarray(mask[box[1] : box[3], box[0] : box[2]].astype(np.uint8) * 255)
            square = np.asarray(part.resize((28, 28), Image.Resampling.BILINEAR), np.float32) / 255
            objects.append((box, int(value), 0.95 - 0.2 / (1 + mask.sum()), square))
        return objects


def gray_config(side):
    """A config whose canvas is an image of ``side`` px as it is."""
    config = Config.tiny().override({"image.min_side": side, "image.max_side": side, "train.eval_batch_size": 4})
    return Config(model=config.model, train=config.train, categories=CATEGORIES)


def draw_objects(height, width, ellipses):
    """An image with ellipses (center x, y and radii), the n-th in gray 10 n."""
    rows, columns = np.ogrid[:height, :width]
    gray = np.zeros((height, width), np.uint8)
    for number, (x, y, a, b) in enumerate(ellipses, start=1):
        gray[((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1] = 10 * number
    return np.repeat(gray[..., None], 3, axis=2)
