"""What takes part beside our server, a module a family; all that needs torch runs in children."""
