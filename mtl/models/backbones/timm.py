"""Any backbone of timm, by name."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import ConfigError
from mtl.models.blocks import resize
from mtl.validation import check_bool, check_choice, check_fraction

FEATURES = ("pooled", "levels", "concat")


class TimmBackbone(nn.Module):
    """A network of the timm library (PyTorch Image Models) without its classifier.

    Args:
        input_shape: (C, H, W). Networks of a fixed input size (vision transformers) are built for this one.
        tasks: Unused; every task reads the same features.
        name: A name that timm lists, with or without the tag of its weights.
        pretrained: Load timm's weights (from the cache of the Hugging Face Hub, downloaded there if missing).
        features: `pooled`: one vector (B, D) for classification. `levels`: several maps, as a tuple, for
            heads=multilevel. `concat`: the same maps, resized to the first one's size and concatenated, for heads that
            read one map.
        out_indices: Which maps: numbers of stages, or of blocks for transformers. None: timm's choice for the network.
        final_norm: Put the last map through the network's final LayerNorm. For transformers only.
        drop_path_rate: Stochastic depth in training, in [0, 1]. 0 leaves the network's own default.

    Raises:
        ConfigError: the name is unknown (similar ones are listed), the network has no weights or they cannot be had,
            it cannot read `input_shape`, or has no such maps.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        tasks: Sequence[str] = (),  # noqa: ARG002 - part of the backbone interface
        name: str = "vit_tiny_patch16_384",
        pretrained: bool = False,
        features: str = "levels",
        out_indices: Sequence[int] | None = None,
        final_norm: bool = False,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_bool("pretrained", pretrained)
        check_choice("features", features, FEATURES)
        check_bool("final_norm", final_norm)
        check_fraction("drop_path_rate", drop_path_rate)
        if features == "pooled" and (out_indices is not None or final_norm):
            raise ConfigError("With `backbone.features=pooled`, leave `out_indices` at null and `final_norm` at false.")
        if len(input_shape) != 3:
            raise ConfigError(f"TimmBackbone reads images (C, H, W). Found `input_shape = {input_shape}`.")
        self.features = features
        self.final_norm: nn.Module = nn.Identity()
        self.network = self._build(name, pretrained, input_shape, out_indices, final_norm, drop_path_rate)
        widths = self._widths(name, input_shape)
        self.out_features: int | tuple[int, ...] = widths if features == "levels" else sum(widths)

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, C, H, W) -> (B, D); or one map (B, C_i, h_i, w_i) per level; or one map (B, sum of C_i, h, w)."""
        if self.features == "pooled":
            pooled: Tensor = self.network(inputs)
            return pooled
        levels: list[Tensor] = list(self.network(inputs))
        if getattr(self.network, "output_fmt", None) == "NHWC":
            levels = [level.permute(0, 3, 1, 2) for level in levels]
        levels[-1] = self.final_norm(levels[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.features == "levels":
            # Views: a later level is computed from an earlier one's base, so each is a feature of its own right.
            return tuple(level.view_as(level) for level in levels)
        return torch.cat([resize(level, levels[0].shape[2:]) for level in levels], dim=1)

    def _build(
        self,
        name: str,
        pretrained: bool,
        input_shape: tuple[int, ...],
        out_indices: Sequence[int] | None,
        final_norm: bool,
        drop_path_rate: float,
    ) -> nn.Module:
        import timm

        if not timm.is_model(name):
            near = get_close_matches(name.split(".")[0], timm.list_models(), n=5, cutoff=0.5)
            raise ConfigError(
                f"timm {timm.__version__} has no network `{name}`. Similar names: {', '.join(near) or 'none'}. "
                "timm.list_models() lists all."
            )
        options: dict[str, Any] = {"in_chans": input_shape[0]}
        configuration = timm.get_pretrained_cfg(name)
        if configuration is not None and configuration.fixed_input_size:
            options["img_size"] = tuple(input_shape[1:])
        if drop_path_rate:
            options["drop_path_rate"] = drop_path_rate
        if self.features != "pooled" and not final_norm:
            options["features_only"] = True
            if out_indices is not None:
                options["out_indices"] = tuple(out_indices)
        else:
            options["num_classes"] = 0
        try:
            network = timm.create_model(name, pretrained=pretrained, **options)
            assert isinstance(network, nn.Module)
            if not final_norm:
                return network
            norm = getattr(network, "norm", None)
            if not isinstance(norm, nn.LayerNorm):
                raise ConfigError(f"`{name}` has no final LayerNorm: use `backbone.final_norm=false`.")
            # The norm moves here, so that it exists once and acts on the last map only.
            self.final_norm = norm
            return _Intermediates(network, 4 if out_indices is None else list(out_indices))
        except ConfigError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError, AssertionError, IndexError, AttributeError) as error:
            hint = " Without network access, use `backbone.pretrained=false`." if pretrained else ""
            raise ConfigError(f"timm cannot build `{name}` with {options}: {error}.{hint}") from error

    def _widths(self, name: str, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Channels of what the network returns, by a pass over zeros."""
        was_training = self.training
        self.eval()
        kind, self.features = self.features, "pooled" if self.features == "pooled" else "levels"
        try:
            with torch.no_grad():
                outputs = self(torch.zeros(1, *input_shape))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ConfigError(f"`{name}` cannot read `input_shape = {input_shape}`: {error}.") from error
        finally:
            self.features = kind
            self.train(was_training)
        found = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        if any(tensor.ndim != (2 if kind == "pooled" else 4) for tensor in found):
            raise ConfigError(f"`{name}` returns {[tuple(tensor.shape) for tensor in found]}: no {kind} features.")
        return tuple(tensor.shape[1] for tensor in found)


class _Intermediates(nn.Module):
    """The maps after some blocks; what lies behind them is cut off."""

    def __init__(self, network: Any, out_indices: int | list[int]) -> None:
        super().__init__()
        self.indices = network.prune_intermediate_layers(out_indices, prune_norm=True)
        self.network = network

    def forward(self, inputs: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.network.forward_intermediates(inputs, indices=self.indices, intermediates_only=True)
        return maps
