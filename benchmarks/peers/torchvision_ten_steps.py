"""Ten SGD steps of torchvision's Mask R-CNN, recorded as a fixture that our own ten steps have to follow.

    python benchmarks/peers/torchvision_ten_steps.py tests/fixtures/goldens/ten_steps.json

Needs torch 2.11 and torchvision 0.26, in an environment of their own. The weights, the image and the ground truth are
those of the other fixtures (tests/fixtures/goldens/weights.py), and so are the samplers' settings: they take every
positive and every negative, so that nothing is random.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

GENERATOR = Path(__file__).parents[2] / "tests" / "fixtures" / "goldens" / "weights.py"
STEPS = 10
SETTINGS = {
    "min_size": 256,
    "max_size": 320,
    "rpn_pre_nms_top_n_train": 200,
    "rpn_post_nms_top_n_train": 100,
    "rpn_batch_size_per_image": 1_000_000,
    "rpn_positive_fraction": 0.5,
    "box_batch_size_per_image": 1_000_000,
    "box_positive_fraction": 0.5,
}


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_weights", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_model(generator: ModuleType) -> MaskRCNN:
    """The frozen-batch-norm model, all of its stages trained."""
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
    model = MaskRCNN(backbone, num_classes=91, **SETTINGS)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    state = {name: torch.from_numpy(value) for name, value in generator.make_state_dict(shapes).items()}
    model.load_state_dict(state, strict=True)
    return model.train()


def run(learning_rate: float, momentum: float, dtype: torch.dtype) -> list[dict[str, float]]:
    generator = load_generator()
    model = build_model(generator).to(dtype)
    image = torch.from_numpy(generator.make_image().transpose(2, 0, 1).copy()).to(dtype)
    target = {name: torch.from_numpy(value) for name, value in generator.make_target().items()}
    target["boxes"] = target["boxes"].to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum)
    losses = []
    for step in range(STEPS):
        now = model([image], [target])
        optimizer.zero_grad()
        sum(now.values()).backward()
        optimizer.step()
        losses.append({name: float(value.detach()) for name, value in now.items()})
        print(step, round(sum(losses[-1].values()), 5), losses[-1], file=sys.stderr)
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--momentum", type=float, default=0.9)
    options = parser.parse_args()
    torch.set_num_threads(2)
    record = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "learning_rate": options.learning_rate,
        "momentum": options.momentum,
        "losses": run(options.learning_rate, options.momentum, torch.float32),
        "losses_float64": run(options.learning_rate, options.momentum, torch.float64),
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
