"""Triggers: what calls a function by itself, on a schedule, after an end, or when a file comes.

``cron`` says when schedules come due, ``wishes`` what a trigger may be, ``words`` how that reads, and ``occasions``
what makes it fire (all pure, and light enough for notebooks); ``records`` and ``book`` keep triggers in the journal and
in memory, ``watching`` notices files and ends, ``firing`` makes the calls, and ``desk`` is the port. Not here: the
durable call that each firing becomes; how to ask for one is given as a function. Rejected: a process of its own,
because the journal has one writer.
"""
