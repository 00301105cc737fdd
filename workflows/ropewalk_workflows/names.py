"""What a manifest of ours and the engine both call things. Constants only."""

RUNNER_IMAGE = "ropewalk/runner:0.1"
RUNNER_COMMAND = ("python", "-m", "ropewalk_runtime.step")
MOUNT = "/ropewalk"
STEP = "ropewalk.dev/step"
PLACEMENT = "ropewalk.dev/placement"
CACHE = "ropewalk.dev/cache"
RETURNS = "ropewalk.dev/returns"
ACCELERATOR_LABEL = "ropewalk.dev/accelerator"
ARCH_LABEL = "kubernetes.io/arch"
TEST = "is-"
"""How the outputs begin that say whether a condition on a result holds."""
BUNDLES, VALUES = "bundles/", "values/"
