"""One file a section: its rows, and how their contenders are built."""
