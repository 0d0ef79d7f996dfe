"""The pipeline, or one of its steps alone, on this machine: as processes or in containers."""
