"""Prepare a data set once for all runs: `python scripts/prepare_data.py dataset=nyuv2 source=DIR [out=DIR] [size=HxW]`.

`verify=DIR` reads a prepared set again and compares it with its checksums. A killed preparation continues where it was.
"""

import sys

from mtl.config import prepare_main

if __name__ == "__main__":
    sys.exit(prepare_main(sys.argv[1:]))
