"""One file per way of running gangs; each has a class with the interface of `local.Local`."""
