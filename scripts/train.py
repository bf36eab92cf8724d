"""Train one multi-task network, or a grid of them with -m. `--help` shows everything that can be set."""

import sys

from mtl.config import train_main

if __name__ == "__main__":
    sys.exit(train_main(sys.argv[1:]))
