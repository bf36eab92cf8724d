"""ResNet-50 whose last stages are dilated instead of strided."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mtl.errors import ConfigError
from mtl.models.blocks import check_images
from mtl.validation import check_choice

STRIDES = (8, 16)
PRETRAINED = ("none", "imagenet")


class ResNet50Dilated(nn.Module):
    """The Cityscapes encoder of Sener and Koltun 2018 (released `models/pspnet.py`): torchvision's ResNet-50, dilated.

    The stride of stage 4 (output stride 16), or of stages 3 and 4 (8), is 1, and their 3x3 convolutions are dilated by
    2, or 2 and 4 (Yu and Koltun 2016, arXiv:1511.07122). Features (B, 2048, ceil(H / stride), ceil(W / stride)).
    23,508,032 parameters with 3 channels. Goes with heads=psp and heads=aspp.

    Args:
        input_shape: (C, H, W) with H, W >= 32; 3 channels with `pretrained: imagenet`.
        tasks: Unused; every task reads the same features.
        output_stride: 8 or 16. 8 in the released code.
        pretrained: `none` (initial weights from the seed) or `imagenet` (torchvision's IMAGENET1K_V1, taken from
            torch.hub's directory, downloaded there if missing).

    Raises:
        ConfigError: the weights are not there and cannot be downloaded.

    **Deviations.** Released code: ImageNet weights `resnet50-19c8e357.pth`, stride 8, dilations as above. Ours: the
    same layers; torchvision's file of today is `resnet50-0676ba61.pth`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        tasks: Sequence[str] = (),  # noqa: ARG002 - part of the backbone interface
        output_stride: int = 8,
        pretrained: str = "none",
    ) -> None:
        super().__init__()
        from torchvision.models import resnet50

        if output_stride not in STRIDES:
            raise ConfigError(f"Parameter `output_stride` should be 8 or 16. Found `{output_stride!r}`.")
        check_choice("pretrained", pretrained, PRETRAINED)
        check_images("ResNet50Dilated", input_shape, 32)
        self.out_features = 2048
        network = resnet50(replace_stride_with_dilation=[False, output_stride == 8, True])
        if pretrained == "imagenet":
            if input_shape[0] != 3:
                raise ConfigError(f"ImageNet weights read 3 channels. Found `input_shape = {input_shape}`.")
            network.load_state_dict(_imagenet_weights())
        if input_shape[0] != 3:
            network.conv1 = nn.Conv2d(input_shape[0], 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        self.stages = nn.Sequential(network.layer1, network.layer2, network.layer3, network.layer4)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2048, h, w)."""
        maps: Tensor = self.stages(self.stem(inputs))
        return maps


def _imagenet_weights() -> dict[str, Tensor]:
    from torchvision.models import ResNet50_Weights

    url = ResNet50_Weights.IMAGENET1K_V1.url
    directory = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(url, progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"ImageNet weights of ResNet-50 are not in {directory} and could not be downloaded from {url}: {error}. "
            f"Put {Path(url).name} there, point TORCH_HOME to a directory that has it in hub/checkpoints, or use "
            "`backbone.pretrained=none`."
        ) from error
    return state
