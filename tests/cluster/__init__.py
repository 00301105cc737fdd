"""A real Kubernetes cluster on one machine, in namespaces of its own, for the tests of the `kube` backend.

``python -m tests.cluster up --profile core`` builds what lacks and starts it; ``down`` leaves nothing behind. The API
server, controllers, kubelets, registry and the rest are the real programs at pinned versions. What is ours, and a test
fixture only, says so where it is defined: the volume provisioner, the network-policy enforcer, the accelerators that
the second node claims to have, and the architecture it claims to be.
"""
