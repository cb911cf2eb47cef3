"""Vector indexes are put off while many vectors come into an empty table, and are there afterwards."""

from __future__ import annotations

import psycopg
import pytest

from pattern_db.engines.base import BulkLoads
from pattern_db.testing.rows import MESSAGES, add, agent, embedding, message, space, vector

from .test_postgres import store_on

pytestmark = pytest.mark.slow


def indexes(url: str) -> list[str]:
    sql = "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'embeddings_near_%' ORDER BY 1"
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(sql).fetchall()]


async def test_indexes_are_put_off_made_at_the_end_and_mended_by_optimize(postgres: str) -> None:
    store = await store_on(postgres)
    assert isinstance(store, BulkLoads)
    await space(store)
    await add(store, agent("flux"), *(rows := [message(f"m{n}") for n in range(3)]))
    with pytest.raises(ZeroDivisionError):
        async with store.loading():
            assert indexes(postgres) == []
            await add(store, *(embedding(row, vector(1, n)) for n, row in enumerate(rows)))
            raise ZeroDivisionError
    assert indexes(postgres) == ["embeddings_near_1"]
    async with store.loading():
        assert indexes(postgres) == ["embeddings_near_1"], "rows are there: it is kept"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP INDEX embeddings_near_1")
    await store.optimize()
    assert indexes(postgres) == ["embeddings_near_1"]
    found = await store.vector_search(MESSAGES, vector(1), space=1, agent_ids=["flux"], limit=3)
    assert found[0][0] == "m0"
    await store.close()
