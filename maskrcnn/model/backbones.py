"""Builds the backbone that the config names: the ResNet of `maskrcnn.model.resnet`, or a model of keras.applications.

A backbone maps normalized images [B, H, W, 3] to the list C2..C5, [B, H / 2^l, W / 2^l, channels] at level l.
"""

import difflib
import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from maskrcnn.config import ImageConfig, ModelConfig
from maskrcnn.errors import UserError
from maskrcnn.model.resnet import resnet

# How the families want RGB in 0..255 to be preprocessed; None where their models do it themselves. See preprocess_input
# in the modules of keras.applications.
PREPROCESSING = {
    "convnext": None,
    "densenet": "torch",
    "efficientnet": None,
    "efficientnet_v2": None,
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "mobilenet_v3": None,
    "resnet": "caffe",
    "resnet_v2": "tf",
    "vgg16": "caffe",
    "vgg19": "caffe",
}
CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR, of ImageNet; keras.applications
TORCH_MEAN, TORCH_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # RGB, of ImageNet; keras.applications
PROBE_SIDE = 256  # px of the image whose feature maps tell the strides of the layers


def build_backbone(config: ModelConfig, *, dtype: Any = None) -> keras.Model:
    """Builds the backbone, with random weights.

    Args:
        config: the model's config.
        dtype: the layers' dtype policy; None is Keras' global one.

    Raises:
        UserError: keras.applications has no such model, or it does not fit the config.
    """
    if config.backbone.name is None:
        return resnet(config.backbone, config.norm, dtype=dtype)
    if config.image.bgr:
        raise UserError(f"backbone {config.backbone.name} takes RGB images; set image.bgr=false")
    policy = keras.config.dtype_policy()
    try:
        if dtype is not None:
            keras.config.set_dtype_policy(dtype)  # the functions of keras.applications take no dtype
        features, stages = _features(config.backbone.name, weights=None)
        images = keras.Input((None, None, 3), name="images", dtype="float32")
        x = _preprocess(_denormalize(images, config.image), PREPROCESSING[_family(config.backbone.name)])
        model = keras.Model(images, features(x), name="resnet")
    finally:
        keras.config.set_dtype_policy(policy)
    frozen = stages[config.backbone.freeze_at - 1] if config.backbone.freeze_at else []
    norms = [layer for layer in features.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in [*frozen, *([] if config.norm.train else norms)]:
        layer.trainable = False
    return model


def load_imagenet(backbone: keras.Model, name: str) -> None:
    """Sets a backbone of keras.applications to its ImageNet weights, which Keras downloads and caches.

    Raises:
        UserError: the weights cannot be downloaded.
    """
    try:
        source = _features(name, weights="imagenet")[0]
    except UserError:
        raise
    except Exception as error:  # of many kinds: the network, the disk, a model without published weights
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"ImageNet weights of {name}: cannot be downloaded ({reason}); check the network") from error
    backbone.get_layer(source.name).set_weights(source.get_weights())


def _family(name: str) -> str:
    return _constructor(name).__module__.rpartition(".")[2]


def _constructor(name: str) -> Callable[..., keras.Model]:
    known = {
        key: value
        for key, value in vars(keras.applications).items()
        if callable(value) and value.__module__.rpartition(".")[2] in PREPROCESSING
    }
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        raise UserError(f"backbone.name: keras.applications has no suitable model {name!r}; try {', '.join(near)}")
    return known[name]


def _features(name: str, weights: str | None) -> tuple[keras.Model, list[list[keras.layers.Layer]]]:
    """Builds a model of keras.applications up to C5.

    Returns:
        The model from preprocessed images to C2..C5, and its layers up to the end of the stem, of C2, ..., of C5.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some were trained on images of one size, which does not matter
        whole = _constructor(name)(include_top=False, weights=weights, input_shape=(None, None, 3))
    layers = whole.layers
    outputs = [layer.output for layer in layers]
    probe = keras.Model(whole.inputs[0], outputs).compute_output_shape((1, PROBE_SIDE, PROBE_SIDE, 3))
    ends = [next(i for i, shape in enumerate(probe) if tuple(shape[1:3]) == (PROBE_SIDE // 4,) * 2)]  # of the stem
    for stride in (4, 8, 16, 32):
        side = PROBE_SIDE // stride
        maps = [i for i, shape in enumerate(probe) if tuple(shape[1:3]) == (side, side)]
        sums = [i for i in maps if isinstance(layers[i], keras.layers.Add)]
        end = sums[-1] if sums else maps[-1]  # the last block's output, before the layers that lead to the next stage
        follower = next((i for i in maps if i == end + 1 and isinstance(layers[i], keras.layers.Activation)), end)
        ends.append(follower)
    features = keras.Model(whole.inputs[0], [outputs[end] for end in ends[1:]], name="features")
    return features, [layers[: end + 1] for end in ends]


def _denormalize(images: Any, config: ImageConfig) -> Any:
    """Turns normalized images back to RGB in 0..255, with the mean color outside the images."""
    return images * ops.convert_to_tensor(config.std, "float32") + ops.convert_to_tensor(config.mean, "float32")


def _preprocess(images: Any, mode: str | None) -> Any:
    if mode == "tf":
        return images / 127.5 - 1.0
    if mode == "caffe":
        return ops.flip(images, axis=-1) - ops.convert_to_tensor(CAFFE_MEAN, "float32")
    if mode == "torch":
        return (images - ops.convert_to_tensor(TORCH_MEAN, "float32")) / ops.convert_to_tensor(TORCH_STD, "float32")
    return images
