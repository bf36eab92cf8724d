"""MultiMNIST on miniatures in the official layout, and on the real files where MTL_DATA has them."""

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from mtl.datasets import MultiMNIST, multimnist
from mtl.datasets.overlay import draw_partners, overlay
from mtl.errors import ConfigError, DataError
from mtl.seeding import derive_seed

COUNTS = {"train": 60, "t10k": 20}
SPLITS = {"train": 50, "val": 10, "test": 20}
FIRST_ID = {"train": 0, "val": 50, "test": 100}


def make_part(part, seed):
    """Random images that carry their number (60 train, 100.. test) in a left-only and a right-only pixel."""
    generator = torch.Generator().manual_seed(seed)
    count = COUNTS[part]
    images = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=generator)
    numbers = torch.arange(count, dtype=torch.uint8) + (100 if part == "t10k" else 0)
    images[:, 0, 0] = numbers  # canvas (0, 0): composite (0, 0)
    images[:, 26, 26] = numbers  # canvas (32, 32) when right: composite (25, 25)
    labels = torch.randint(10, (count,), dtype=torch.uint8, generator=generator)
    return images, labels


def write_part(folder, part, images, labels, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, tensor in (("images-idx3", images), ("labels-idx1", labels)):
        content = struct.pack(f">{1 + tensor.dim()}I", 0x800 + tensor.dim(), *tensor.shape) + tensor.numpy().tobytes()
        path = folder / f"{part}-{kind}-ubyte{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)


def write_source(folder, seed=0, suffix=""):
    parts = {part: make_part(part, seed + index) for index, part in enumerate(COUNTS)}
    for part, tensors in parts.items():
        write_part(folder, part, *tensors, suffix)
    return parts


def to_bytes(split):
    return ((split.inputs[:, 0] * 0.3081 + 0.1307) * 255).round().to(torch.uint8)


def mini(root, **options):
    return MultiMNIST(str(root), **{"val_size": 10, **options})


@pytest.fixture
def root(tmp_path):
    write_source(tmp_path / "MNIST" / "raw")
    return tmp_path


def test_splits_have_the_promised_shapes(root):
    module = mini(root)
    splits = module.load()
    assert {name: len(split) for name, split in splits.items()} == SPLITS
    for split in splits.values():
        assert split.inputs.shape[1:] == module.input_shape == (1, 28, 28)
        assert split.inputs.dtype == torch.float32
        assert list(split.targets) == ["left", "right"]
        assert all(target.dtype == torch.int64 for target in split.targets.values())


def test_labels_follow_the_sources_and_partners_stay_in_their_split(root):
    labels = {}
    for index, part in enumerate(COUNTS):
        images, classes = make_part(part, index)
        labels |= dict(zip(images[:, 0, 0].tolist(), classes.tolist(), strict=True))
    for name, split in mini(root).load().items():
        pixels = to_bytes(split)
        left, right = pixels[:, 0, 0].tolist(), pixels[:, 25, 25].tolist()
        ids = list(range(FIRST_ID[name], FIRST_ID[name] + SPLITS[name]))
        assert left == ids
        assert set(right) <= set(ids)
        assert len(set(right)) > 1
        assert split.targets["left"].tolist() == [labels[number] for number in left]
        assert split.targets["right"].tolist() == [labels[number] for number in right]


def test_inputs_are_the_overlay_of_the_drawn_pairs(root):
    images = make_part("t10k", 1)[0]
    partners = draw_partners(20, derive_seed(2018, "multimnist", "test"))
    assert torch.equal(to_bytes(mini(root).load()["test"]), overlay(images, images[torch.from_numpy(partners)]))


def test_splits_have_separate_streams(root):
    splits = mini(root, val_size=20).load()
    right = {name: to_bytes(splits[name])[:, 25, 25].int() - first for name, first in (("val", 40), ("test", 100))}
    assert not torch.equal(right["val"], right["test"])


@pytest.mark.parametrize("folder", multimnist.FOLDERS["mnist"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_folder_and_suffix_gives_the_same_bytes(root, tmp_path, folder, suffix):
    other = tmp_path / "other"
    write_source(other / folder, suffix=suffix)
    expected = {name: split.fingerprint() for name, split in mini(root).load().items()}
    assert {name: split.fingerprint() for name, split in mini(other).load().items()} == expected


def test_pair_seed_alone_decides_the_pairs(root):
    first = mini(root).load()["train"]
    torch.manual_seed(99)
    assert mini(root).load()["train"].fingerprint() == first.fingerprint()
    other = mini(root, pair_seed=2019).load()["train"]
    assert torch.equal(other.targets["left"], first.targets["left"])
    assert not torch.equal(other.targets["right"], first.targets["right"])


def test_no_validation_split_with_val_size_zero(root):
    splits = mini(root, val_size=0).load()
    assert {name: len(split) for name, split in splits.items()} == {"train": 60, "test": 20}
    assert set(to_bytes(splits["train"])[:, 25, 25].tolist()) & set(range(50, 60))  # partners out of all 60


def test_mixed_sources(root):
    write_source(root / "fashion-mnist", seed=10)
    digits, articles = make_part("train", 0)[1], make_part("train", 10)[1]
    split = mini(root, right="fashion", val_size=0).load()["train"]
    partners = to_bytes(split)[:, 25, 25].long()
    assert torch.equal(split.targets["left"], digits.long())
    assert torch.equal(split.targets["right"], articles[partners].long())
    both = mini(root, left="fashion", right="fashion", val_size=0).load()["train"]
    assert torch.equal(both.targets["left"], articles.long())


def test_tasks_select_targets(root):
    module = mini(root, tasks=["right"])
    assert [task.name for task in module.tasks] == ["right"]
    assert list(module.load()["test"].targets) == ["right"]
    task = module.tasks[0]
    assert (task.num_outputs, task.kind, task.primary_metric) == (10, "classification", "accuracy")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"left": "kmnist"}, "left"),
        ({"right": "digits"}, "mnist, fashion"),
        ({"tasks": ["top"]}, "left, right"),
        ({"val_size": -1}, "val_size"),
        ({"pair_seed": -1}, "pair_seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"eval_batch_size": 2.5}, "eval_batch_size"),
        ({"drop_last": "no"}, "drop_last"),
        ({"download": 1}, "download"),
    ],
)
def test_bad_options_fail_at_construction(options, word):
    with pytest.raises(ConfigError, match=word):
        MultiMNIST("/nowhere", **options)


