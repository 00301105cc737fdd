"""What goes wrong in an expression: one class, which knows where."""

from __future__ import annotations


class BadExpression(ValueError):
    """It cannot be read or has no value.

    Parameters
    ----------
    message
        What is wrong, without an end.
    at
        The character where, counted from 1; 0 when it is about the whole.
    """

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(message)
        self.message, self.at = message, at

    def __str__(self) -> str:
        return f"{self.message} (at character {self.at} of the expression)" if self.at else self.message
