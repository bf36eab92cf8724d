"""Every backbone with heads that fit it: shapes, partition, seeds, gradients, and counts of the full networks."""

from functools import cache, partial

import pytest
import torch

from mtl.config import compose_config
from mtl.config.build import build_spec, config_directory
from mtl.errors import ConfigError
from mtl.models import build_model
from mtl.models.backbones import CelebACNN, LeNet, ResNet18Cifar, ResNet50Dilated, SegNet, SegNetMTAN, UNet
from mtl.models.heads import ConvHead, LinearHead, MultiLevelHead
from mtl.partition import prove_partition
from mtl.tasks import TaskSpec
from tests.problems import squared

SMALL = "backbone.filters=[4,6,8]"
PSP = ("heads=psp", "heads.hidden_features=4")
ASPP = ("heads=aspp", "heads.hidden_features=4", "heads.rates=[1,2]")
MULTILEVEL = ("heads=multilevel", "heads.hidden_features=8")
TIMM = ("backbone=timm", "backbone.name=test_resnet")
VIT = ("backbone=timm", "backbone.name=test_vit")
CASES = {
    "unet": (("backbone=unet", SMALL, "heads=conv"), (3, 13, 18)),
    "unet_released": (("backbone=unet_released", SMALL, *PSP), (3, 16, 24)),
    "unet_small": (("backbone=unet_small", "heads=conv", "heads.hidden_features=4"), (3, 24, 32)),
    "segnet": (("backbone=segnet", SMALL, "heads=conv_mtan"), (3, 17, 22)),
    "segnet_small": (("backbone=segnet_small", *ASPP), (3, 16, 24)),
    "segnet_mtan": (("backbone=segnet_mtan", SMALL, "heads=conv_mtan"), (3, 17, 22)),
    "segnet_mtan_small": (("backbone=segnet_mtan_small", *PSP), (3, 16, 16)),
    "celeba_cnn": (("backbone=celeba_cnn", "backbone.width=4", "heads=linear"), (3, 16, 16)),
    "celeba_cnn_released": (("backbone=celeba_cnn_released", "backbone.width=4", "heads=mlp"), (3, 20, 16)),
    "celeba_cnn_small": (("backbone=celeba_cnn_small", "heads=linear"), (3, 16, 16)),
    "resnet18_cifar": (("backbone=resnet18_cifar", "backbone.width=4", "heads=linear"), (3, 64, 64)),
    "resnet50_dilated": (("backbone=resnet50_dilated", *PSP), (3, 32, 40)),
    "resnet50_dilated-16": (("backbone=resnet50_dilated", "backbone.output_stride=16", *ASPP), (4, 32, 40)),
    "timm": ((*TIMM, *MULTILEVEL), (3, 32, 40)),
    "timm-pooled": ((*TIMM, "backbone.features=pooled", "heads=linear"), (3, 32, 40)),
    "timm-concat": ((*TIMM, "backbone.features=concat", "backbone.out_indices=[1,3]", "heads=conv"), (1, 32, 40)),
    "timm-transformer": ((*VIT, *MULTILEVEL, "heads.merge=concat"), (3, 32, 48)),
    "timm-transformer-pooled": ((*VIT, "backbone.features=pooled", "heads=linear"), (3, 32, 48)),
    "vit_tiny": (
        ("backbone=vit_tiny", "backbone.name=vit_tiny_patch16_384", "backbone.pretrained=false", "heads=conv"),
        (3, 32, 48),
    ),
    "lenet": (("backbone=lenet", "heads=mlp"), (1, 28, 28)),
    "lenet_released": (("backbone=lenet_released", "heads=mlp_released"), (1, 28, 28)),
    "lenet_cross_stitch": (("backbone=lenet_cross_stitch", "heads=linear"), (1, 28, 28)),
}
PER_TASK = ("segnet_mtan", "segnet_mtan_small", "lenet_cross_stitch")


@cache
def composed(*overrides):
    cfg, names = compose_config(list(overrides))
    spec = build_spec(cfg, names)
    return spec.backbone, spec.head, names["heads"] not in ("linear", "mlp", "mlp_released")