def test_constructor_reads_nothing_and_load_says_what_is_missing():
    module = MultiMNIST("/nowhere")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*/nowhere/MNIST/raw.*dataset\.download=true"):
        module.load()


@pytest.mark.parametrize("val_size", [60, 61])
def test_val_size_has_to_leave_training_images(root, val_size):
    with pytest.raises(ConfigError, match=rf"smaller than .* 60\. Found `val_size = {val_size}`"):
        mini(root, val_size=val_size).load()


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(60, 28, 28), torch.zeros(59), r"train-labels.*60 images.*\(59,\)"),
        (torch.zeros(60, 32, 32), torch.zeros(60), r"train-images.*\(60, 32, 32\)"),
        (torch.zeros(60), torch.zeros(60), r"train-images.*\(60,\)"),
        (torch.zeros(60, 28, 28), torch.full((60,), 10), r"train-labels.*0\.\.9.*class 10"),
    ],
)
def test_files_that_do_not_fit_are_named(root, images, labels, words):
    folder = root / "MNIST" / "raw"
    write_part(folder, "train", images.to(torch.uint8), labels.to(torch.uint8))
    if images.dim() == 1:  # a label file under the name of an image file
        (folder / "train-images-idx3-ubyte").write_bytes((folder / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DataError, match=words):
        mini(root).load()


def test_sources_of_different_sizes_are_named(root):
    write_source(root / "FashionMNIST")
    images, labels = make_part("t10k", 0)
    write_part(root / "FashionMNIST", "t10k", images[:19], labels[:19])
    with pytest.raises(DataError, match=r"`t10k`.*20 and 19"):
        mini(root, right="fashion").load()


def stand_in_for_torchvision(monkeypatch, **classes):
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=SimpleNamespace(**classes)))


