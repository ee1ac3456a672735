"""The exception with which a caller ends training early."""


class StopRequested(Exception):
    """Raised by `on_progress` of `spjax.training.loop.train`: save the runs, and end."""
