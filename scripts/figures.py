"""A figure of a paper, as PNG and PDF.

    python scripts/figures.py figure=list
    python scripts/figures.py figure=sener2018/figure3 runs=outputs out=outputs/figures
    python scripts/figures.py figure=sener2018/figure3 table=sener2018/multifashion runs=outputs plan=true
    python scripts/figures.py figure=hervella2024/shares_by_step runs=outputs strategy=mao,uniform

Figures of tables take the runs that the table takes, and the same overrides; figures of what runs recorded take all
multi-task runs of one setting.
"""

import sys

from mtl.config.figures import figure_main

if __name__ == "__main__":
    sys.exit(figure_main(sys.argv[1:]))
