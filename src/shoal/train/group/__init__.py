"""How the members of a run talk to each other: on one host through shared memory, across hosts through sockets."""
