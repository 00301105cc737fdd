"""The people's door for functions and services: process ``python -m ropewalk_hub.gateway``.

It verifies tokens offline, keeps the last snapshot of routes and revocations, and answers on with it while the
platform is away. No database on this path, and user code never sees a credential. The parts: ``directory`` (the
snapshot), ``tokens``, ``sessions`` (browsers), ``pool`` and ``link`` (workers), ``functions``, ``services`` (HTTP and
websockets), ``app`` (routing and errors), ``front`` (the port itself, and ``plain`` calls at once).
"""
