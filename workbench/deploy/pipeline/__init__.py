"""Pipeline parallelism: consecutive layers on several processes, microbatches flowing through them.

``stages`` balances the layers by their measured times, ``worker`` is one process of a run by
``torch.distributed``, ``run`` starts them and measures, ``predict`` tells what more stages would give.
"""
