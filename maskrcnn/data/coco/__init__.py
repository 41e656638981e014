"""COCO annotations: reading and checking them, segmentations, downloading COCO 2017."""
