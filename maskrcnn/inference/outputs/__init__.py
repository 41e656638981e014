"""Detections in the forms that other programs read, one module a form."""

FORMATS = ("coco", "masks", "polygons", "labelme", "yolo", "csv", "crops", "drawn")  # of ``infer --save``
FRAME_FORMATS = frozenset({"coco", "masks", "polygons", "labelme", "yolo"})  # labels, which need the frames as images
