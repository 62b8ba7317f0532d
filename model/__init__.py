"""Placeholder of the room; see its README."""
