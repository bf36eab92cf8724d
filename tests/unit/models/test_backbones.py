"""What is particular to one backbone."""

from urllib.error import URLError

import pytest
import timm
import torch
from torchvision.models import resnet50

from mtl.errors import ConfigError
from mtl.models.backbones import CelebACNN, ResNet18Cifar, ResNet50Dilated, SegNet, SegNetMTAN, TimmBackbone, UNet


@pytest.mark.parametrize(
    "make",
    [
        lambda norm_eval: UNet((3, 16, 16), filters=(4, 6), norm_eval=norm_eval),
        lambda norm_eval: CelebACNN((3, 16, 16), width=4, norm_eval=norm_eval),
    ],
)
def test_what_batch_norm_uses_at_evaluation(make):
    inputs = torch.randn(5, 3, 16, 16)
    running, batch = make("running").eval(), make("batch")
    torch.testing.assert_close(running(inputs)[:2], running(inputs[:2]))
    assert not list(batch.buffers())
    trained = batch.train()(inputs)
    assert torch.equal(batch.eval()(inputs), trained)
    assert not torch.allclose(batch(inputs)[:2], batch(inputs[:2]), atol=1e-2)


@pytest.mark.parametrize("size", [(16, 24), (17, 22), (19, 31)])
def test_maps_have_the_size_of_the_input(size):
    inputs = torch.randn(2, 3, *size)
    assert UNet((3, *size), filters=(4, 6, 8)).eval()(inputs).shape == (2, 4, *size)
    assert SegNet((3, *size), filters=(4, 6, 8)).eval()(inputs).shape == (2, 4, *size)
    features = SegNetMTAN((3, *size), ("a", "b"), filters=(4, 6, 8)).eval()(inputs)
    assert {task: tuple(own.shape) for task, own in features.items()} == {"a": (2, 4, *size), "b": (2, 4, *size)}


def test_segnet_unpools_to_where_it_pooled():
    """What enters a decoder level is zero but at the maxima of the encoder's level."""
    net = SegNet((3, 16, 16), filters=(4, 6)).eval()
    maps = net.maps(torch.randn(1, 3, 16, 16))
    encoded, entering = maps.encoder[1][1], maps.unpooled[1]
    pooled = torch.nn.functional.max_pool2d(encoded, 2)
    largest = encoded == pooled.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert entering[~largest].eq(0).all()
    assert torch.equal(torch.nn.functional.max_pool2d(entering, 2), pooled)


def test_mtan_masks_the_shared_maps():
    """Attention of 1 everywhere leaves the shared decoder map; attention of 0 leaves nothing."""
    net = SegNetMTAN((3, 16, 16), ("a", "b"), filters=(4, 6)).eval()
    inputs = torch.randn(2, 3, 16, 16)
    for number, bias in ((0, 50.0), (1, -50.0)):
        last = net.decoder_attention[number][0][4]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, bias)
    features = net(inputs)
    torch.testing.assert_close(features["a"], net.segnet(inputs))
    assert features["b"].abs().max() < 1e-12


def test_resnet18_averages_windows_and_keeps_their_place():
    net = ResNet18Cifar((3, 64, 64), width=4).eval()
    assert net.out_features == 32 * 2 * 2
    inputs = torch.randn(2, 3, 64, 64)
    maps = net.blocks(net.stem(inputs))
    assert maps.shape == (2, 32, 8, 8)
    windows = net(inputs).reshape(2, 32, 2, 2)
    torch.testing.assert_close(windows[:, :, 0, 1], maps[:, :, :4, 4:].mean(dim=(2, 3)))
    assert ResNet18Cifar((3, 64, 64)).out_features == 2048


