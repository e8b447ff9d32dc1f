"""What crosses the wire between scheduler and workers: the pure load model, the messages, the queue."""
