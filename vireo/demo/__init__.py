"""The live page of the streaming model."""
