"""Exit statuses of the command line."""

FAILED = 1
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT
