"""CelebA: aligned faces with 40 attributes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mtl.datasets.images import RGB, check_same_size, read_image, resize_image, resize_nearest
from mtl.datasets.packed import Field
from mtl.datasets.sources.base import Sample, Source
from mtl.errors import DataError
from mtl.validation import check_choice

OFFICIAL_COUNTS = {"train": 162770, "val": 19867, "test": 19962}
SPLITS = {"0": "train", "1": "val", "2": "test"}
"""Number in the partition file -> split."""
ATTRIBUTES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)
"""In the order of the official file."""
FOLDERS = ("Img/img_align_celeba", "Img/img_align_celeba_png", "img_align_celeba", "img_align_celeba_png")
RESIZES = ("bilinear", "nearest")
ATTRIBUTE_LIST, PARTITION_LIST = "list_attr_celeba.txt", "list_eval_partition.txt"


class OfficialCelebA(Source):
    """The official aligned images and lists, in the official folders or flat as torchvision downloads them.

        <root>/Anno/list_attr_celeba.txt           number of images; 40 names; "<file> -1 1 ..." a line
        <root>/Eval/list_eval_partition.txt        "<file> 0|1|2" a line: train, validation, test
        <root>/Img/img_align_celeba/<file>         178 wide, 218 high; or img_align_celeba_png with .png for .jpg

    Flat: both lists and `img_align_celeba` directly in <root>. Samples are in the order of the partition list.

    Args:
        root: Directory of the layout.
        size: (H, W) of the prepared set.
        resize: `bilinear`, with anti-aliasing (FAMO, Pascal et al.); `nearest` (unitary-scalarization-dmtl).

    **Deviations.** The code of Sener and Koltun resizes with a function that also stretches every image to its own
    0..255 range; ours leaves the values.
    """

    layout = "official"
    official_counts = OFFICIAL_COUNTS

    def __init__(self, root: Path, size: tuple[int, int], resize: str = "bilinear") -> None:
        check_choice("resize", resize, RESIZES)
        self.root = root
        self.size = size
        self.resize = resize
        self.lists = (_either(root, "Anno", ATTRIBUTE_LIST), _either(root, "Eval", PARTITION_LIST))
        self.attributes = read_attributes(self.lists[0])
        self.names = read_partition(self.lists[1])
        both = set(self.attributes) ^ {name for names in self.names.values() for name in names}
        if both:
            raise DataError(
                f"`{self.lists[0]}` and `{self.lists[1]}` should list the same images. Only one of them has "
                f"{len(both)} images, the first is {min(both)}. {self.remedy}"
            )
        self.folder = next((root / folder for folder in FOLDERS if (root / folder).is_dir()), root / FOLDERS[0])
        self.suffix = ".png" if self.folder.name.endswith("_png") else None
        self.counts = {split: len(names) for split, names in self.names.items()}
        self.options = {"size": list(size), "resize": resize}
        self.fields = (
            Field("image", "image", (3, *size), 0, 255, "RGB"),
            Field("attributes", "attributes", (len(ATTRIBUTES),), 0, 1, "in the order of the official list"),
        )
        parts = [] if resize == "bilinear" else ["images resized to the nearest pixel"]
        if self.counts != OFFICIAL_COUNTS:
            parts.append("{train} training, {val} validation and {test} test images".format(**self.counts))
        self.note = f"CelebA ({', '.join(parts)})" if parts else ""
        first = self.path("train", 0)
        height, width = read_image(first, RGB, self.remedy).shape[:2]
        self.frame = (height, width)

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether the list of attributes is there."""
        return _either(root, "Anno", ATTRIBUTE_LIST).is_file()

    def files(self) -> Sequence[Path]:
        """The lists, then the images."""
        return [*self.lists, *(self.path(split, index) for split in self.names for index in range(self.counts[split]))]

    def fingerprint(self) -> str:
        """Names and sizes of all files, and the content of the lists: a changed label has the same size."""
        digest = hashlib.sha256(super().fingerprint().encode())
        for path in self.lists:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def read(self, split: str, index: int) -> Sample:
        """One image file."""
        path = self.path(split, index)
        image = read_image(path, RGB, self.remedy)
        check_same_size(path, image, self.frame, self.remedy)
        small = resize_image(image, self.size) if self.resize == "bilinear" else resize_nearest(image, self.size)
        return {"image": small.transpose(2, 0, 1), "attributes": self.attributes[self.names[split][index]]}

    @property
    def remedy(self) -> str:
        """What a user does about a bad file."""
        return (
            f"Get the file again; or take its lines out of both lists of `{self.root}`, correct the number in the "
            f"first line of {ATTRIBUTE_LIST} and say `allow_partial=true`. Then run the same command."
        )

    def path(self, split: str, index: int) -> Path:
        """The image of a sample."""
        path = self.folder / self.names[split][index]
        return path if self.suffix is None else path.with_suffix(self.suffix)


def read_attributes(path: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Image -> its 40 attributes in {0, 1}, in the order of `ATTRIBUTES` whatever the order in the file.

    Raises:
        DataError: the file is missing, or a line of it is not as it should be; names the line.
    """
    lines = _lines(path)
    header = lines[1].split() if len(lines) > 1 else []
    if sorted(header) != sorted(ATTRIBUTES):
        strange = sorted(set(header) ^ set(ATTRIBUTES))
        raise DataError(
            f"`{path}`, line 2, should name the {len(ATTRIBUTES)} attributes, each once. Found {len(header)} names; "
            f"missing or unknown: {', '.join(strange[:3]) or 'none, but some twice'}. Get the file again."
        )
    columns = [header.index(name) for name in ATTRIBUTES]
    found: dict[str, npt.NDArray[np.uint8]] = {}
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split()
        if len(values) != len(ATTRIBUTES) or not {"-1", "1"}.issuperset(values) or name in found or "/" in name:
            raise DataError(
                f"`{path}`, line {number}, should be a file name and {len(ATTRIBUTES)} times -1 or 1, each file once. "
                f"Found `{line[:60]}`, {len(values)} values. Get the file again."
            )
        positive = np.array([value == "1" for value in values], np.uint8)
        found[name] = positive[columns]
    if lines[0].strip() != str(len(found)):
        raise DataError(
            f"`{path}` says in its first line that it lists `{lines[0].strip()}` images and lists {len(found)}. Is it "
            "cut off? Get the file again, or correct the number."
        )
    return found


def read_partition(path: Path) -> dict[str, list[str]]:
    """Split -> its images, in the order of the file.

    Raises:
        DataError: the file is missing, a line is not as it should be, or a split is empty.
    """
    names: dict[str, list[str]] = {split: [] for split in SPLITS.values()}
    seen = set()
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split()
        if len(parts) != 2 or parts[1] not in SPLITS or parts[0] in seen:
            raise DataError(
                f"`{path}`, line {number}, should be a file name and 0 (train), 1 (validation) or 2 (test), each file "
                f"once. Found `{line[:60]}`. Get the file again."
            )
        seen.add(parts[0])
        names[SPLITS[parts[1]]].append(parts[0])
    empty = [split for split, listed in names.items() if not listed]
    if empty:
        raise DataError(f"`{path}` has no image of the split `{empty[0]}`. Get the file again.")
    return names


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"`{path}` should be an official list of CelebA. Found: {error}. Get the file again."
        ) from error


def _either(root: Path, folder: str, name: str) -> Path:
    """The file in its official folder, or flat."""
    return root / folder / name if (root / folder / name).is_file() or not (root / name).is_file() else root / name
