"""Large scopes are searched through a segment and a tail, and every commit is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from pattern_db import Agent, PatternDB, QueryFailed
from pattern_db.embeddings import Matrix, Vector
from pattern_db.engines.sqlite.vectors import SqliteSource
from pattern_db.vectors import Row, Scope, calibration
from pattern_db.vectors import scope as scopes
from pattern_db.vectors.building import Builder
from pattern_db.vectors.segment import header_of
from tests.reliability.segments import (
    DIMENSIONS,
    LARGE,
    MESSAGES,
    Spread,
    built,
    files,
    index_of,
    missing,
    nearest,
    same,
    say,
    texts,
    truth,
    vector_of,
    wrong,
)

from .conftest import MANY, Gate, opened, reached, segment_of

pytestmark = pytest.mark.slow


async def test_a_large_scope_gets_its_segment_while_searches_stay_right(
    db: PatternDB, flux: Agent, path: str, gate: Callable[[str], Gate]
) -> None:
    await say(db, flux.id, texts(LARGE - 1))
    assert await wrong(db, path, flux.id) == []
    adding = gate("_add")
    await say(db, flux.id, texts(20, "more"))
    assert await wrong(db, path, flux.id) == []
    await reached(adding)
    await say(db, flux.id, texts(20, "meanwhile"))
    assert await wrong(db, path, flux.id) == []
    assert files(path) == []
    adding.open.set()
    await built(db)
    assert len(files(path)) == 1
    assert await wrong(db, path, flux.id) == []
    await say(db, flux.id, texts(3, "after"))
    assert await missing(db, flux.id, [*texts(3, "after"), *texts(3, "meanwhile")]) == []
    assert await wrong(db, path, flux.id) == []


async def test_an_opened_database_uses_the_segment_that_is_there(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(path)[0].stat().st_ino
    monkeypatch.setattr(Builder, "add_page", None)
    async with opened(path) as again:
        assert await wrong(again, path, large.id) == []
        assert segment_of(again) is not None
        await built(again)
    assert files(path)[0].stat().st_ino == before


async def test_a_segment_grows_by_what_was_added_since(
    db: PatternDB, large: Agent, path: str
) -> None:
    await say(db, large.id, texts(LARGE + 1, "more"))
    assert await wrong(db, path, large.id) == []
    await built(db)
    assert header_of(files(path)[0]).count == MANY + LARGE + 1
    assert await wrong(db, path, large.id) == []


async def test_optimize_tells_how_far_it_is_and_leaves_nothing_to_do(
    db: PatternDB, flux: Agent, path: str
) -> None:
    await say(db, flux.id, texts(MANY))
    told: list[tuple[int, int]] = []
    await db.optimize(progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (MANY, MANY)
    file = files(path)[0].stat().st_ino
    await db.optimize()
    assert files(path)[0].stat().st_ino == file


async def test_a_graph_finds_nearly_all_of_the_nearest(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "EXPANSIONS", (64, 128, 256))
    async with opened(path) as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(1000))
        await db.optimize()
        assert header_of(files(path)[0]).expansion > 0
        found = expected = 0
        for n in range(50):
            nearby = {item for item, _ in await nearest(db, agent.id, f"question {n}")}
            real = {item for item, _ in truth(path, agent.id, f"question {n}")}
            found, expected = found + len(nearby & real), expected + len(real)
        assert found >= 0.98 * expected


async def test_a_graph_that_reaches_only_some_of_its_rows_hides_none(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = segment_of(db)
    real = segment.nearest
    monkeypatch.setattr(segment, "nearest", lambda *asked: (real(*asked)[0][:20], 20))
    assert same(
        await nearest(db, large.id, "all", 2 * MANY), truth(path, large.id, "all", 2 * MANY)
    )


async def test_only_rows_that_can_be_among_the_nearest_are_confirmed(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmed: list[int] = []
    real = SqliteSource.rows_numbered

    def seen(source: SqliteSource, scope: Scope, numbers: Sequence[int]) -> list[Any]:
        confirmed.append(len(numbers))
        return real(source, scope, numbers)

    monkeypatch.setattr(SqliteSource, "rows_numbered", seen)
    assert same(await nearest(db, large.id, "few"), truth(path, large.id, "few"))
    assert len(confirmed) == 1
    assert 10 <= confirmed[0] < 10 + calibration.SLACK


class Coarse(Spread):
    """Vectors of which one number is so large that integers hardly tell the others apart."""

    async def embed(self, text: str) -> Vector:
        return coarse(text)

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        return np.array([coarse(text) for text in texts], np.float32)

    async def embed_query(self, text: str) -> Vector:
        return coarse(text)


def coarse(text: str) -> Vector:
    vector = 0.05 * vector_of(text)
    vector[0] += 1
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


async def test_the_nearest_are_found_where_integers_hardly_tell_vectors_apart(path: str) -> None:
    async with opened(path, embeddings=Coarse()) as db:
        agent = await db.agents.create(name="Flux")
        said = texts(400)
        ids = dict(zip(said, await say(db, agent.id, said), strict=True))
        await db.optimize()
        vectors = np.array([coarse(text) for text in said])
        for n in range(50):
            question = coarse(f"question {n}")
            found = await db.store.vector_search(
                MESSAGES, question, space=1, agent_ids=[agent.id], limit=10
            )
            best = np.argsort(-(vectors @ question))[:10]
            assert {item for item, _ in found} == {ids[said[place]] for place in best}


async def test_what_is_gone_is_not_found_whoever_removed_it(
    db: PatternDB, large: Agent, path: str
) -> None:
    tail = await say(db, large.id, texts(20, "tail"))
    async with opened(path) as other:
        assert await wrong(other, path, large.id) == []
        for handle in (db, other):
            for act in (handle.messages.delete, handle.messages.purge):
                first = (await nearest(db, large.id, "where", 1))[0][0]
                gone = {first, tail.pop()}
                for id in gone:
                    await act(id)
                for each in (db, other):
                    found = await nearest(each, large.id, "where", 2 * MANY)
                    assert not gone & set(dict(found))
                    assert same(found, truth(path, large.id, "where", 2 * MANY))


async def test_what_was_rewritten_is_found_by_its_new_text(
    db: PatternDB, large: Agent, path: str
) -> None:
    first = (await nearest(db, large.id, "where", 1))[0][0]
    await db.messages.update(first, content="elsewhere")
    assert await missing(db, large.id, ["elsewhere"]) == []
    assert await wrong(db, path, large.id) == []


async def test_what_another_handle_wrote_is_found(db: PatternDB, large: Agent, path: str) -> None:
    async with opened(path) as other:
        assert await wrong(other, path, large.id) == []
        for n in range(5):
            await say(db, large.id, [f"news {n}"])
            assert await missing(other, large.id, [f"news {n}"]) == []


async def test_what_goes_after_a_search_failed_half_way_is_not_found(
    db: PatternDB, flux: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await say(db, flux.id, texts(LARGE // 2))
    real = scopes.pages

    def half(source: Any, scope: Scope, after: int) -> Iterator[list[Row]]:
        for page in real(source, scope, after):
            yield page[:10]
            raise QueryFailed("the disk cannot be read")

    with monkeypatch.context() as failing:
        failing.setattr(scopes, "pages", half)
        with pytest.raises(QueryFailed):
            await nearest(db, flux.id, "anything")
    await db.messages.delete(ids[0])
    assert ids[0] not in [item for item, _ in await nearest(db, flux.id, "text 0", LARGE)]
    assert await wrong(db, path, flux.id) == []


async def test_what_is_at_hand_is_so_until_somebody_writes(
    db: PatternDB, flux: Agent, path: str
) -> None:
    await say(db, flux.id, texts(LARGE // 2))
    scope = Scope(db.embeddings.space or 1, flux.id, "message")

    async def at_hand() -> bool:
        found: bool = await db.store._read(  # type: ignore[attr-defined]
            lambda c: index_of(db).is_at_hand(SqliteSource(c), [scope], DIMENSIONS)
        )
        return found

    assert not await at_hand()
    await nearest(db, flux.id, "anything")
    assert await at_hand()
    async with opened(path) as other:
        (newest,) = await say(other, flux.id, ["written elsewhere"])
    assert not await at_hand()
    assert (await nearest(db, flux.id, "written elsewhere", 1))[0][0] == newest
    assert await at_hand()


async def test_a_filter_that_leaves_ten_gets_its_ten(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scopes, "MOST_COMPARED", 40)
    turns = [{"role": "system", "content": f"rare {n}"} for n in range(10)]
    rare = {m.id for m in await db.messages.append_many(large.id, turns)}
    await say(db, large.id, texts(100, "more"))
    await db.optimize()
    for question in texts(5, "question"):
        hits = await db.search(large.id, question, mode="semantic", roles=["system"], limit=10)
        assert {hit.item.id for hit in hits} == rare


async def test_what_is_excluded_makes_room_for_the_next(
    db: PatternDB, large: Agent, path: str
) -> None:
    await say(db, large.id, texts(5, "tail"))
    ranked = [item for item, _ in truth(path, large.id, "where", 60)]
    found = await nearest(db, large.id, "where", 10, exclude=ranked[:50])
    assert [item for item, _ in found] == ranked[50:60]


async def test_several_agents_are_searched_together_and_apart(
    db: PatternDB, large: Agent, path: str
) -> None:
    other, few = [await db.agents.create(name=name) for name in ("Other", "Few")]
    await say(db, other.id, texts(MANY, "other"))
    await say(db, few.id, texts(5, "few"))
    await db.optimize()
    assert len(files(path)) == 2
    for agents in ([large.id], [other.id], [few.id], [large.id, other.id, few.id]):
        assert await wrong(db, path, agents) == []


async def test_a_long_message_is_found_once_by_its_best_part(
    db: PatternDB, flux: Agent, path: str
) -> None:
    await say(db, flux.id, [" ".join(texts(50, f"long {n}")) for n in range(40)])
    await db.optimize()
    await say(db, flux.id, [" ".join(texts(50, f"longer {n}")) for n in range(5)])
    assert len(files(path)) == 1
    found = await nearest(db, flux.id, "where", 100)
    assert len(found) == len(dict(found)) == 45
    assert await wrong(db, path, flux.id) == []


async def test_uncommitted_messages_are_found_inside_and_never_outside(
    db: PatternDB, large: Agent, path: str
) -> None:
    gone = (await nearest(db, large.id, "where", 1))[0][0]
    async with opened(path) as other:
        with pytest.raises(KeyError):
            async with db.transaction():
                await say(db, large.id, ["undone"])
                await db.messages.delete(gone)
                assert await missing(db, large.id, ["undone"]) == []
                assert gone not in dict(await nearest(db, large.id, "where", MANY))
                assert await wrong(other, path, large.id) == []
                assert gone in dict(await nearest(other, large.id, "where", MANY))
                raise KeyError
        await say(db, large.id, ["said with the number of what was undone"])
        for each in (db, other):
            assert await missing(each, large.id, ["said with the number of what was undone"]) == []
            assert await wrong(each, path, large.id) == []


async def test_the_scores_of_named_items_are_exact(db: PatternDB, large: Agent, path: str) -> None:
    await say(db, large.id, texts(5, "tail"))
    expected = truth(path, large.id, "where", 2 * MANY)
    found = await db.store.vector_scores(
        MESSAGES,
        vector_of("where"),
        space=db.embeddings.space,
        agent_ids=[large.id],
        ids=[item for item, _ in expected] + ["nothing"],
    )
    assert same(sorted(found.items(), key=lambda pair: -pair[1]), expected)


async def test_a_segment_that_comes_while_scores_are_asked_hides_nothing(
    db: PatternDB, flux: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail begins after the segment, so both have to be looked at in one go."""
    ids = await say(db, flux.id, texts(LARGE - 1))
    assert await wrong(db, path, flux.id) == []
    (scope,) = index_of(db)._scopes.values()
    await say(db, flux.id, texts(2, "more"))
    lock = scope._lock

    class Late:
        """Somebody else has the lock first, and gives the scope a segment."""

        def locked(self) -> bool:
            return False

        def __enter__(self) -> None:
            scope._lock = lock
            index_of(db).build(scope.scope, DIMENSIONS)
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    scope._lock = Late()
    found = await db.store.vector_scores(
        MESSAGES,
        vector_of("where"),
        space=db.embeddings.space,
        agent_ids=[flux.id],
        ids=ids,
    )
    assert scope.segment is not None
    assert len(found) == len(ids)
