"""Training: methods, the recovery ladder, the jobs and their curves."""
