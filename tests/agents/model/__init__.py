"""A model server on loopback that answers what a script in the prompt says."""
