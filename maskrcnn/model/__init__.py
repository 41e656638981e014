"""Mask R-CNN, stage by stage."""

from maskrcnn.model.mask_rcnn import MaskRCNN

__all__ = ["MaskRCNN"]
