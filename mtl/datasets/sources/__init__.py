"""Raw data sets on disk: which layouts are known, and which one a directory has."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtl.datasets.sources.base import Source, parse_size
from mtl.datasets.sources.celeba import OfficialCelebA
from mtl.datasets.sources.cityscapes_mtan import MtanCityscapes
from mtl.datasets.sources.cityscapes_official import OfficialCityscapes
from mtl.datasets.sources.nyuv2_folder import FolderNYUv2
from mtl.datasets.sources.nyuv2_mat import OfficialNYUv2
from mtl.datasets.sources.nyuv2_mtan import MtanNYUv2
from mtl.errors import ConfigError, DataError

LAYOUTS: Mapping[str, Sequence[type[Source]]] = {
    "nyuv2": (OfficialNYUv2, MtanNYUv2, FolderNYUv2),
    "cityscapes": (OfficialCityscapes, MtanCityscapes),
    "celeba": (OfficialCelebA,),
}
"""Data set -> its layouts, the most specific first."""
DEFAULT_SIZES = {"nyuv2": (288, 384), "cityscapes": (128, 256), "celeba": (64, 64)}
"""Data set -> (H, W) of the published protocols."""

__all__ = ["DEFAULT_SIZES", "LAYOUTS", "Source", "find_source", "parse_size"]


def find_source(
    dataset: str, root: Path, size: tuple[int, int], layout: str | None = None, options: Mapping[str, str] | None = None
) -> Source:
    """The source in `root`, or in a directory directly below it (archives often hold one).

    Args:
        dataset: A key of `LAYOUTS`.
        root: Directory of the raw data.
        size: (H, W) to prepare.
        layout: Name of the layout; None to recognise it.
        options: Further arguments of the layout's constructor, `resize` for `celeba`.

    Raises:
        DataError: nothing known is there, or more than one layout.
        ConfigError: `layout` is unknown, or the layout has no such option.
    """
    kinds = [kind for kind in LAYOUTS[dataset] if layout in (None, kind.layout)]
    if not kinds:
        names = ", ".join(kind.layout for kind in LAYOUTS[dataset])
        raise ConfigError(f"`layout` should be one of {names}. Found `layout={layout}`.")
    if not root.is_dir():
        raise DataError(f"`source={root}` is no directory and no archive. Give the one that holds the raw data.")
    for place in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        found = [kind for kind in kinds if kind.matches(place)]
        if len(found) > 1:
            names = ", ".join(kind.layout for kind in found)
            raise DataError(f"`{place}` has more than one layout: {names}. Choose one with `layout=`.")
        if found:
            for key in options or {}:
                if key not in inspect.signature(found[0]).parameters:
                    raise ConfigError(f"`{key}` is no option of {dataset}, layout {found[0].layout}. Leave it out.")
            return found[0](place, size, **(options or {}))  # type: ignore[call-arg]
    names = "\n".join(f"  {kind.layout}: {_summary(kind)}" for kind in kinds)
    raise DataError(f"`{root}` holds none of the known layouts of {dataset}:\n{names}\nSee docs/data.md.")


def _summary(kind: type[Source]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
