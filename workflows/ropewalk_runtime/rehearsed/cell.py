"""What a spare worker loads before it has an order; see ``rehearsal``."""


def handler(value: int) -> int:
    """Do nothing."""
    return value
