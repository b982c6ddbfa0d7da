"""Watching a deployed model: drift, confidence, latency, and agreement with the dense model, in bounded memory.

``reference`` remembers what was normal, ``drift`` tests a window of predictions against it, ``watch`` wraps
a runner, ``shadow`` runs the dense model beside it on a sample, ``metrics`` tells Prometheus, ``server``
serves predictions and figures over HTTP, and ``reading`` asks a server for them. ``rehearsal`` sends a session's
own images through a monitor before anything is deployed.
"""