def build(case, tasks=("depth", "normal"), seed=0):
    overrides, shape = CASES[case]
    backbone, head, dense = composed(*overrides)
    specs = [
        TaskSpec(task, outputs, "regression", squared, {}, dense)
        for task, outputs in (("depth", 1), ("normal", 3))
        if task in tasks
    ]
    return build_model(backbone, head, specs, shape, seed), shape, dense


def test_no_backbone_and_no_heads_are_left_out():
    tried = {override.removeprefix("backbone=") for overrides, _ in CASES.values() for override in overrides}
    assert {path.stem for path in (config_directory() / "backbone").glob("*.yaml")} <= tried
    tried = {override.removeprefix("heads=") for overrides, _ in CASES.values() for override in overrides}
    assert {path.stem for path in (config_directory() / "heads").glob("*.yaml")} <= tried


@pytest.mark.parametrize("case", CASES)
def test_shapes_partition_and_gradients(case):
    model, shape, dense = build(case)
    partition = prove_partition(model, shape)
    assert partition.exposes_features == (case not in PER_TASK), partition.reason
    backbone = {id(p) for p in model.backbone.parameters()}
    own = {task: {id(p) for p in partition.task_specific[task]} for task in model.tasks}
    shared = {id(p) for p in partition.shared}
    assert shared | own["depth"] | own["normal"] == {id(p) for p in model.parameters()}
    assert partition.last_shared
    if case not in PER_TASK:
        assert shared == backbone
    for task in model.tasks:
        assert {id(p) for p in model.heads[task].parameters()} <= own[task]

    for parameter in model.parameters():
        if not parameter.any():  # timm begins residual branches at zero, which stops the gradient at first
            torch.nn.init.normal_(parameter)
    predictions = model(torch.randn(3, *shape))
    for task, channels in (("depth", 1), ("normal", 3)):
        assert predictions[task].shape == (3, channels, *(shape[1:] if dense else ()))
        assert predictions[task].isfinite().all()
    sum(prediction.square().sum() for prediction in predictions.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("case", CASES)
def test_initial_weights_depend_on_the_seed_alone(case):
    first = build(case)[0].state_dict()
    torch.rand(5)
    again = build(case)[0].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    other = build(case, seed=1)[0].state_dict()
    differing = {name.split(".")[0] for name, value in first.items() if not torch.equal(value, other[name])}
    assert differing == {"backbone", "heads"}
    alone = build(case, tasks=("normal",))[0].state_dict()
    for name, value in alone.items():
        if name.startswith("heads.") or case not in PER_TASK:
            assert torch.equal(value, first[name]), name


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (partial(UNet, (3, 288, 384)), 17_267_328),  # the released class, counted
        (partial(SegNet, (3, 288, 384)), 24_943_296),
        (partial(CelebACNN, (3, 64, 64)), 5_177_664),
        (partial(ResNet18Cifar, (3, 64, 64)), 11_168_832),
        (
            partial(ResNet50Dilated, (3, 256, 512)),
            25_557_032 - 1000 * 2049,
        ),  # torchvision's figure, less 1000 classes
        (partial(LeNet, (1, 28, 28)), 21_330),
        (partial(UNet, (3, 96, 128), filters=(16, 32, 64, 64)), 269_280),
        (partial(SegNet, (3, 96, 128), filters=(16, 32, 64, 64)), 380_784),
        (partial(CelebACNN, (3, 64, 64), width=16), 325_200),
    ],
)
def test_parameters_of_the_published_networks(make, expected):
    with torch.device("meta"):
        assert count(make()) == expected


def test_one_task_on_segnet_has_the_parameters_that_mtan_prints():
    """lorenmt/mtan gives sizes relative to 24,981,069: SegNet with the 13-class prediction layers."""
    with torch.device("meta"):
        head = ConvHead(64, 13, (288, 384), hidden_features=64, relu=False)
        assert count(SegNet((3, 288, 384))) + count(head) == 24_981_069


