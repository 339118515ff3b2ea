"""vethctl top: a live view of rates.

command.py is the command and its loop, source.py asks the daemon in a thread of its own, rates.py turns what it says
into rates, screen.py lays them out, and terminal.py has keys and signals. Only screen.py and command.py import rich.
"""
