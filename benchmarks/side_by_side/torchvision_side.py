"""torchvision's side of `benchmarks.side_by_side`; prints a line of JSON.

    python benchmarks/side_by_side/torchvision_side.py inference --batch_size 1 --steps 3

Needs torch and torchvision, and nothing of this project but `problem.py`. Every contestant gets its images as uint8 on
the host; scaling them to 0..1 is part of the step. torchvision's transform keeps the size of 832x1344 but interpolates
all the same, in training the masks too: it cannot be turned off.
"""

import argparse
import contextlib
import json
from typing import Any

import numpy as np
import problem  # beside this script
import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def build_model(options: argparse.Namespace) -> MaskRCNN:
    """The model with the weights of the problem."""
    height, width = options.size
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    sizes = {"min_size": min(height, width), "max_size": max(height, width)}
    model = MaskRCNN(backbone, num_classes=problem.CLASSES, **sizes, **problem.SETTINGS)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    state = {name: torch.from_numpy(value) for name, value in problem.make_weights(shapes).items()}
    model.load_state_dict(state, strict=True)
    model = model.to(options.device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if options.compile:  # the parts with static shapes; the others loop over images and boxes
        model.backbone = torch.compile(model.backbone)
        model.rpn.head = torch.compile(model.rpn.head)
    return model


def make_inputs(options: argparse.Namespace) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Images as uint8 [3, H, W] on the host, and their objects."""
    height, width = options.size
    images = [
        torch.from_numpy(one.transpose(2, 0, 1).copy())
        for one in problem.make_images(options.batch_size, height, width)
    ]
    boxes, classes = problem.make_objects(options.batch_size, height, width)
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    targets = []
    for own_boxes, own_classes in zip(boxes, classes, strict=True):
        x1, y1, x2, y2 = own_boxes.T[:, :, None, None]
        inside = ((columns * 2 - x1 - x2) / (x2 - x1)) ** 2 + ((rows * 2 - y1 - y2) / (y2 - y1)) ** 2 <= 1
        target = {"boxes": own_boxes, "labels": own_classes.astype(np.int64), "masks": inside.astype(np.uint8)}
        targets.append({name: torch.from_numpy(value) for name, value in target.items()})
    if options.device == "cuda":
        images = [image.pin_memory() for image in images]
        targets = [{name: value.pin_memory() for name, value in target.items()} for target in targets]
    return images, targets


class Steps:
    """A training step and an inference, each of which returns when the device is done."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device, self.channels_last = options.device, options.channels_last
        dtype = DTYPES[options.precision]
        self.cast = torch.autocast(options.device, dtype) if dtype else contextlib.nullcontext()
        self.model = build_model(options).train(options.what == "training")
        self.images, self.targets = make_inputs(options)
        self.scaler = torch.amp.GradScaler(options.device, enabled=dtype is torch.float16)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(
            parameters, problem.LEARNING_RATE, momentum=problem.MOMENTUM, weight_decay=problem.WEIGHT_DECAY
        )
        self.detections = 0

    def _on_device(self) -> list[torch.Tensor]:
        return [image.to(self.device, non_blocking=True).float() / 255 for image in self.images]

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def training(self) -> None:
        targets = [{k: v.to(self.device, non_blocking=True) for k, v in target.items()} for target in self.targets]
        with self.cast:
            losses = self.model(self._on_device(), targets)
            loss = sum(losses.values())
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._wait()

    @torch.inference_mode()
    def inference(self) -> None:
        with self.cast:
            # The last stage, which pastes the masks into whole images, is left out: ours does that on the host, after
            # the model.
            images, _ = self.model.transform(self._on_device())
            features = self.model.backbone(images.tensors)
            proposals, _ = self.model.rpn(images, features)
            detections, _ = self.model.roi_heads(features, proposals, images.image_sizes)
        found = [{name: value.cpu() for name, value in one.items()} for one in detections]
        self.detections = sum(len(one["scores"]) for one in found) // len(found)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    problem.add_flags(parser)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels_last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    steps = Steps(options)
    times = problem.time_steps(getattr(steps, options.what), steps=options.steps, warmup_steps=options.warmup_steps)
    record: dict[str, Any] = {
        **times,
        "detections": steps.detections,
        "host_bytes": problem.peak_memory(),
        "device_bytes": torch.cuda.max_memory_allocated() if options.device == "cuda" else None,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
