"""Look at a sweep while it runs, or afterwards; reads only.

python scripts/sweep.py dir=outputs/default/sweep/NAME               every job: state, progress, time left, best metric
python scripts/sweep.py dir=outputs/default/sweep/NAME watch=true    the same, live, until no job runs
"""

import sys

from mtl.config import guarded
from mtl.config.watch import watch

if __name__ == "__main__":
    sys.exit(guarded(lambda: watch(sys.argv[1:])))
