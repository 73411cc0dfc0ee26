"""What clients send and get: bytes to requests and outputs to bytes. No socket, no process, no clock."""
