"""What happens around a model: files, journal, devices, inference, statistics, provenance."""
