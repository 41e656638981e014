"""Which published architecture a file holds, read off its tensors, as a config."""

from typing import Any

from maskrcnn.config import BoxHeadConfig, FPNConfig, MaskHeadConfig, RPNConfig

# "Benchmarking Detection Transfer Learning with Vision Transformers", arXiv:2111.11429, as torchvision built it.
TORCHVISION_V2: dict[str, Any] = {
    "fpn": FPNConfig(norm=True),
    "rpn": RPNConfig(convolutions=2),
    "box_head": BoxHeadConfig(convolutions=4, norm=True, dense_layers=1),
    "mask_head": MaskHeadConfig(norm=True),
}
