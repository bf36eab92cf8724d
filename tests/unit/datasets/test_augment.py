"""Augmentation: what each operation does to each quantity, and what it depends on."""

import pytest
import torch

from mtl.datasets import Batch, Loader, TensorSplit
from mtl.datasets.augment import Augmentation
from mtl.errors import ConfigError

B, H, W = 5, 24, 30
QUANTITIES = {
    "seg": "labels",
    "depth": "depth",
    "disparity": "disparity",
    "normals": "normals",
    "offsets": "offsets",
    "plain": "plain",
}


def batch_of(count=B, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def dense(channels):
        values = torch.randn(count, channels, H, W, generator=generator)
        valid = (torch.rand(count, 1, H, W, generator=generator) > 0.3).float()
        return torch.cat([values * valid, valid], 1)

    targets = {name: dense({"normals": 3, "offsets": 2}.get(name, 1)) for name in QUANTITIES if name != "seg"}
    targets["seg"] = torch.randint(-1, 13, (count, H, W), generator=generator)
    return Batch(torch.rand(count, 3, H, W, generator=generator), targets)


def constant_batch():
    ones = torch.ones(B, 1, H, W)
    normal = torch.tensor([0.0, 0.0, -1.0, 1.0]).view(1, 4, 1, 1).expand(B, 4, H, W)
    targets = {name: torch.cat([3.0 * ones, ones], 1) for name in ("depth", "disparity", "plain")}
    targets |= {"offsets": torch.cat([ones * 2, ones * 4, ones], 1), "normals": normal.clone()}
    return Batch(torch.full((B, 3, H, W), 0.25), {**targets, "seg": torch.full((B, H, W), 4)})


def apply(batch, seed=0, **options):
    silent = {"zoom": (1.0,), "shift": 0, "flip": 0.0}
    return Augmentation(**{**silent, **options}).bind(QUANTITIES)(batch, torch.Generator().manual_seed(seed))


def same(first, second):
    return torch.equal(first.inputs, second.inputs) and all(
        torch.equal(first.targets[name], second.targets[name]) for name in QUANTITIES
    )


def test_nothing_asked_nothing_done():
    assert same(apply(batch_of()), batch_of())


def test_flip_twice_is_the_identity_and_once_negates_x():
    batch = batch_of()
    once = apply(batch, flip=1.0)
    assert same(apply(once, flip=1.0), batch)
    assert torch.equal(once.inputs, batch.inputs.flip(-1))
    assert torch.equal(once.targets["seg"], batch.targets["seg"].flip(-1))
    signs = {"normals": [-1, 1, 1, 1], "offsets": [1, -1, 1], "depth": [1, 1], "disparity": [1, 1], "plain": [1, 1]}
    for name, sign in signs.items():
        expected = batch.targets[name].flip(-1) * torch.tensor(sign).view(1, -1, 1, 1)
        assert torch.equal(once.targets[name], expected)


@pytest.mark.parametrize("zoom", [1.2, 1.5, 3.0])
def test_a_constant_plane_under_zoom(zoom):
    zoomed = apply(constant_batch(), zoom=(zoom,))
    expected = {"depth": [3 / zoom], "disparity": [3 * zoom], "plain": [3.0], "offsets": [2 * zoom, 4 * zoom]}
    for name, values in {**expected, "normals": [0, 0, -1]}.items():
        found = zoomed.targets[name]
        wanted = torch.tensor([*values, 1.0]).view(1, -1, 1, 1).expand_as(found)
        assert torch.allclose(found, wanted)
    assert torch.allclose(zoomed.inputs, torch.tensor(0.25))
    assert (zoomed.targets["seg"] == 4).all()


@pytest.mark.parametrize("options", [{"zoom": (1.2, 1.5, 2.3)}, {"shift": 7}, {"zoom": (1.0, 1.4), "shift": 3}])
def test_validity_and_labels_are_never_blended(options):
    batch = batch_of()
    changed = apply(batch, seed=2, flip=0.5, **options)
    assert not torch.equal(changed.targets["seg"], batch.targets["seg"])
    for name, target in changed.targets.items():
        if name == "seg":
            assert set(target.unique().tolist()) <= set(batch.targets[name].unique().tolist())
            continue
        values, valid = target[:, :-1], target[:, -1:]
        assert set(valid.unique().tolist()) <= {0.0, 1.0}
        assert (values * (1 - valid) == 0).all()
    known = set(batch.targets["plain"].flatten().tolist())
    assert set(changed.targets["plain"].flatten().tolist()) <= known


def test_all_targets_and_the_image_move_together():
    """Every pixel carries its own coordinates; a linear image is what bilinear interpolation reproduces."""
    rows, columns = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    place = torch.stack([rows, columns]).expand(B, 2, H, W)
    ones = torch.ones(B, 1, H, W)
    targets = {name: torch.cat([place, ones], 1) for name in ("plain", "depth")}
    batch = Batch(torch.cat([place, ones], 1), targets)
    bound = Augmentation(zoom=(1.2, 1.5, 2.0), flip=0.5).bind({"plain": "plain", "depth": "depth"})
    moved = bound(batch, torch.Generator().manual_seed(4))
    image, plain, depth = moved.inputs[:, :2], moved.targets["plain"][:, :2], moved.targets["depth"][:, :2]
    assert (image - plain).abs().max() <= 0.5 + 1e-4
    ratio = plain / depth
    factors = ratio[:, 0, 0, 0]
    assert torch.allclose(ratio, factors.view(-1, 1, 1, 1).expand_as(ratio))
    assert set(factors.mul(10).round().div(10).tolist()) <= {torch.tensor(s).item() for s in (1.2, 1.5, 2.0)}
    for sample, factor in enumerate(factors.tolist()):
        span = plain[sample, 0].max() - plain[sample, 0].min()
        assert span <= H / factor
        assert span >= int(H / factor) - 1


def test_a_shift_brings_void_and_invalid_in():
    shifted = apply(constant_batch(), seed=1, shift=5)
    outside = shifted.targets["seg"] == -1
    assert outside.any()
    assert torch.equal(shifted.targets["depth"][:, 1] == 0, outside)
    assert (shifted.targets["depth"][:, 0][outside] == 0).all()
    assert torch.allclose(shifted.inputs, torch.tensor(0.25))
    assert outside.flatten(1).float().mean(1).max() <= 1 - (H - 5) * (W - 5) / (H * W)


def test_jitter_changes_colours_only_and_undoes_the_normalisation():
    batch = batch_of()
    options = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}
    jittered = apply(batch, **options)
    assert not torch.allclose(jittered.inputs, batch.inputs)
    assert 0 <= jittered.inputs.min() <= jittered.inputs.max() <= 1
    assert all(torch.equal(jittered.targets[name], batch.targets[name]) for name in QUANTITIES)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    centre, spread = (torch.tensor(numbers).view(3, 1, 1) for numbers in (mean, std))
    bound = Augmentation(zoom=(1.0,), flip=0.0, **options).bind(QUANTITIES, mean, std)
    normalised = bound(Batch((batch.inputs - centre) / spread, batch.targets), torch.Generator().manual_seed(0))
    assert torch.allclose(normalised.inputs * spread + centre, jittered.inputs, atol=1e-5)