def test_download_is_torchvisions(tmp_path, monkeypatch):
    calls = []

    def fake(root, download):
        calls.append((root, download))
        write_source(Path(root) / "MNIST" / "raw")

    stand_in_for_torchvision(monkeypatch, MNIST=fake, FashionMNIST=None)
    for _ in range(2):
        assert len(mini(tmp_path, download=True).load()["train"]) == 50
    assert calls == [(str(tmp_path), True)]  # nothing is fetched twice


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("no route"), TimeoutError("no route")])
def test_failed_download_is_a_data_error(tmp_path, monkeypatch, error):
    def fake(root, download):
        raise error

    fake.__name__ = "FashionMNIST"
    stand_in_for_torchvision(monkeypatch, MNIST=None, FashionMNIST=fake)
    with pytest.raises(DataError, match=r"download of FashionMNIST.*no route.*by hand"):
        mini(tmp_path, left="fashion", right="fashion", download=True).load()


def digests(root):
    """The checksums of the miniature, made without the code under test."""
    partners, images, labels = {}, {}, {}
    for name, split in mini(root).load().items():
        key, first = (name, len(split)), FIRST_ID[name]
        rows = to_bytes(split)[:, 25, 25].to(torch.int64) - first
        classes = torch.cat([split.targets["left"], split.targets["right"]]).to(torch.uint8)
        for table, tensor in ((partners, rows), (images, to_bytes(split)), (labels, classes)):
            table[key] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    return partners, images, labels


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("table", ["PARTNERS_SHA256", "IMAGES_SHA256", "LABELS_SHA256"])
def test_checksums_are_verified(root, monkeypatch, table, split):
    tables = dict(zip(("PARTNERS_SHA256", "IMAGES_SHA256", "LABELS_SHA256"), digests(root), strict=True))
    monkeypatch.setattr(multimnist, "OFFICIAL_COUNTS", COUNTS)
    for name, content in tables.items():
        monkeypatch.setattr(multimnist, name, content)
    mini(root).load()
    tables[table][split, SPLITS[split]] = "0" * 64
    with pytest.raises(DataError, match=rf"`{split}` split.*expected 0000"):
        mini(root).load()
    mini(root, pair_seed=1).load()  # another seed is another data set


@pytest.mark.parametrize(("split", "count"), multimnist.PARTNERS_SHA256)
def test_stored_partner_checksums(split, count):
    rows = np.random.RandomState(derive_seed(2018, "multimnist", split) % 2**32).randint(count, size=count)
    digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
    assert digest == multimnist.PARTNERS_SHA256[split, count]


@pytest.mark.parametrize("val_size", [0, 10_000])
def test_official_files(val_size, monkeypatch):
    root = os.environ.get("MTL_DATA")
    if root is None:
        pytest.skip("needs the official MNIST files: MTL_DATA is not set")
    try:
        multimnist._find_files(Path(root), "mnist")
    except DataError as error:
        pytest.skip(str(error))
    checked = []
    verify = multimnist._verify_files
    monkeypatch.setattr(
        multimnist, "_verify_files", lambda split, *rest: (checked.append((split, len(rest[0]))), verify(split, *rest))
    )
    splits = MultiMNIST(root, val_size=val_size).load()
    assert checked == [(name, len(split)) for name, split in splits.items()]
    assert set(checked) <= set(multimnist.IMAGES_SHA256)
    assert splits["train"].targets["left"][:5].tolist() == [5, 0, 4, 1, 9]


def test_import_stays_light():
    code = "import sys, mtl.datasets; print(*sorted({'torchvision', 'sklearn'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
