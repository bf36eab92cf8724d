"""One HTML page about finished runs, self-contained, to read or to send.

    python scripts/report.py runs=outputs/demo out=report.html
    python scripts/report.py runs=DIR predictions=true        # draws predictions of dense tasks into it
    python scripts/report.py runs=DIR predictions=a.png,b.png # embeds pictures of scripts/predictions.py
    python scripts/report.py runs=DIR allow_mixed=true        # runs of several settings, measured each by its own

See docs/report.md for how to read it.
"""

import sys

from mtl.config.report import report_main

if __name__ == "__main__":
    sys.exit(report_main(sys.argv[1:]))
