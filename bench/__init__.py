"""Benches: each is run as `python bench/NAME.py` and prints what it measured in that run."""
