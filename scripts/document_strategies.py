"""Write docs/strategies.md: a table of all methods with their measured costs, and a section for each.

python scripts/document_strategies.py [out=docs/strategies.md]
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    sys.path.insert(0, str(ROOT))  # the table of exceptions and the small problems belong to the tests
    from scripts.strategy_page.page import render
    from tests.contract.exceptions import EXCEPTIONS, LAWS

    given = [argument.removeprefix("out=") for argument in sys.argv[1:]]
    out = Path(given[0]) if given else ROOT / "docs/strategies.md"
    out.write_text(render(LAWS, EXCEPTIONS), encoding="utf-8")
    print(f"Written: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
