"""Serves an exported file over HTTP: encoded image bytes in, COCO results with run-length masks out.

    pip install 'maskrcnn[runtime]' litserve
    python server.py runs/demo/export/model.onnx --port 8000

``POST /predict`` takes the bytes of a JPEG or PNG file and answers ``{"detections": [...]}``:

    curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://localhost:8000/predict

Requests that arrive together are predicted together; export with ``--batch dynamic``, or with the batch size given
here. An image that cannot be read gets status 400 and does not disturb the others of its batch.
"""

import argparse
import io
from typing import Annotated, Any

import litserve
from fastapi import Body, HTTPException
from PIL import Image

import maskrcnn


class MaskRCNNServer(litserve.LitAPI):
    """Decodes, predicts and encodes; LitServe gathers the batches."""

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(**options)
        self.model = model

    def setup(self, device: str) -> None:
        """Loads the file in the worker's process."""
        self.predictor = maskrcnn.load(self.model)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> Image.Image:
        """The image of a request."""
        try:
            image = Image.open(io.BytesIO(request))
            image.load()
        except (OSError, Image.DecompressionBombError) as error:
            raise HTTPException(400, f"expected the bytes of an image file ({error})") from error
        return image

    def predict(self, x: Any) -> Any:
        """Detections of an image, or of each image of a batch."""
        return self.predictor.predict(x, batch_size=len(x)) if isinstance(x, list) else self.predictor.predict(x)

    def encode_response(self, output: maskrcnn.Detections) -> dict[str, Any]:
        """A few hundred bytes for each detection: masks as COCO's compressed run-length codes."""
        height, width = output.image_size
        return {"height": height, "width": width, "detections": output.to_coco(image_id=0)}


def main() -> None:
    """Starts the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a file or folder of `maskrcnn export`")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--batch_size", type=int, default=1, help="images predicted together at most")
    parser.add_argument("--wait", type=float, default=0.01, metavar="SECONDS", help="for more images of a batch")
    options = parser.parse_args()
    api = MaskRCNNServer(options.model, max_batch_size=options.batch_size, batch_timeout=options.wait)
    litserve.LitServer(api, accelerator="cpu").run(port=options.port, generate_client_file=False)


if __name__ == "__main__":
    main()
