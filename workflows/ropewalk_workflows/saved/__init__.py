"""Saved workflows: kept with open arguments, launched with values. ``launching`` decides (pure), ``desk`` keeps."""
