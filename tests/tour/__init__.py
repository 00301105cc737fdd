"""The tour: a real platform, a real browser, docs/tour.ipynb cell by cell, and the promises that must be seen."""
