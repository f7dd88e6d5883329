"""What `python src/dataset.py` does: one module for each kind of command."""
