"""Miniature of CelebA in the official layout: drawn faces whose attributes can be seen."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COUNTS = (48, 12, 16)
NAMES = [  # in the order of the official list
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]


def attributes(index: int) -> list[int]:
    """40 times -1 or 1: four things that can be seen, each or its contrary repeated."""
    seen = np.random.RandomState(1000 + index).randint(0, 2, 4)
    return [1 if seen[column % 4] ^ (column // 4 % 2) else -1 for column in range(40)]


def face(index: int) -> Image.Image:
    """178 wide, 218 high."""
    hair, glasses, mouth, skin = (value == 1 for value in attributes(index)[:4])
    stream = np.random.RandomState(index)
    image = Image.fromarray(stream.randint(90, 130, (218, 178, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((25, 20, 153, 200), fill=(240, 200, 170) if skin else (120, 80, 60))
    draw.rectangle((25, 20, 153, 70), fill=(230, 210, 60) if hair else (20, 20, 30))
    if glasses:
        draw.rectangle((40, 90, 138, 115), fill=(0, 0, 0))
    draw.ellipse((60, 150, 118, 180 if mouth else 155), fill=(220, 20, 40))
    return image


def names() -> list[str]:
    return [f"{index + 1:06d}.jpg" for index in range(sum(COUNTS))]


def write(root: Path, flat: bool = False, png: bool = False) -> Path:
    folder = root / ("" if flat else "Img") / ("img_align_celeba_png" if png else "img_align_celeba")
    places = [root if flat else root / name for name in ("Anno", "Eval")]
    for place in (folder, *places):
        place.mkdir(parents=True, exist_ok=True)
    for index, name in reversed(list(enumerate(names()))):
        path = folder / name
        face(index).save(path.with_suffix(".png") if png else path, **({} if png else {"quality": 95}))
    lines = [f"{name}  {' '.join(f'{value:2d}' for value in attributes(index))}" for index, name in enumerate(names())]
    (places[0] / "list_attr_celeba.txt").write_text("\n".join([str(len(lines)), " ".join(NAMES) + " ", *lines]) + "\n")
    parts = [number for number, count in enumerate(COUNTS) for _ in range(count)]
    listed = [f"{name} {part}" for name, part in zip(names(), parts, strict=True)]
    (places[1] / "list_eval_partition.txt").write_text("\n".join(listed) + "\n")
    return root
