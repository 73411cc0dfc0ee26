"""Where code runs in a job whose processes another launcher has started: torchrun, Slurm and their like."""
