"""The platform as a library: nouns, ports, journal and backends. It imports no web server and no JupyterHub."""
