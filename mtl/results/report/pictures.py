"""The section with pictures of predictions."""

import base64
import io
from pathlib import Path

from mtl.errors import UserError
from mtl.results.report.markup import joined, tag
from mtl.results.report.material import Material, Picture, Section

WIDTH = 1600
"""Most pixels of a picture: sharp on a laptop, and the page stays light."""


def pictures_section(material: Material) -> Section | None:
    """The given pictures, inside the page."""
    if not material.pictures:
        return None
    figures = []
    for picture in material.pictures:
        source = f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode('ascii')}"
        image = tag(
            "img", src=source, alt=f"Ground truth and predictions side by side: {picture.caption}", loading="lazy"
        )
        box = tag("div", image, class_="scroll", tabindex=0, role="group", aria_label=f"Picture: {picture.caption}")
        figures.append(tag("figure", box, tag("figcaption", picture.caption), class_="picture"))
    aid = (
        "A row is a sample, a column the ground truth or what a method predicts. Single samples show kinds of errors, "
        "not which method is better."
    )
    return Section("predictions", "Predictions", aid, joined(figures))


def read_picture(path: Path, caption: str | None = None) -> Picture:
    """A picture for the page: at most `WIDTH` wide, as lossless WebP.

    Args:
        path: PNG, JPEG or another format that Pillow reads.
        caption: Its file name if None.

    Raises:
        UserError: There is no such file, or it is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as stored:
            image = stored.convert("RGB")
    except (FileNotFoundError, IsADirectoryError, UnidentifiedImageError) as error:
        raise UserError(
            f"`{path}` should be a picture of predictions, as scripts/predictions.py writes (PNG). "
            f"Found {'no such file' if isinstance(error, FileNotFoundError) else 'no picture'}."
        ) from error
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", lossless=True, method=4)
    return Picture(caption or path.name, data.getvalue(), "image/webp")
