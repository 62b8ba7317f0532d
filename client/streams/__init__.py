"""Windows that slide along a stream, and clients of one stream."""
