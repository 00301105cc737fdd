"""Tests: unit, contract, faults, security and browser."""
