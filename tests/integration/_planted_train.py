"""scripts/train.py with the workers of `_planted_worker`."""

import sys

from mtl.config import launch, train_main

if __name__ == "__main__":
    launch.WORKER[:] = [sys.executable, "-m", "tests.integration._planted_worker"]
    sys.exit(train_main(sys.argv[1:]))
