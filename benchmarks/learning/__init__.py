"""Whole trainings of this Mask R-CNN and torchvision's from the same start: do they end at the same place?"""
