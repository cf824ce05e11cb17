"""Splits, metrics, intervals, shortcut baselines, model cards and the paper's tables. No torch.

- ``splits``: the part of each breast, without a leak.
- ``training_record``: results of a training. ``pooled``: of several, as one. ``code_digest``, ``outdated``: whether they are of
  the present code, settings and shards.
- ``evaluate``: predictions -> ``metrics``, with ``shortcuts`` (baselines that need no image); ``text`` prints them.
- ``tables``: the paper's tables beside ours. ``model_card``: cards and reporting checklists.
"""
