"""Several servers behind one transport: health, retries, fairness."""
