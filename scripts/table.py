"""A paper's table beside ours.

    python scripts/table.py table=list runs=outputs
    python scripts/table.py table=sener2018/multimnist runs=outputs out=docs/results
    python scripts/table.py table=sener2018/multimnist runs=outputs plan=true
    python scripts/table.py table=sener2018/multimnist runs=outputs plan=true rows=single_task,uniform,mgda_ub seed=0

Further key=value arguments hold for every job of the table (trainer.max_epochs=2 seed=0), which the table then says.
"""

import sys

from mtl.config.tables import table_main

if __name__ == "__main__":
    sys.exit(table_main(sys.argv[1:]))
