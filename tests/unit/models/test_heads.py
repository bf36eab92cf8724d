"""Dense heads."""

from functools import partial

import pytest
import torch
from torch import nn

from mtl.errors import ConfigError
from mtl.models.blocks import resize
from mtl.models.heads import ASPPHead, ConvHead, LinearHead, MLPHead, MultiLevelHead, PSPHead
from mtl.models.heads.pooled import PooledBranch

SIZE = (12, 20)
HEADS = {
    "conv": ConvHead,
    "conv-3x3": partial(ConvHead, hidden_features=5),
    "psp": partial(PSPHead, hidden_features=4),
    "psp-layer": partial(PSPHead, hidden_features=4, pooled_norm="layer"),
    "aspp": partial(ASPPHead, hidden_features=4),
    "aspp-layer": partial(ASPPHead, hidden_features=4, pooled_norm="layer"),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [(12, 20), (6, 10), (3, 5), (1, 1)])
def test_predictions_have_the_size_of_the_input(name, size):
    head = HEADS[name](6, 3, SIZE)
    assert head(torch.randn(4, 6, *size)).shape == (4, 3, *SIZE)
    with pytest.raises(ConfigError, match=r"several|returns 2"):
        HEADS[name]((6, 6), 3, SIZE)
    with pytest.raises(ConfigError, match="per pixel"):
        HEADS[name](6, 3, None)
    with pytest.raises(ConfigError, match="reads feature maps"):
        head(torch.randn(4, 6))


@pytest.mark.parametrize("merge", ["sum", "concat"])
def test_multilevel_reads_every_level(merge):
    head = MultiLevelHead((2, 3, 5), 4, SIZE, hidden_features=6, merge=merge)
    levels = tuple(torch.randn(2, c, 12 // s, 20 // s, requires_grad=True) for c, s in ((2, 2), (3, 1), (5, 4)))
    prediction = head(levels)
    assert prediction.shape == (2, 4, *SIZE)
    prediction.square().sum().backward()
    assert all(level.grad.abs().sum() > 0 for level in levels)


def test_one_by_one_convolution_is_a_linear_layer_at_every_pixel():
    head = ConvHead(6, 3, SIZE).double()
    maps = torch.randn(2, 6, *SIZE, dtype=torch.float64)
    layer = head.layers[0]
    expected = maps.movedim(1, -1) @ layer.weight[:, :, 0, 0].T + layer.bias
    torch.testing.assert_close(head(maps), expected.movedim(-1, 1))


def test_the_mtan_head_is_linear_and_the_other_is_not():
    maps = torch.randn(2, 6, *SIZE, dtype=torch.float64)
    for relu in (False, True):
        head = ConvHead(6, 3, SIZE, hidden_features=5, relu=relu, initialization="xavier_normal").double()
        assert not any(p.any() for name, p in head.named_parameters() if name.endswith("bias"))
        assert torch.allclose(head(-2 * maps), -2 * head(maps)) == (not relu)


def test_resize_does_nothing_to_the_right_size_and_keeps_constants():
    maps = torch.randn(2, 3, 4, 5)
    assert resize(maps, (4, 5)) is maps
    torch.testing.assert_close(resize(torch.ones(1, 1, 4, 5), (9, 7)), torch.ones(1, 1, 9, 7))


def test_a_pooled_branch_of_one_bin_knows_the_mean_only():
    branch = PooledBranch(3, 4, 1, "batch").eval().double()
    maps = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    shuffled = maps.flatten(2)[:, :, torch.randperm(48)].reshape(maps.shape)
    torch.testing.assert_close(branch(maps), branch(shuffled))
    assert branch(maps).std(dim=(2, 3)).max() < 1e-12
    assert not torch.allclose(branch(maps), branch(maps + 1))


@pytest.mark.parametrize("head", [PSPHead, ASPPHead])
def test_a_batch_of_one(head):
    """BatchNorm after global pooling would have one value a channel: an error that names the way out."""
    maps = torch.randn(1, 6, 6, 10)
    published, other = (head(6, 3, SIZE, hidden_features=4, pooled_norm=norm) for norm in ("batch", "layer"))
    with pytest.raises(ConfigError, match=r"batch of 1.*heads.pooled_norm=layer"):
        published(maps)
    assert published.eval()(maps).shape == (1, 3, *SIZE)
    assert other(maps).isfinite().all()
    other.eval()
    more = torch.cat([maps, torch.randn(2, 6, 6, 10)])
    torch.testing.assert_close(other(more)[:1], other(maps))


@pytest.mark.parametrize("rate", [1, 3])
def test_aspp_branches_look_as_far_as_their_rate(rate):
    head = ASPPHead(2, 1, (15, 15), rates=(rate,), hidden_features=3)
    maps = torch.zeros(1, 2, 15, 15, requires_grad=True)
    head.branches[1][0](maps)[0, :, 7, 7].sum().backward()
    seen = {tuple(place) for place in (maps.grad[0].abs().sum(dim=0) > 0).nonzero().tolist()}
    assert seen == {(7 + i * rate, 7 + j * rate) for i in (-1, 0, 1) for j in (-1, 0, 1)}


@pytest.mark.parametrize("head", [LinearHead, MLPHead])
def test_vector_heads_read_vectors(head):
    assert head(in_features=6, num_outputs=3, output_size=None)(torch.randn(4, 6)).shape == (4, 3)
    with pytest.raises(ConfigError, match="one vector a sample"):
        head(6, 3, SIZE)
    with pytest.raises(ConfigError, match="returns 2 tensors"):
        head((6, 6), 3)
    with pytest.raises(ConfigError, match="reads feature vectors"):
        head(6, 3)(torch.randn(4, 5, 5, 6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(ConvHead, 6, 3, SIZE, hidden_features=0), "hidden_features"),
        (partial(ConvHead, 6, 3, SIZE, initialization="zeros"), "default, xavier_normal"),
        (partial(PSPHead, 6, 3, SIZE, bins=()), "bins"),
        (partial(PSPHead, 6, 3, SIZE, pooled_norm="none"), "batch, layer"),
        (partial(ASPPHead, 6, 3, SIZE, rates=(0,)), "rates"),
        (partial(ASPPHead, 6, 3, SIZE, dropout_rate=1.5), "dropout_rate"),
        (partial(MultiLevelHead, (6,), 3, SIZE, merge="mean"), "sum, concat"),
        (partial(MultiLevelHead, 6, 3, SIZE), "several feature maps"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_linear_head_is_a_linear_layer():
    head = LinearHead(6, 3)
    features = torch.randn(4, 6)
    assert torch.equal(head(features), nn.functional.linear(features, head.weight, head.bias))
