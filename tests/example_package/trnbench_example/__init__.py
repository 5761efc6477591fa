"""What trnbench finds by the entry points of this package's pyproject.toml. Importing it costs no torch."""
