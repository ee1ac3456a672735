"""Executors, one file each; each has a class with the interface of `local.Local`."""
