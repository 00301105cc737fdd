"""Argo's own clients against Ropewalk: the real `argo` command and Hera's service class."""
