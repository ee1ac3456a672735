"""The table of tasks and the templates that turn their records into text."""
