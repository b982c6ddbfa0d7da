"""Trainings as jobs: in a process of their own, queued, stopped and found again; the ladder of repairs."""
