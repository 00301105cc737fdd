"""Workflows: capture, graph, compiler, manifest model and engine."""
