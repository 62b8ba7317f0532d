"""Load on a server: requests as cameras send them, what they cost, and a model of both."""
