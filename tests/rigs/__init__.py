"""Test rigs: the instruments that reliability and security tests are made of.

========== ======================================================================================
hostile    what users and attackers send: injections (``injections``), nasty texts, JSON, times, ids
powervfs   power cuts: records what SQLite writes and yields the disks (``powerdisk``) cuts may leave
faultvfs   failing calls: the n-th write, sync, read, ... of a file raises a chosen error
ackpipe    ``kill -9`` at random times of a child that acknowledges each operation on stdout
ticks      cancels a coroutine at each point where it waits
canary     needles, and the scanners that must not find them
========== ======================================================================================
"""
