"""One module an engine, found by the entry-point group ``loads.engines``."""
