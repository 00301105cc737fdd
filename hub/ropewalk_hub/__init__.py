"""Processes of the platform: supervisor, web application, issuer, gateway, spawner."""
