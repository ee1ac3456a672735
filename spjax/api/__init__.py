"""The functions behind `import spjax`: models, tasks, training, prediction, prompts, own loops.

The names are those of `spjax` itself, which imports them on first use. The command line calls the
same functions.
"""
