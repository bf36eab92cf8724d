"""The memory of a run on packed data does not grow with its epochs."""

import gc
import sys
from pathlib import Path

import pytest
import torch

from mtl.datasets.base import Loader
from mtl.training import run
from mtl.training.trainer import Trainer
from tests.integration.test_prepared_data import prepared, spec_of  # noqa: F401 - a fixture

MIB = 2**20


def live_tensors():
    """Bytes of all tensors that Python can reach, storages counted once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def own_memory():
    """Resident bytes that are not mapped files: those of a memory map belong to the system's cache."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def test_tensors_of_an_epoch_do_not_outlive_it(prepared, tmp_path, monkeypatch):  # noqa: F811
    spec, text = spec_of(prepared, "trainer.max_epochs=4", "trainer.selection=best_val")
    found = []
    save = Trainer.save

    def watch(self):
        save(self)
        found.append(live_tensors())

    monkeypatch.setattr(Trainer, "save", watch)
    assert run(spec, tmp_path / "run", text)["status"] == "completed"
    assert found[2:] == [found[2]] * (len(found) - 2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_reading_many_epochs_takes_no_more_memory_than_a_few(prepared):  # noqa: F811
    spec, _ = spec_of(prepared, "dataset.val_size=0", "dataset.augmentation.brightness=0.2")
    loader = Loader(spec.data.load()["train"], 2, shuffle=True, drop_last=False)
    after = []
    for epoch in range(250):
        for batch in loader.batches(epoch):
            size = sum(tensor.nbytes for tensor in (batch.inputs, *batch.targets.values()))
        if epoch in (50, 249):
            gc.collect()
            after.append(own_memory())
    lost = 200 * len(loader) * size  # if every batch were kept
    assert lost > 20 * MIB
    assert after[1] - after[0] < lost / 8
