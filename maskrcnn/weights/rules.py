"""Rules that rename and transpose the tensors of published checkpoints, and that must balance.

Each tensor of the file is used once and each variable of the model is set once, or the import stops and lists the rest.
A rule renames a module: a regular expression for the published name, and a template for ours.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError

Array = NDArray[Any]
Tensors = Mapping[str, Array]  # name -> tensor, in the publisher's layout
Rules = tuple[tuple[str, str], ...]

FIRST_DENSE = "box_head/dense1/kernel"  # its input is the flattened RoI features
POOL_SIZE = 7  # their side, with all publishers
STAGES = range(2, 6)  # C2..C5 and P2..P5
LISTED = 12  # tensors that an error names; the others are counted

CONVOLUTION_LEAVES = {"weight": "kernel", "bias": "bias"}
NORM_LEAVES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
KERAS_LEAVES = {"kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}


class Naming(NamedTuple):
    """The conventions of one publisher."""

    modules: Rules
    ignored: tuple[str, ...] = ()  # expressions for tensors that are not part of the model
    class_rows: Mapping[str, Callable[[Array], Array]] = {}  # our module -> reorders the rows of its classes
    is_keras: bool = False  # names such as a/b/kernel, and kernels as (height, width, in, out)


class ConvertedTensor(NamedTuple):
    """A tensor in Keras' layout."""

    source: str
    value: Array


def _numbered(theirs: str, ours: str, first: int, their_first: int = 0) -> Rules:
    """Rules for four layers that the publisher numbers from ``their_first`` and we from ``first``; # is the number."""
    return tuple((theirs.replace("#", str(their_first + i)), ours.replace("#", str(first + i))) for i in range(4))


def torchvision_resnet(prefix: str) -> Rules:
    """Rules for torchvision's ResNet, whose names start with ``prefix`` (an expression)."""
    layer, block = rf"{prefix}layer#\.(\d+)\.", r"resnet/c#_block\1_"
    return (
        (rf"{prefix}conv1", "resnet/stem/conv"),
        (rf"{prefix}bn1", "resnet/stem/norm"),
        *_numbered(rf"{layer}conv(\d)", rf"{block}conv\2/conv", 2, 1),
        *_numbered(rf"{layer}bn(\d)", rf"{block}conv\2/norm", 2, 1),
        *_numbered(rf"{layer}downsample\.0", rf"{block}shortcut/conv", 2, 1),
        *_numbered(rf"{layer}downsample\.1", rf"{block}shortcut/norm", 2, 1),
    )


# torchvision counts the batches that a batch norm was trained on; frozen batch norms have no such tensor.
_BATCH_COUNTERS = r".*\.num_batches_tracked"

# Files older than torchvision 0.13 lack the optional ".0" and ".0.0", and have mask_fcn1..4 for 0..3.
TORCHVISION = Naming(
    modules=(
        *torchvision_resnet(r"backbone\.body\."),
        *_numbered(r"backbone\.fpn\.inner_blocks\.#(?:\.0)?", "fpn/lateral#/conv", 2),
        *_numbered(r"backbone\.fpn\.inner_blocks\.#\.1", "fpn/lateral#/norm", 2),
        *_numbered(r"backbone\.fpn\.layer_blocks\.#(?:\.0)?", "fpn/output#/conv", 2),
        *_numbered(r"backbone\.fpn\.layer_blocks\.#\.1", "fpn/output#/norm", 2),
        (r"rpn\.head\.conv(?:\.0\.0)?", "rpn/conv1/conv"),
        (r"rpn\.head\.conv\.1\.0", "rpn/conv2/conv"),
        (r"rpn\.head\.cls_logits", "rpn/objectness/conv"),
        (r"rpn\.head\.bbox_pred", "rpn/deltas/conv"),
        (r"roi_heads\.box_head\.fc6", "box_head/dense1"),
        (r"roi_heads\.box_head\.fc7", "box_head/dense2"),
        *_numbered(r"roi_heads\.box_head\.#\.0", "box_head/conv#/conv", 1),
        *_numbered(r"roi_heads\.box_head\.#\.1", "box_head/conv#/norm", 1),
        (r"roi_heads\.box_head\.5", "box_head/dense1"),
        (r"roi_heads\.box_predictor\.cls_score", "box_head/classes"),
        (r"roi_heads\.box_predictor\.bbox_pred", "box_head/deltas"),
        *_numbered(r"roi_heads\.mask_head\.#\.0", "mask_head/conv#/conv", 1),
        *_numbered(r"roi_heads\.mask_head\.#\.1", "mask_head/conv#/norm", 1),
        (r"roi_heads\.mask_head\.mask_fcn(\d)", r"mask_head/conv\1/conv"),
        (r"roi_heads\.mask_predictor\.conv5_mask", "mask_head/upsample"),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits", "mask_head/masks"),
    ),
    ignored=(_BATCH_COUNTERS,),
)

