"""Reference framework for multi-task optimization research."""