def test_grey_images_stay_grey_and_black_stays_black():
    grey = torch.rand(B, 1, H, W, generator=torch.Generator().manual_seed(1)).expand(B, 3, H, W)
    changed = apply(Batch(grey, batch_of().targets), saturation=1.0).inputs
    assert torch.allclose(changed, grey, atol=1e-6)
    black = apply(Batch(torch.zeros(B, 3, H, W), batch_of().targets), brightness=1.0, contrast=1.0).inputs
    assert (black == 0).all()


def test_samples_have_their_own_draws():
    one = batch_of(1)
    many = Batch(one.inputs.repeat(8, 1, 1, 1), {k: t.repeat(8, *[1] * (t.dim() - 1)) for k, t in one.targets.items()})
    changed = apply(many, zoom=(1.2, 1.5), flip=0.5)
    assert len({image.numpy().tobytes() for image in changed.inputs}) > 4


def loader_of(seed=3, **options):
    batch = batch_of(11)
    augment = Augmentation(zoom=(1.0, 1.3), flip=0.5, brightness=0.2).bind(QUANTITIES)
    split = TensorSplit(batch.inputs, batch.targets, augment)
    return Loader(split, **{"batch_size": 4, "shuffle": True, "drop_last": False, "seed": seed, **options})


def test_a_batch_is_a_function_of_seed_epoch_and_index():
    expected = list(loader_of().batches(2))
    loader = loader_of()
    list(loader.batches(0))
    torch.manual_seed(77)
    before = torch.get_rng_state()
    for start in range(3):
        continued = list(loader.batches(2, start))
        assert all(same(a, b) for a, b in zip(continued, expected[start:], strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    fixed = loader_of(shuffle=False)
    first, later = next(iter(fixed.batches(0))), next(iter(fixed.batches(1)))
    assert not torch.equal(first.inputs, later.inputs)
    assert not torch.equal(next(iter(loader_of(seed=4, shuffle=False).batches(0))).inputs, first.inputs)


def test_augmentation_leaves_the_data_alone():
    loader = loader_of(shuffle=False, batch_size=11)
    before = loader.split.inputs.clone(), {name: t.clone() for name, t in loader.split.targets.items()}
    list(loader.batches(0))
    assert same(Batch(*before), Batch(loader.split.inputs, loader.split.targets))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zoom": []}, "zoom"),
        ({"zoom": [0.5]}, r"from 1 to 8.*0\.5"),
        ({"zoom": [True]}, "zoom"),
        ({"shift": -1}, "shift"),
        ({"flip": 1.5}, "flip"),
        ({"contrast": -0.1}, "contrast"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**options)
