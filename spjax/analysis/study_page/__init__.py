"""One self-contained HTML page of one or more studies; `page.write` writes it."""
