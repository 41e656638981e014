"""Published weights: their addresses, licenses and accuracy, and downloads on demand."""

import difflib
import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

from maskrcnn.errors import UserError
from maskrcnn.input_files import as_path
from maskrcnn.runtime.addresses import check_url, file_name, resolve_url
from maskrcnn.runtime.download import cache_dir, fetch_once
from maskrcnn.weights.formats.tensorflow import checkpoint_prefix

SUFFIXES = (".pth", ".pkl", ".safetensors", ".h5")
TORCHVISION_URL = "https://download.pytorch.org/models/"
DETECTRON2_URL = "https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/"

logger = logging.getLogger(__name__)


class Published(NamedTuple):
    """A checkpoint as its publisher describes it; the numbers are the publisher's."""

    source: str
    url: str
    accuracy: str  # box and mask AP on COCO val2017, or top-1 accuracy on ImageNet, in percent
    license: str
    size_mib: float
    md5: str | None = None  # all hexadecimal digits or the first ones
    sha256: str | None = None  # all hexadecimal digits or the first ones


def _torchvision(file: str, accuracy: str, size_mib: float) -> Published:
    """An entry of torchvision, whose file names end in the first eight digits of the SHA-256."""
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return Published("torchvision", TORCHVISION_URL + file, accuracy, "BSD-3-Clause", size_mib, sha256=digits)


def _detectron2(path: str, accuracy: str, size_mib: float, sha256: str | None = None) -> Published:
    """An entry of Detectron2, whose file names end in six digits of the MD5; the license is its model zoo's."""
    digits = path.removesuffix(".pkl").rpartition("_")[2]
    return Published("Detectron2", DETECTRON2_URL + path, accuracy, "CC-BY-SA-3.0", size_mib, digits, sha256)


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
    """Formats the table of ``weights list``."""
    lines = [f"{'name':34} {'source':12} {'license':13} {'AP box / mask':>14} {'MiB':>6}"]
    lines += [
        f"{name:34} {item.source:12} {item.license:13} {item.accuracy:>14} {item.size_mib:6.0f}"
        for name, item in PUBLISHED.items()
    ]
    lines += [
        "",
        "AP on COCO val2017 and top-1 accuracy on ImageNet in percent, as published; resnet* are backbones.",
        "Give a name to --weights or --backbone_checkpoint; it is downloaded when it is first used.",
    ]
    return "\n".join(lines)


def download(name: str, out_dir: str | Path | None = None, *, url: str | None = None) -> Path:
    """Downloads published weights unless they are there.

    Args:
        name: a key of `PUBLISHED`.
        out_dir: folder for the file; None is the user's cache, see `maskrcnn.runtime.download.cache_dir`.
        url: another address of the same file.

    Returns:
        The file.

    Raises:
        UserError: an unknown name, a server that fails, or a damaged file.
    """
    if name not in PUBLISHED:
        raise UserError(f"no published weights {name!r}; choose from {', '.join(PUBLISHED)}")
    item = PUBLISHED[name]
    path = (Path(out_dir) if out_dir is not None else cache_dir() / "weights") / file_name(item.url)
    if not path.is_file():
        url = check_url(url or item.url)
        terms = f"from {item.source}, license {item.license}, {item.size_mib:.0f} MiB"
        logger.info("downloading %s (%s): %s -> %s", name, terms, url, path)
        fetch_once(url, path, md5=item.md5, sha256=item.sha256)
    return path


def find_weights(source: str | Path) -> Path:
    """Returns the file or folder behind a path, a published name, a URL or an ``hf://`` address; downloads if needed.

    Raises:
        UserError: a string that is none of these, or a download that fails. A `Path` is returned as it is.
    """
    path = as_path(source)
    if isinstance(source, Path) or path.exists() or checkpoint_prefix(path):
        return path
    if source in PUBLISHED:
        return download(source)
    url = resolve_url(source)
    if url is not None:
        return _download_url(url)
    near = difflib.get_close_matches(source, PUBLISHED, n=2)
    hint = f"did you mean {' or '.join(near)}" if near else "`maskrcnn weights list` shows them"
    raise UserError(f"{source}: no such file or folder, and no published weights of that name ({hint})")


def _download_url(url: str) -> Path:
    """Downloads to the cache, in a folder of the URL's own: many checkpoints are called model_final.pth."""
    name = file_name(url)
    if not name.endswith(SUFFIXES):
        raise UserError(f"{url}: expected the address of a {', '.join(SUFFIXES)} file")
    path = cache_dir() / "weights" / hashlib.sha256(url.encode()).hexdigest()[:12] / name
    if not path.is_file():
        logger.info("downloading %s -> %s (its license is its publisher's; there is no checksum to verify)", url, path)
        fetch_once(url, path)
    return path
