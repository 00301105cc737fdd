"""Tests of the cluster backend: against a scripted API server, and against a real one (marked `cluster`)."""
