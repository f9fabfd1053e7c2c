"""Check all rows of a table in one test; the failure names each row that fails."""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest


def check_every(rows: Mapping[str, Any], check: Callable[[Any], None]) -> None:
    """Call `check` on each row; fail with the name, the error and the line of every row for which it raises."""
    failures = []
    for name, row in rows.items():
        try:
            check(row)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  continue with the other rows after any error
            place = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(f"{name}: {place.filename}:{place.lineno}: {type(error).__name__}: {error}")
    if failures:
        pytest.fail("\n".join([f"{len(failures)} of {len(rows)} rows fail", *failures]), pytrace=False)
