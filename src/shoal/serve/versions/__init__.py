"""The versions of models that are served: what each takes, what its batches cost, its part of the traffic."""
