"""The rooms with sockets and processes: everything that carries a call to a provider and its answer back.

Each module here implements the `Transport` protocol of `actors.transport`. They turn whatever a network or a program
does into an `Answer`, and know nothing of lanes, quotas or retries. httpx and httptools are imported only here.
"""
