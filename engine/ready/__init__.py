"""Extensions made ready to be used: handlers that belong together, for ``HookRegistry().use(...)``.

Each file holds one of them. They use only what any user's own extension may use: the call, and the phases of
`engine.hooks`.
"""
