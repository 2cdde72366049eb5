"""How every provider of the catalogue speaks: one file a family, one `Manner` an endpoint.

`catalogue` has the table of paths; `manner` what an endpoint must be able to say; `words` what all of them share. Each
manner reads requests, refuses what the real provider refuses, and writes answers, streams, errors and limit headers in
its shapes, which are those of the vendors' references and SDKs as of 2026-11-20. Nothing here decides about a request:
limits, faults and chance are the matter of `engine.simulator.provider`. It must not import the engine's own formats.

Pure: no trio, no I/O, no clock.
"""
