"""torchvision's side of `benchmarks.learning`: draws the initial weights, and trains from them.

Needs torch and torchvision, and nothing of this project but `problem.py`.
"""

import argparse
from pathlib import Path

import numpy as np
import problem  # beside this script
import torch
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

LOSSES = {
    "loss_classifier": "class_loss",
    "loss_box_reg": "box_loss",
    "loss_mask": "mask_loss",
    "loss_objectness": "rpn_class_loss",
    "loss_rpn_box_reg": "rpn_box_loss",
}


def build_model() -> MaskRCNN:
    """The model of the problem, with torchvision's initialization."""
    layers = {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)}
    channels = problem.CHANNELS
    backbone = BackboneWithFPN(
        resnet18(weights=None), layers, [64, 128, 256, 512], channels, extra_blocks=LastLevelMaxPool()
    )
    ratios = ((0.5, 1.0, 2.0),) * len(problem.ANCHOR_SIZES)
    convolutions = [channels] * problem.MASK_CONVOLUTIONS
    return MaskRCNN(
        backbone,
        min_size=problem.SIDE,
        max_size=problem.SIDE,
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in problem.ANCHOR_SIZES), ratios),
        rpn_pre_nms_top_n_train=problem.CANDIDATES,
        rpn_pre_nms_top_n_test=problem.CANDIDATES,
        rpn_post_nms_top_n_train=problem.PROPOSALS,
        rpn_post_nms_top_n_test=problem.PROPOSALS,
        rpn_batch_size_per_image=problem.RPN_SAMPLES,
        box_batch_size_per_image=problem.BOX_SAMPLES,
        box_score_thresh=problem.SCORE_THRESHOLD,
        box_head=TwoMLPHead(channels * 7 * 7, problem.DENSE),
        box_predictor=FastRCNNPredictor(problem.DENSE, problem.CLASSES),
        mask_head=MaskRCNNHeads(channels, convolutions, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, problem.CLASSES),
    )


def write_initial_weights(path: Path, seed: int) -> None:
    """Draws the weights that all contestants start from."""
    torch.manual_seed(seed)
    np.savez(path, **{name: value.numpy() for name, value in build_model().state_dict().items()})


def make_images(images: np.ndarray) -> list[torch.Tensor]:
    """Images in torchvision's form."""
    return [torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255 for image in images]


def make_targets(batch: problem.Arrays) -> list[dict[str, torch.Tensor]]:
    """The objects of a batch in torchvision's form."""
    targets = []
    for boxes, classes, masks in zip(batch["boxes"], batch["classes"], batch["masks"], strict=True):
        valid = classes > 0
        target = {"boxes": boxes[valid], "labels": classes[valid].astype(np.int64), "masks": masks[valid]}
        targets.append({name: torch.from_numpy(value) for name, value in target.items()})
    return targets


def train(options: argparse.Namespace) -> None:
    """Trains from the initial weights."""
    torch.manual_seed(options.seed)
    model = build_model().train()
    with np.load(options.weights) as weights:
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights}, strict=True)
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": problem.WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, problem.LEARNING_RATE, momentum=problem.MOMENTUM)

    def step(batch: problem.Arrays, learning_rate: float) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        losses = model(make_images(batch["images"]), make_targets(batch))
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        optimizer.step()
        return {LOSSES[name]: float(value) for name, value in losses.items()}

    @torch.inference_mode()
    def detect(images: np.ndarray) -> problem.Arrays:
        model.eval()
        resized, _ = model.transform(make_images(images))
        features = model.backbone(resized.tensors)
        proposals, _ = model.rpn(resized, features)
        detections, _ = model.roi_heads(features, proposals, resized.image_sizes)
        model.train()
        names = {"boxes": "boxes", "scores": "scores", "classes": "labels", "masks": "masks"}
        found = {name: torch.cat([one[key] for one in detections]).numpy() for name, key in names.items()}
        image = np.repeat(np.arange(len(images)), [len(one["scores"]) for one in detections])
        return {**found, "masks": found["masks"][:, 0], "image": image}

    problem.train(options, step, detect)


def main() -> None:
    """Runs the command line; 0 steps only draw the initial weights."""
    options = problem.make_parser(__doc__).parse_args()
    if not options.weights.exists():
        write_initial_weights(options.weights, options.seed)
    if options.steps:
        train(options)


if __name__ == "__main__":
    main()
