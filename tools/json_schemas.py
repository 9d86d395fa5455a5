"""Prints the published JSON schemas: `python tools/json_schemas.py > docs/schemas.json`."""

from __future__ import annotations

import json

from imapipe.contrib.models import json_schemas

if __name__ == "__main__":
    print(json.dumps(json_schemas(), indent=1, sort_keys=True, ensure_ascii=False))
