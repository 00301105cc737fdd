"""Checks that run where notebooks and functions run: in the user's environment, which has numpy and pandas."""
