"""The durable log of predictions and feedback: records, segments, writer."""
