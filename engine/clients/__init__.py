"""Code that was written against other systems runs here: one package for each of them, a thin face over the engine.

`engine.clients.lionfuncs`, `engine.clients.aixplain` and `engine.clients.inferneo` have the names, the arguments and
the answers of what they stand for; underneath are the engine's own calls, with its limits, deadlines and cancellation.
Nothing here opens a socket or schedules anything.
"""
