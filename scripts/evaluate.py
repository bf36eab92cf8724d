"""Evaluate the last checkpoint of a run again: `python scripts/evaluate.py run=RUN_DIR`. Changes nothing in it."""

import sys

from mtl.config import evaluate_main

if __name__ == "__main__":
    sys.exit(evaluate_main(sys.argv[1:]))
