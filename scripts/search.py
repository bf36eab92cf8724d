"""Search hyper-parameters on the validation score, with Optuna (`pip install -e '.[optuna]'`).

    python scripts/search.py 'optimizer.lr=tag(log, interval(1e-4, 1e-1))' trials=20
    python scripts/search.py 'optimizer.lr=tag(log, interval(1e-4, 1e-1))' strategy=mgda,mgda_ub seeds=0,1 jobs=2

A search space is written in Hydra's grammar: interval, int(interval), range, a,b,c. Further key=value hold for every
trial. The same command continues; a larger `trials` too. See docs/sweeps.md.
"""

import sys

from mtl.config import guarded
from mtl.config.search import search_main

if __name__ == "__main__":
    sys.exit(guarded(lambda: search_main(sys.argv[1:])))
