"""What the Snakefile asks: plan, resources, clean-up at the start."""
