"""torchvision's side of `benchmarks.learning`: draws the initial weights, and trains from them.

Needs torch and torchvision, and nothing of this project but `problem.py`.
"""

import argparse
import json
import time
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


def make_inputs(batch: problem.Arrays) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """A batch in torchvision's form."""
    images = [torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255 for image in batch["images"]]
    targets = []
    for boxes, classes, masks in zip(batch["boxes"], batch["classes"], batch["masks"], strict=True):
        valid = classes > 0
        target = {"boxes": boxes[valid], "labels": classes[valid].astype(np.int64), "masks": masks[valid]}
        targets.append({name: torch.from_numpy(value) for name, value in target.items()})
    return images, targets


@torch.inference_mode()
def detect(model: MaskRCNN, images: np.ndarray) -> problem.Arrays:
    """Padded detections with masks of 28 x 28; pasting is left to the evaluation."""
    model.eval()
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("boxes", "scores", "classes", "masks", "image")}
    for number, image in enumerate(images):
        inputs = [torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255]
        resized, _ = model.transform(inputs)
        features = model.backbone(resized.tensors)
        proposals, _ = model.rpn(resized, features)
        (one,), _ = model.roi_heads(features, proposals, resized.image_sizes)
        for name, value in (("boxes", one["boxes"]), ("scores", one["scores"]), ("classes", one["labels"])):
            found[name].append(value.numpy())
        found["masks"].append(one["masks"][:, 0].numpy())
        found["image"].append(np.full(len(one["scores"]), number))
    model.train()
    return {name: np.concatenate(values) for name, values in found.items()}


def train(options: argparse.Namespace) -> None:
    """Trains, writes detections of the val split at each evaluation, and the losses at the end."""
    torch.manual_seed(options.seed)
    model = build_model().train()
    with np.load(options.weights) as weights:
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights}, strict=True)
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": problem.WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, problem.LEARNING_RATE, momentum=problem.MOMENTUM)
    images, history, began = problem.evaluation_images(options.data), [], time.process_time()
    for step, batch in enumerate(problem.training_batches(options.data, options.seed, options.steps)):
        for group in optimizer.param_groups:
            group["lr"] = problem.learning_rate(step, options.steps)
        losses = model(*make_inputs(batch))
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        optimizer.step()
        history.append({LOSSES[name]: float(value) for name, value in losses.items()})
        if (step + 1) % options.evaluate_every == 0:
            np.savez(options.out / f"detections_{step + 1}.npz", **detect(model, images))
    record = {"losses": history, "processor_seconds": time.process_time() - began}
    (options.out / "losses.json").write_text(json.dumps(record), encoding="utf-8")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="initial weights; made if they do not exist")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="0 draws the initial weights only")
    parser.add_argument("--evaluate_every", type=int, default=1)
    options = parser.parse_args()
    if not options.weights.exists():
        write_initial_weights(options.weights, options.seed)
    if options.steps:
        train(options)


if __name__ == "__main__":
    main()
