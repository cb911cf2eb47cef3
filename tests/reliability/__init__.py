"""Reliability: what a user may rely on when processes die, disks fail, tasks are cancelled and
inputs are hostile. Every promise is checked through the public API and on real files.

``tiny`` embeds, ``load`` does one of everything and says what was acknowledged, ``soundness``
compares a file with itself; the tests bring the disasters.
"""
