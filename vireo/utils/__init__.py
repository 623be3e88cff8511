"""The ground floor: files, command line, devices, redaction; knows nothing of videos or models."""
