"""`penstock providers`: the catalogue as a table, and which keys are set.

Plain text in columns, so that it survives a pipe. It looks whether a variable is set and never shows what is in it.
"""

from __future__ import annotations

import os

from engine.providers.lookup import registered_providers


def providers() -> None:
    """List the known providers: address, key variable, and whether it is set.

    Any other service that speaks OpenAI's formats can be used by its address: --base-url.
    """
    table = [("provider", "endpoints", "address", "key variable", "set")]
    for row in registered_providers():
        found = [variable for variable in row.key_env if os.environ.get(variable, "").strip()]
        variables = " or ".join(row.key_env)
        table.append(
            (
                row.name,
                ", ".join(endpoint.name for endpoint in row.endpoints),
                row.base_url,
                variables if row.key_required else f"{variables} (optional)",
                found[0] if found else "not set",
            )
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
