"""Argo Server's REST interface, as a pure translation of runs: what its clients send, and what they read.

No web server and no port is known here (``ropewalk_hub.argo_api`` has the routes). The same for every backend.
"""
