"""What a head may be built for, and what it may read."""

from torch import Tensor

from mtl.errors import ConfigError

DENSE = "heads=conv, psp or aspp (one feature map), or heads=multilevel (several)"
MANY = "Use heads=multilevel, or a backbone with one feature map (with backbone=timm: `backbone.features=concat`)."


def vector_width(head: str, in_features: int | tuple[int, ...], output_size: tuple[int, int] | None) -> int:
    """`in_features` of a head that predicts one vector a sample.

    Raises:
        ConfigError: the task is dense, or there are several feature maps.
    """
    if output_size is not None:
        raise ConfigError(f"heads={head} predicts one vector a sample; the task wants a value per pixel. Use {DENSE}.")
    if not isinstance(in_features, int):
        raise ConfigError(f"heads={head} reads one feature vector; this backbone returns {len(in_features)} tensors.")
    return in_features


def map_size(head: str, output_size: tuple[int, int] | None) -> tuple[int, int]:
    """`output_size` of a dense head. Raises ConfigError if the task is not dense."""
    if output_size is None:
        raise ConfigError(
            f"heads={head} predicts a value per pixel; the task wants one vector a sample. Use heads=linear or mlp."
        )
    return output_size


def map_width(head: str, in_features: int | tuple[int, ...]) -> int:
    """`in_features` of a head that reads one feature map. Raises ConfigError if there are several."""
    if not isinstance(in_features, int):
        raise ConfigError(f"heads={head} reads one feature map; this backbone returns {len(in_features)}. {MANY}")
    return in_features


def check_vectors(head: str, features: Tensor) -> None:
    """Raise ConfigError unless `features` is (B, D)."""
    if features.ndim != 2:
        raise ConfigError(
            f"heads={head} reads feature vectors (B, D), but the backbone returned {tuple(features.shape)}. Use a "
            "backbone with pooled features (with backbone=timm: `backbone.features=pooled`)."
        )


def check_maps(head: str, features: Tensor) -> None:
    """Raise ConfigError unless `features` is (B, C, h, w)."""
    if features.ndim != 4:
        raise ConfigError(
            f"heads={head} reads feature maps (B, C, h, w), but the backbone returned {tuple(features.shape)}. Use a "
            "dense backbone (segnet, unet, resnet50_dilated; with backbone=timm: `backbone.features=concat`)."
        )
