"""The measuring commands: each module prints one set of figures the project promises.

``python -m tests.bench`` runs those there are; ``python -m tests.bench estimator`` runs one.
"""
