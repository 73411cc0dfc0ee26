"""How a run's state gets out of memory and back: packing, snapshots, the writer, the places it writes to, retention."""