def test_attention_modules_of_mtan_belong_to_one_task_each():
    """Of 44.12 million parameters outside the prediction layers, 8.95 million are attention modules (NYUv2, 3 tasks).

    Codes that call everything but the prediction layers shared count them as shared.
    """
    outputs = {"segmentation": 13, "depth": 1, "normal": 3}
    specs = [TaskSpec(task, width, "regression", squared, {}, True) for task, width in outputs.items()]
    head = partial(ConvHead, hidden_features=64, relu=False)
    model = build_model(SegNetMTAN, head, specs, (3, 32, 32), seed=0)
    partition = prove_partition(model, (3, 32, 32))
    assert count(model.backbone) == 44_117_184
    assert sum(p.numel() for p in partition.shared) == 44_117_184 - 8_953_728
    assert not any("attention" in partition.names[id(p)] for p in partition.shared)
    for number, (task, width) in enumerate(outputs.items()):
        own = partition.task_specific[task]
        assert sum(p.numel() for p in own) == 8_953_728 // 3 + 64 * 64 * 9 + 64 + 65 * width
        attention = {partition.names[id(p)] for p in own if "attention" in partition.names[id(p)]}
        assert {name.split(".")[2] for name in attention} == {str(number)}
    assert not partition.exposes_features


@pytest.mark.parametrize("case", ["unet", "segnet", "segnet_mtan", "resnet50_dilated", "timm", "timm-concat"])
def test_dense_features_are_refused_by_vector_heads(case):
    overrides, shape = CASES[case]
    backbone, head, _ = composed(*(o for o in overrides if not o.startswith("heads")), "heads=linear")
    with pytest.raises(ConfigError, match="feature vector"):
        prove_partition(build_model(backbone, head, [TaskSpec("a", 2, "regression", squared, {})], shape, 0), shape)


def test_what_does_not_fit_is_refused():
    dense, plain = TaskSpec("a", 2, "regression", squared, {}, True), TaskSpec("a", 2, "regression", squared, {})
    with pytest.raises(ConfigError, match=r"heads=linear predicts one vector .* Use heads=conv"):
        build_model(LeNet, LinearHead, [dense], (1, 28, 28), 0)
    with pytest.raises(ConfigError, match=r"heads=conv predicts a value per pixel; .* Use heads=linear"):
        build_model(UNet, ConvHead, [plain], (3, 28, 28), 0)
    with pytest.raises(ConfigError, match=r"heads=conv reads feature maps .* returned \(2, 50\)"):
        prove_partition(build_model(LeNet, ConvHead, [dense], (1, 28, 28), 0), (1, 28, 28))
    with pytest.raises(ConfigError, match="heads=multilevel reads several feature maps"):
        build_model(UNet, MultiLevelHead, [dense], (3, 28, 28), 0)
    with pytest.raises(ConfigError, match=r"Dense tasks need images"):
        build_model(UNet, ConvHead, [dense], (28, 28), 0)
    with pytest.raises(ConfigError, match="`out_features`"):
        build_model(lambda **_: torch.nn.Identity(), LinearHead, [plain], (2,), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(UNet, (3, 15, 64)), "at least 16x16"),
        (partial(UNet, (3, 64, 64), norm_eval="never"), "running, batch"),
        (partial(UNet, (3, 64, 64), filters=(3,)), "at least 2 integers"),
        (partial(UNet, (3, 64, 64), filters=(3, 0)), "`filters` should be an integer >= 1"),
        (partial(SegNet, (3, 31, 64)), "at least 32x32"),
        (partial(CelebACNN, (3, 64, 64), width=0), "`width` should be an integer >= 1"),
        (partial(CelebACNN, (64, 64)), "reads images"),
        (partial(ResNet18Cifar, (3, 16, 64)), "pool_size = 4` is larger"),
        (partial(ResNet50Dilated, (3, 64, 64), output_stride=32), "8 or 16"),
        (partial(ResNet50Dilated, (4, 64, 64), pretrained="imagenet"), "read 3 channels"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
