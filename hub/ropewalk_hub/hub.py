"""JupyterHub with our configuration: ``python -m ropewalk_hub.hub``, what the hub's pod runs.

It finds the configuration beside itself, so that no chart must know where Python keeps packages. On one machine the
supervisor starts JupyterHub with the same file. Not here: the configuration (``jupyterhub_config.py``).
"""

from __future__ import annotations

from pathlib import Path

from jupyterhub.app import main as serve

CONFIG = Path(__file__).with_name("jupyterhub_config.py")


def main() -> None:
    """Run the hub until it is ended."""
    serve(["-f", str(CONFIG)])


if __name__ == "__main__":
    main()
