"""Prediction of millions of images by any number of processes: a plan of parts, and one file for each part."""
