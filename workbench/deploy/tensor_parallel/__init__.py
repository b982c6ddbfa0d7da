"""Tensor parallelism: each process holds a part of the channels of every large layer, and they add up the outputs.

``plan`` finds what can be shared out, ``parts`` makes each process's module, ``compare`` runs it beside one
process, ``predict`` tells what more processes would give. The processes are those of ``deploy.pipeline``.
"""
