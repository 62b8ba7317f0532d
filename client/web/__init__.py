"""The live page of a gateway."""
