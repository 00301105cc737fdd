"""Inventory of accelerators."""