TORCHVISION_RESNET = Naming(
    modules=torchvision_resnet(""),
    ignored=(_BATCH_COUNTERS, r"fc\.(weight|bias)"),  # ImageNet's classifier
)


# ResNet-50 v1.5 of NVIDIA's classifiers for TensorFlow 1 (rn50_tf_amp_ckpt)
NVIDIA_RESNET = Naming(
    modules=(
        ("resnet50/conv2d/conv2d", "resnet/stem/conv"),
        ("resnet50/conv2d/BatchNorm", "resnet/stem/norm"),
        *_numbered(r"resnet50/btlnck_block_#_(\d+)/bottleneck_(\d)/conv2d", r"resnet/c#_block\1_conv\2/conv", 2),
        *_numbered(r"resnet50/btlnck_block_#_(\d+)/bottleneck_(\d)/BatchNorm", r"resnet/c#_block\1_conv\2/norm", 2),
        *_numbered(r"resnet50/btlnck_block_#_(\d+)/shortcut/conv2d/conv2d", r"resnet/c#_block\1_shortcut/conv", 2),
        *_numbered(r"resnet50/btlnck_block_#_(\d+)/shortcut/conv2d/BatchNorm", r"resnet/c#_block\1_shortcut/norm", 2),
    ),
    # the classifier, the state of the optimizer and of the loss scale
    ignored=(r"(?!resnet50/(conv2d|btlnck_block_)).*", r".*/(Momentum|ExponentialMovingAverage)\w*"),
    is_keras=True,
)