@pytest.mark.parametrize(("stride", "step"), [(8, 4), (16, 2)])
def test_dilation_computes_the_strided_network_at_more_places(stride, step):
    """At every `step`-th place a dilated ResNet-50 equals the ordinary one of output stride 32, with equal weights."""
    net = ResNet50Dilated((3, 64, 96), output_stride=stride).eval()
    plain = resnet50().eval()
    for own, other in zip(net.parameters(), plain.parameters(), strict=False):
        other.data.copy_(own.data)
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = net(inputs)
        expected = plain.layer4(plain.layer3(plain.layer2(plain.layer1(net.stem(inputs)))))
    assert maps.shape == (1, 2048, 64 // stride, 96 // stride)
    torch.testing.assert_close(maps[:, :, ::step, ::step], expected, atol=1e-4, rtol=1e-3)


def test_imagenet_weights_are_loaded_or_missed_with_directions(monkeypatch):
    torch.manual_seed(5)
    weights = resnet50().state_dict()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: dict(weights))
    net = ResNet50Dilated((3, 64, 64), pretrained="imagenet")
    assert torch.equal(net.stem[0].weight, weights["conv1.weight"])
    assert torch.equal(net.stages[3][2].conv3.weight, weights["layer4.2.conv3.weight"])

    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(ConfigError, match=r"checkpoints .*no network.* Put resnet50-0676ba61.pth .*pretrained=none"):
        ResNet50Dilated((3, 64, 64), pretrained="imagenet")


def test_timm_pooled_features_are_those_of_timm():
    net = TimmBackbone((3, 32, 48), name="test_vit", features="pooled").eval()
    plain = timm.create_model("test_vit", num_classes=0, img_size=(32, 48)).eval()
    plain.load_state_dict(net.network.state_dict())
    inputs = torch.randn(2, 3, 32, 48)
    assert torch.equal(net(inputs), plain(inputs))
    assert net.out_features == plain.num_features


def test_timm_final_norm_acts_on_the_last_map_alone():
    net = TimmBackbone((3, 32, 48), name="test_vit", features="concat", out_indices=[0, 1], final_norm=True).eval()
    torch.nn.init.normal_(net.final_norm.weight)
    plain = timm.create_model("test_vit", num_classes=0, img_size=(32, 48)).eval()
    state = {**plain.state_dict(), **net.network.network.state_dict()}
    depth = len(plain.blocks)
    net = TimmBackbone(
        (3, 32, 48), name="test_vit", features="concat", out_indices=[0, depth - 1], final_norm=True
    ).eval()
    torch.nn.init.normal_(net.final_norm.weight)
    state = {**net.network.network.state_dict(), "norm.weight": net.final_norm.weight, "norm.bias": net.final_norm.bias}
    plain.load_state_dict(state, strict=False)
    inputs = torch.randn(2, 3, 32, 48)
    width = plain.num_features
    with torch.no_grad():
        maps = net(inputs)
        last = plain.forward_features(inputs)[:, plain.num_prefix_tokens :].mT.reshape(maps[:, width:].shape)
        first = plain.forward_intermediates(inputs, indices=[0], intermediates_only=True)[0]
    torch.testing.assert_close(maps[:, width:], last)
    torch.testing.assert_close(maps[:, :width], first)


def test_timm_maps_have_their_channels_first():
    """Swin computes with channels last; timm says so, and maps are turned."""
    net = TimmBackbone((3, 64, 64), name="swin_tiny_patch4_window7_224").eval()
    assert net.out_features == (96, 192, 384, 768)
    assert [tuple(level.shape) for level in net(torch.zeros(1, 3, 64, 64))] == [
        (1, 96, 16, 16),
        (1, 192, 8, 8),
        (1, 384, 4, 4),
        (1, 768, 2, 2),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "vit_tiny_patch16_834"}, "no network `vit_tiny_patch16_834`. Similar names: .*vit_tiny_patch16_384"),
        ({"name": "test_resnet", "final_norm": True}, "no final LayerNorm"),
        ({"name": "test_resnet", "out_indices": [9]}, "timm cannot build `test_resnet`"),
        ({"name": "test_resnet", "features": "maps"}, "pooled, levels, concat"),
        ({"name": "test_resnet", "features": "pooled", "out_indices": [1]}, "leave `out_indices` at null"),
        ({"name": "test_resnet", "drop_path_rate": 2}, r"in \[0, 1\]"),
        ({"name": "test_vit", "input_shape": (3, 8, 8)}, "test_vit"),
        ({"name": "test_vit", "input_shape": (3, 8)}, "reads images"),
    ],
)
def test_timm_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        TimmBackbone(**{"input_shape": (3, 32, 32), **options})


def test_timm_weights_that_cannot_be_had(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"no network.*`backbone.pretrained=false`"):
        TimmBackbone((3, 32, 32), name="test_resnet", pretrained=True)
