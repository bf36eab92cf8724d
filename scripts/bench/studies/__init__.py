"""Studies beside the table of bars; each writes a page of its own."""
