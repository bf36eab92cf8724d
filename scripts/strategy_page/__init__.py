"""What scripts/document_strategies.py writes: measured costs, and the page."""
