"""A study is a table of runs: its plan, the runner, the worker processes and the results."""
