"""From decisions to events that are not lost."""
