"""Ground truth and predictions of dense tasks side by side, as a picture for a paper (PNG and PDF).

    python scripts/predictions.py run=RUN_DIR run=RUN_DIR2 samples=0,100,200 out=FILE.png
    python scripts/predictions.py runs=DIR split=test

One column a run, called as its strategy; single-task runs of one seed share a column. See docs/data.md.
"""

import sys

from mtl.config import predictions_main

if __name__ == "__main__":
    sys.exit(predictions_main(sys.argv[1:]))
