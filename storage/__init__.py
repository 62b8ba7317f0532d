"""Files: cache folders, atomic writes, text in UTF-8; the standard library alone."""
