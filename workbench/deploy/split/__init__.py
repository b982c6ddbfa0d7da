"""Split inference: the first layers on the device, the rest on a server, and what goes over the wire between.

``parts`` cuts a model where one value separates it, ``wire`` rounds and codes that value, ``plan`` tells
what each cut costs and finds the best, ``server`` and ``device`` run it as two processes.
"""
