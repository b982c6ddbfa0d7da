"""A model cut between a device and a server."""
