"""The paper's cost tables: what was reported, what was measured here, and against what."""