DETECTRON2 = Naming(
    modules=(
        (r"backbone\.bottom_up\.stem\.conv1", "resnet/stem/conv"),
        (r"backbone\.bottom_up\.stem\.conv1\.norm", "resnet/stem/norm"),
        (r"backbone\.bottom_up\.res([2-5])\.(\d+)\.(conv[1-3]|shortcut)", r"resnet/c\1_block\2_\3/conv"),
        (r"backbone\.bottom_up\.res([2-5])\.(\d+)\.(conv[1-3]|shortcut)\.norm", r"resnet/c\1_block\2_\3/norm"),
        (r"backbone\.fpn_(lateral|output)([2-5])", r"fpn/\1\2/conv"),
        (r"proposal_generator\.rpn_head\.conv", "rpn/conv1/conv"),
        (r"proposal_generator\.rpn_head\.objectness_logits", "rpn/objectness/conv"),
        (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn/deltas/conv"),
        (r"roi_heads\.box_head\.fc(\d)", r"box_head/dense\1"),
        (r"roi_heads\.box_predictor\.cls_score", "box_head/classes"),
        (r"roi_heads\.box_predictor\.bbox_pred", "box_head/deltas"),
        (r"roi_heads\.mask_head\.mask_fcn(\d)", r"mask_head/conv\1/conv"),
        (r"roi_heads\.mask_head\.deconv", "mask_head/upsample"),
        (r"roi_heads\.mask_head\.predictor", "mask_head/masks"),
    ),
    # constants, which the config determines
    ignored=(r"proposal_generator\.anchor_generator\.cell_anchors\.\d", "pixel_mean", "pixel_std"),
    # Detectron2 has the background last among the classes, and no deltas and mask for it.
    class_rows={
        "box_head/classes": lambda rows: np.roll(rows, 1, axis=0),
        "box_head/deltas": lambda rows: np.concatenate([np.zeros_like(rows[:4]), rows]),
        "mask_head/masks": lambda rows: np.concatenate([np.zeros_like(rows[:1]), rows]),
    },
)


def convert(tensors: Tensors, naming: Naming, *, path: Any) -> dict[str, ConvertedTensor]:
    """Renames all tensors of a file, which ``path`` names in errors, and converts them to Keras' layout.

    Raises:
        UserError: a tensor that no rule covers, or two tensors for one variable.
    """
    converted: dict[str, ConvertedTensor] = {}
    unknown = []
    for source, value in tensors.items():
        target = _rename(source, naming)
        if target is None:
            if not any(re.fullmatch(expression, source) for expression in naming.ignored):
                unknown.append(source)
        elif target in converted:
            raise UserError(
                f"{path}: {source} and {converted[target].source} both stand for {target}; expected one of them"
            )
        else:
            reorder = naming.class_rows.get(target.rpartition("/")[0])
            rows = value if reorder is None or value.ndim == 0 else reorder(value)
            layout = rows if naming.is_keras else _our_layout(target, rows)
            converted[target] = ConvertedTensor(source, layout)
    if unknown:
        raise UserError(f"{path}: {len(unknown)} tensors are unknown: {listed(unknown)}")
    return converted


def check_balance(
    converted: Mapping[str, ConvertedTensor], shapes: Mapping[str, tuple[int, ...]], *, path: Any
) -> None:
    """Checks that there is exactly one tensor of the right shape for each variable.

    Args:
        converted: the result of `convert`.
        shapes: the shapes of the variables to set.
        path: names the file in errors.

    Raises:
        UserError: tensors are missing, unused or of the wrong shape.
    """
    problems = []
    missing = [name for name in shapes if name not in converted]
    extra = [tensor.source for name, tensor in converted.items() if name not in shapes]
    wrong = [
        f"{tensor.source} (as {name} {tuple(tensor.value.shape)}, expected {tuple(shapes[name])})"
        for name, tensor in converted.items()
        if name in shapes and tuple(tensor.value.shape) != tuple(shapes[name])
    ]
    for items, problem in ((missing, "without a tensor"), (extra, "unused"), (wrong, "of the wrong shape")):
        if items:
            problems.append(f"{len(items)} {'variables' if items is missing else 'tensors'} {problem}: {listed(items)}")
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")


def listed(names: list[str]) -> str:
    """Lists the first names for an error message, and counts the others."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _rename(source: str, naming: Naming) -> str | None:
    module, _, leaf = source.rpartition("/" if naming.is_keras else ".")
    for expression, template in naming.modules:
        found = re.fullmatch(expression, module)
        if found:
            ours = found.expand(template)
            if naming.is_keras:
                return f"{ours}/{leaf}" if leaf in KERAS_LEAVES else None
            leaves = NORM_LEAVES if ours.endswith("/norm") else CONVOLUTION_LEAVES
            return f"{ours}/{leaves[leaf]}" if leaf in leaves else None
    return None


def _our_layout(target: str, value: Array) -> Array:
    """Transposes PyTorch's (out, in, height, width) to Keras' (height, width, in, out).

    The same permutation turns a transposed convolution's (in, out, height, width) into (height, width, out, in). The
    first dense layer reads features flattened as (channels, height, width) in PyTorch, (height, width, channels) here.
    """
    if not target.endswith("/kernel"):
        return value
    if target == FIRST_DENSE and value.ndim == 2 and value.shape[1] % POOL_SIZE**2 == 0:
        maps = value.reshape(value.shape[0], -1, POOL_SIZE, POOL_SIZE)
        return maps.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
