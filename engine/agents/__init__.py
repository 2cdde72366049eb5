"""Coding agents that are command lines, and AG2: options in, a launch out; the program's events in, chunks out.

One file for each agent: what it can be asked for, how that becomes arguments, environment and private files, and what
its events mean. Nothing here starts a program: `engine.transports.process` does. Pure: no trio, no I/O.
"""
