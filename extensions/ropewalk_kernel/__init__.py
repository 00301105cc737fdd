"""Magics and displays of the notebook kernel."""
