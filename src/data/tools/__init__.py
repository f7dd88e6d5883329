"""The commands of `python src/dataset.py`, a module for each kind."""
