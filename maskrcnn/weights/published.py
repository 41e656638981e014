"""Published checkpoints: where they are, what they reach, and downloading them."""

from pathlib import Path
from typing import NamedTuple

from maskrcnn.data.coco.download import fetch
from maskrcnn.errors import UserError

DOWNLOADS = Path("weights")  # where downloads go unless told
TORCHVISION_URL = "https://download.pytorch.org/models/"
DETECTRON2_URL = "https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/"


class Published(NamedTuple):
    """A checkpoint as its publisher describes it; nothing here was measured by us."""

    url: str
    accuracy: str  # box and mask AP on COCO's val2017, or ImageNet's top-1 accuracy, in percent
    license: str
    size_mib: float
    md5: str | None = None  # first digits or all
    sha256: str | None = None  # first digits or all

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


def _torchvision(file: str, accuracy: str, size_mib: float) -> Published:
    """torchvision's file names end in the first eight digits of the SHA-256."""
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return Published(TORCHVISION_URL + file, accuracy, "BSD-3-Clause", size_mib, sha256=digits)


def _detectron2(path: str, accuracy: str, size_mib: float, sha256: str | None = None) -> Published:
    """Detectron2's file names end in the first six digits of the MD5; its weights' license is its model zoo's."""
    digits = path.removesuffix(".pkl").rpartition("_")[2]
    return Published(DETECTRON2_URL + path, accuracy, "CC-BY-SA-3.0", size_mib, md5=digits, sha256=sha256)


PUBLISHED = {
    "maskrcnn_resnet50_fpn": _torchvision("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "37.9 / 34.6", 169.8),
    "maskrcnn_resnet50_fpn_v2": _torchvision("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "47.4 / 41.8", 177.2),
    "detectron2_mask_rcnn_R_50_FPN_1x": _detectron2(
        "mask_rcnn_R_50_FPN_1x/137260431/model_final_a54504.pkl", "38.6 / 35.2", 170
    ),
    "detectron2_mask_rcnn_R_50_FPN_3x": _detectron2(
        "mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
        "41.0 / 37.2",
        170,
        "9a737e290372f1f70994ebcbd89d8004dbb3ae30a605fd915a190fa4a782dd66",
    ),
    "detectron2_mask_rcnn_R_101_FPN_3x": _detectron2(
        "mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl", "42.9 / 38.6", 242
    ),
    "resnet18": _torchvision("resnet18-f37072fd.pth", "top-1 69.8", 44.7),
    "resnet34": _torchvision("resnet34-b627a593.pth", "top-1 73.3", 83.3),
    "resnet50": _torchvision("resnet50-0676ba61.pth", "top-1 76.1", 97.8),
    "resnet50_v2": _torchvision("resnet50-11ad3fa6.pth", "top-1 80.9", 97.8),
    "resnet101": _torchvision("resnet101-63fe2227.pth", "top-1 77.4", 170.5),
    "resnet101_v2": _torchvision("resnet101-cd907fc2.pth", "top-1 81.9", 170.5),
}


def format_published() -> str:
    """The table of ``weights list``."""
    lines = [f"{'name':34} {'AP box / mask':>14} {'MiB':>6}  {'license':13} file"]
    lines += [
        f"{name:34} {item.accuracy:>14} {item.size_mib:6.0f}  {item.license:13} {item.file}"
        for name, item in PUBLISHED.items()
    ]
    lines.append("AP on COCO val2017, top-1 accuracy on ImageNet, in percent, as published; resnet*: backbones")
    return "\n".join(lines)


def download(name: str, out_dir: str | Path = DOWNLOADS, *, url: str | None = None, progress: bool = True) -> Path:
    """Fetches a published checkpoint, resuming and checking it; what is there already is left alone.

    Args:
        name: of `PUBLISHED`.
        out_dir: gets the file.
        url: of the same file elsewhere.
        progress: whether to show a bar.

    Returns:
        The file.

    Raises:
        UserError: an unknown name, or the server failed, or the file is damaged.
    """
    if name not in PUBLISHED:
        raise UserError(f"no published checkpoint {name!r}; choose from {', '.join(PUBLISHED)}")
    item = PUBLISHED[name]
    path = Path(out_dir) / item.file
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(url or item.url, path, md5=item.md5, sha256=item.sha256, progress=progress)
    return path


def find_downloaded(path: str | Path) -> Path:
    """The file behind a published name; any other path as it is.

    Raises:
        UserError: a published name whose file has not been downloaded.
    """
    name, path = str(path), Path(path)
    if path.exists() or name not in PUBLISHED:
        return path
    file = DOWNLOADS / PUBLISHED[name].file
    if not file.is_file():
        raise UserError(f"{name}: not downloaded yet; run `maskrcnn weights download {name}`")
    return file
