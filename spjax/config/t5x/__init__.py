"""Translation of T5X's gin files and launch scripts into spjax's.

Nothing of T5X is imported, and nothing in its files is executed: gin's own parser reads them.
"""
