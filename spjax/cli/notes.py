"""Notes to the user on standard error."""

import sys


def print_note(text: str) -> None:
    """Prints what a user should know before believing the output."""
    print(f"spjax: note: {text}", file=sys.stderr)
