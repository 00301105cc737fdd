"""Benchmarks: each runs ours and a peer, or the bare limit, side by side and prints the ratio."""
