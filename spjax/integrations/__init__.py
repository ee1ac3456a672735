"""spjax inside other programs. Each module imports the program that it is for."""
