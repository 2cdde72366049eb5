"""Extensions made ready to be used: sets of handlers that belong together, each in a file of its own.

``HookRegistry().use(ResponseCache(), CallMetrics())`` adds them to a model, ``open_engine(hooks=...)`` to every call of
an engine. Each stands on what any handler has, and nothing imports them but whoever wants them.
"""
