"""Notes to the user on standard error."""

import sys


def print_note(text: str) -> None:
    """Prints what a user should know before believing the output."""
    print(f"spjax: note: {text}", file=sys.stderr)


class LimitedNotes:
    """Notes of one kind, of which the first are printed and the others counted."""

    def __init__(self, subject: str, limit: int) -> None:
        """Makes an empty list.

        Args:
          subject: of the notes, in the plural.
          limit: notes that are printed.
        """
        self._subject, self._limit, self._count = subject, limit, 0

    def add(self, text: str) -> None:
        """Prints a note, unless there have been many."""
        self._count += 1
        if self._count <= self._limit:
            print_note(text)

    def print_count(self) -> None:
        """Prints how many notes were left out, if any were."""
        if (left_out := self._count - self._limit) > 0:
            print_note(f"{left_out} more notes on {self._subject} are not shown")
