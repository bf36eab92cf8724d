"""What scripts/benchmark.py measures: contenders by name, rows that compare two of them, timing and the report."""
