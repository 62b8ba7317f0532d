"""`fgmclip watch`: many cameras, one process each, into events."""
