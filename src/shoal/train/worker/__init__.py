"""One worker of a run, as it lives in its own process: it builds its state once and takes part in many generations."""
