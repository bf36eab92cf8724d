"""CelebA: attributes and partition as listed, outputs and normalisations as published."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from mtl.datasets import CelebA
from mtl.datasets.prepare import prepare
from mtl.datasets.sources import find_source
from mtl.datasets.sources.celeba import ATTRIBUTES, read_attributes, read_partition
from mtl.errors import ConfigError, DataError
from mtl.tasks import BinaryCrossEntropy
from tests.miniature_faces import COUNTS, NAMES, attributes, write

SIZE = (32, 24)
SPLITS = dict(zip(("train", "val", "test"), COUNTS, strict=True))
LIST, PARTITION = "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return write(tmp_path_factory.mktemp("celeba") / "raw")


@pytest.fixture
def raw(template, tmp_path):
    """Ours to damage."""
    return shutil.copytree(template, tmp_path / "raw")


@pytest.fixture(scope="module")
def prepared(template):
    prepare(find_source("celeba", template, SIZE), "celeba", template.parent / "out", quiet)
    return template.parent / "out"


def data(prepared, **options):
    return CelebA("x", prepared, SIZE, **options)


def test_tasks_are_the_40_attributes_in_the_official_order():
    assert [task.name for task in CelebA("x").tasks] == NAMES == list(ATTRIBUTES)
    assert [task.name for task in CelebA("x", tasks=["Young", "Male"]).tasks] == ["Young", "Male"]


@pytest.mark.parametrize("options", [{}, {"flat": True}, {"png": True}])
def test_layouts(options, tmp_path):
    source = find_source("celeba", write(tmp_path / "raw", **options), SIZE)
    assert source.counts == SPLITS
    source.check()
    sample = source.read("val", 3)
    assert sample["image"].shape == (3, *SIZE)
    assert sample["attributes"].tolist() == [int(value == 1) for value in attributes(COUNTS[0] + 3)]


def test_attributes_go_to_their_names(tmp_path):
    """Columns in another order give the same tasks."""
    path = tmp_path / "list.txt"
    values = [(-1) ** (position // 3) for position in range(40)]
    order = np.random.RandomState(0).permutation(40)
    path.write_text(f"1\n{' '.join(NAMES[i] for i in order)}\nface.jpg {' '.join(str(values[i]) for i in order)}\n")
    assert read_attributes(path)["face.jpg"].tolist() == [max(value, 0) for value in values]


def test_partition_numbers(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("b.jpg 2\na.jpg 0\nd.jpg 1\nc.jpg 0\n")
    assert read_partition(path) == {"train": ["a.jpg", "c.jpg"], "val": ["d.jpg"], "test": ["b.jpg"]}


def test_order_is_that_of_the_partition_list(raw):
    lines = (raw / PARTITION).read_text().splitlines()
    (raw / PARTITION).write_text("\n".join(reversed(lines)) + "\n")
    source = find_source("celeba", raw, SIZE)
    assert source.path("train", 0).name == "000048.jpg"
    assert source.read("train", 0)["attributes"].tolist() == [int(value == 1) for value in attributes(47)]


def test_batches_hold_the_attributes(prepared):
    for split, part in data(prepared).load().items():
        first = {"train": 0, "val": COUNTS[0], "test": COUNTS[0] + COUNTS[1]}[split]
        batch = part.gather(torch.tensor([2, 0]))
        for row, index in enumerate((first + 2, first)):
            for name, value in zip(NAMES, attributes(index), strict=True):
                assert batch.targets[name][row] == int(value == 1)
        assert len(part) == SPLITS[split]


def test_isl_org_is_blue_green_red_minus_its_mean(prepared):
    rgb, bgr = (
        data(prepared, normalisation=name).load()["test"].gather(slice(0, 4)).inputs for name in ("none", "isl_org")
    )
    assert 0 <= rgb.min() < 0.1
    assert 0.9 < rgb.max() <= 1
    mean = torch.tensor([73.15835921, 82.90891754, 72.39239876]).view(3, 1, 1) / 255
    assert torch.allclose(bgr, rgb[:, [2, 1, 0]] - mean, atol=1e-6)
    prints = {data(prepared, normalisation=name).load()["test"].fingerprint() for name in ("none", "isl_org")}
    assert len(prints) == 2


def test_two_outputs_are_a_two_way_softmax():
    logits = torch.randn(30, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 2, (30,))
    ours, plain = BinaryCrossEntropy()(logits, target), functional.cross_entropy(logits, target)
    assert torch.allclose(ours, plain, atol=1e-12)
    gradients = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (ours, plain))
    assert torch.allclose(*gradients, atol=1e-12)
    for make in CelebA("x", outputs=2).tasks[0].metrics.values():
        one, two = make(torch.device("cpu")), make(torch.device("cpu"))
        two.update(logits.detach(), target)
        one.update((logits[:, 1] - logits[:, 0]).detach()[:, None], target)
        assert two.compute() == one.compute()
    accuracy = CelebA("x", outputs=2).tasks[0].metrics["accuracy"](torch.device("cpu"))
    accuracy.update(logits.detach(), target)
    assert accuracy.compute() == pytest.approx(100 * (logits.argmax(1) == target).double().mean().item())


def test_resize_is_an_option_of_the_preparation(tmp_path):
    root = write(tmp_path / "raw", png=True)
    source = find_source("celeba", root, SIZE, options={"resize": "nearest"})
    image = np.asarray(Image.open(root / "Img/img_align_celeba_png/000001.png"))
    rows, columns = ((np.arange(n) + 0.5) * old // n for n, old in zip(SIZE, (218, 178), strict=True))
    expected = image[rows.astype(int)[:, None], columns.astype(int)].transpose(2, 0, 1)
    assert np.array_equal(source.read("train", 0)["image"], expected)
    assert "nearest pixel" in source.note
    with pytest.raises(ConfigError, match="bilinear, nearest"):
        find_source("celeba", root, SIZE, options={"resize": "cubic"})


def test_a_part_has_to_be_asked_for_and_is_noted(template):
    source = find_source("celeba", template, SIZE)
    with pytest.raises(DataError, match=r"48 train, 12 val, 16 test samples; .* 162770 train, 19867 val, 19962 test"):
        source.check_counts(allow_partial=False)
    source.check_counts(allow_partial=True)
    assert source.note == "CelebA (48 training, 12 validation and 16 test images)"


def test_a_changed_label_is_another_source(raw):
    """The list keeps its size."""
    before = find_source("celeba", raw, SIZE).fingerprint()
    text = (raw / LIST).read_text()
    (raw / LIST).write_text(text[:-3] + ("-1\n" if text[-3:] == " 1\n" else " 1\n"))
    assert find_source("celeba", raw, SIZE).fingerprint() != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 3}, "`outputs` should be 1 or 2"),
        ({"primary_metric": "auc"}, "f1, precision, recall, accuracy, error"),
        ({"tasks": ["smiling"]}, "Smiling"),
        ({"normalisation": "bgr"}, "none, imagenet, isl_org"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        CelebA("x", **options)


def replace(name, old, new):
    def do(root):
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return do


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "truncated image": (lambda root: truncate(root / "Img/img_align_celeba/000005.jpg"), r"000005.jpg` is truncated"),
    "missing image": (
        lambda root: (root / "Img/img_align_celeba/000005.jpg").unlink(),
        r"000005.jpg` is missing\. Get the file again; or take its lines out of both lists.*allow_partial",
    ),
    "wrong size": (
        lambda root: Image.new("RGB", (20, 30)).save(root / "Img/img_align_celeba/000005.jpg"),
        r"000005.jpg` should have 218x178 pixels.*Found 30x20",
    ),
    "grey image": (
        lambda root: Image.new("L", (178, 218)).save(root / "Img/img_align_celeba/000005.jpg"),
        r"000005.jpg` should be an image of mode RGB. Found mode L",
    ),
    "no images": (
        lambda root: (root / "Img/img_align_celeba").rename(root / "Img/faces"),
        r"img_align_celeba/000001.jpg` is missing",
    ),
    "attribute 0": (replace(LIST, " -1", "  0"), r"list_attr_celeba.txt`, line 3, should be .*40 times -1 or 1"),
    "cut list": (lambda root: truncate(root / LIST), r"list_attr_celeba.txt`"),
    "wrong number": (replace(LIST, "76", "77"), r"says in its first line that it lists `77` images and lists 76"),
    "unknown attribute": (replace(LIST, "Young", "Old"), r"line 2, should name the 40 attributes.*Old, Young"),
    "unknown part": (replace(PARTITION, "000002.jpg 0", "000002.jpg 3"), r"partition.txt`, line 2, .*`000002.jpg 3`"),
    "image twice": (replace(PARTITION, "000002.jpg", "000001.jpg"), r"partition.txt`, line 2, .*each file once"),
    "another image": (
        replace(PARTITION, "000002.jpg", "999999.jpg"),
        r"should list the same images. Only one of them has 2 images, the first is 000002.jpg",
    ),
    "path in the lists": (replace(LIST, "000002.jpg", "../000002.jpg"), r"line 4, should be a file name"),
    "no partition": (lambda root: (root / PARTITION).unlink(), r"list_eval_partition.txt` should be an official list"),
    "empty split": (
        lambda root: (root / PARTITION).write_text((root / PARTITION).read_text().replace("jpg 1", "jpg 0")),
        r"has no image of the split `val`",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_source_is_refused_by_name(name, raw, tmp_path):
    damage, message = DAMAGE[name]
    damage(raw)
    with pytest.raises(DataError, match=message):
        prepare(find_source("celeba", raw, SIZE), "celeba", tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()
