"""A real PostgreSQL for tests, benchmarks and examples: the distribution's package, on loopback, on a port of its own.

::

    with PostgresServer() as server:
        connection = psycopg.connect(server.new_database())
"""

from __future__ import annotations

from child_server import HOST
from postgres_server.bouncer import PgBouncer, find_pgbouncer
from postgres_server.server import PostgresServer, find_postgres

__all__ = ["HOST", "PgBouncer", "PostgresServer", "find_pgbouncer", "find_postgres"]
