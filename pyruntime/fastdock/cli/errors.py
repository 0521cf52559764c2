"""Errors as the command line shows them."""

from __future__ import annotations

from fastdock._errors import FastdockError


def describe(error: FastdockError) -> str:
    """The message, and the hint where the message does not have it already."""
    text = str(error)
    return f"{text} ({error.hint})" if error.hint and error.hint not in text else text
