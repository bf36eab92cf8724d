import os

import pytest
import torch

os.environ.setdefault("NO_COLOR", "1")


@pytest.fixture(autouse=True)
def _quiet_and_repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(False)  # a run leaves it on
