"""This Mask R-CNN and torchvision's, measured in turns on the same problem."""
