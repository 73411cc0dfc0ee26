"""From stored rows to batches: order, gather, prepare, decode, hand out, and where to go on after a stop."""
