"""TensorBoard's event files, cut where a resumed run begins to tell its steps again."""

import os
from pathlib import Path

from maskrcnn.runtime.files import replacing

EVALUATION = ("bbox_", "segm_")  # how the names of COCO's metrics begin


def cut_events(directory: Path, *, step: int, total_steps: int) -> None:
    """Removes what came after ``step`` steps, and evaluations after all steps, which the end of a run repeats."""
    paths = [path for path in sorted(directory.glob("events.out.tfevents.*")) if path.is_file()]
    if not paths:
        return
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader  # imports TensorFlow
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    def stays(event: Event) -> bool:
        names = [value.tag for value in event.summary.value]
        is_last_evaluation = event.step >= total_steps and any(name.startswith(EVALUATION) for name in names)
        return event.step <= step and not is_last_evaluation

    for path in paths:
        records = list(RawEventFileLoader(str(path)).Load())  # up to the first that a crash cut short
        kept = [record for record in records if stays(Event.FromString(record))]
        times = path.stat()
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                writer = RecordWriter(file)
                for record in kept:
                    writer.write(record)
            os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))  # TensorBoard goes by it
