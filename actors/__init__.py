"""The kernel of Penstock: messages, time, permits, and the actors that exchange the one for the others.

Three actors share one trio loop: the scheduler owns every limit, an endpoint actor owns the connections to one provider
account, the hook bus tells observers. They talk only through mailboxes of encoded messages. The files `messages`,
`limits`, `meters`, `lanes`, `ledger`, `retrying`, `admission`, `moves` and `schedule` are pure: a schedule can be run
without a clock, a loop or a socket.

This package knows no provider, no HTTP and no logging, and never imports `engine`.
"""
