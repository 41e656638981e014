"""Names the model's variables and sets them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from maskrcnn.model import MaskRCNN
from maskrcnn.weights.rules import ConvertedTensor, check_balance

PARTS = ("fpn", "rpn", "box_head", "mask_head")


def model_variables(model: MaskRCNN) -> dict[str, Any]:
    """All variables of the network by name: ``resnet/c2_block0_conv1/conv/kernel``, ``rpn/deltas/conv/bias``."""
    variables = backbone_variables(model)
    for part in PARTS:
        for variable in getattr(model, part).variables:
            variables[part + variable.path.partition(f"/{part}")[2]] = variable
    return variables


def backbone_variables(model: MaskRCNN) -> dict[str, Any]:
    """The backbone's variables by name."""
    return {f"resnet/{variable.path}": variable for variable in model.resnet.variables}


def variable_values(model: MaskRCNN) -> dict[str, NDArray[Any]]:
    """The values of `model_variables`, by name."""
    return {name: np.asarray(ops.convert_to_numpy(variable)) for name, variable in model_variables(model).items()}


def assign(variables: Mapping[str, Any], converted: Mapping[str, ConvertedTensor], *, path: Any) -> None:
    """Sets every variable to its tensor, after checking all of them.

    Raises:
        UserError: tensors are missing, unused or of the wrong shape. No variable has changed then.
    """
    check_balance(converted, {name: variable.shape for name, variable in variables.items()}, path=path)
    for name, variable in variables.items():
        variable.assign(converted[name].value)
