"""From images to detections, and from detections to files."""
