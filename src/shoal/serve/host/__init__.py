"""The supervisor: starts fronts and replicas, keeps them alive, and follows what is to be served."""
