"""The backend of a Kubernetes cluster: its API server, a namespace per account, and what the ports become there."""
