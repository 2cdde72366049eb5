"""Extensions made ready to be used: sets of handlers that belong together, each in a file of its own.

``HookRegistry().use(ResponseCache())`` adds one to a model, ``open_engine(hooks=...)`` to every call of an engine. Each
uses only what any user's own extension may use: the call, and the phases of `engine.hooks`. `engine` exports them.
"""
