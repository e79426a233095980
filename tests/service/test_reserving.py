"""Reserved files stay, whoever wants to remove or replace them, until they are released."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from fusestore.core.rights import Asker
from fusestore.errors import Forbidden, IsADirectory, NotFound, Reserved, TooMany, errno_of
from fusestore.service import renaming, reservations
from tests.service.fake_queries import ID
from tests.service.served import World, until
from tests.service.test_listing import HOT, queries
from tests.support.byhand import finish

if TYPE_CHECKING:
    from tests.support.opened import Opened

pytestmark = pytest.mark.timeout(60)
HERE, THERE = object(), object()


def planted(opened: Opened, name: str = "a") -> str:
    opened.write(f"{HOT}/{name}", name.encode())
    opened.settle()
    return str(queries(opened).record(opened.find(f"{HOT}/{name}"))["id"])


def test_a_reserved_file_is_neither_removed_nor_replaced_and_released_it_is(opened: Opened) -> None:
    ask, id = queries(opened), planted(opened)
    planted(opened, "b")
    assert ask.reserve([id], "rnaseq", HERE, None) == [id]
    with pytest.raises(Reserved, match="by rnaseq") as caught:
        opened.unlink(f"{HOT}/a")
    assert errno_of(caught.value) == errno.EBUSY
    with pytest.raises(Reserved):
        opened.rename(f"{HOT}/b", f"{HOT}/a")
    with pytest.raises(Reserved):
        opened.drop(f"{HOT}/a", "hot", force_last=True)
    told, answers = finish(ask.explain(id))
    assert told["reserved"] == ["rnaseq"]
    assert told["code"] == "reserved"
    assert isinstance(next(answer for answer in answers if answer.call == "rm").refusal, Reserved)
    assert [entry.command for entry in opened.store.index.journal(opened.stat(f"{HOT}/a").id)] == ["write"]
    assert ask.unreserve([id], "rnaseq", HERE, None) == 1
    assert ask.unreserve([id], "rnaseq", HERE, None) == 0
    opened.rename(f"{HOT}/b", f"{HOT}/a")
    opened.unlink(f"{HOT}/a")
    assert not opened.store.reservations


def test_it_can_be_written_renamed_and_swapped_all_the_same(opened: Opened) -> None:
    ask, id = queries(opened), planted(opened)
    planted(opened, "b")
    ask.reserve([id], "me", HERE, None)
    opened.write(f"{HOT}/a", b"new")
    opened.rename(f"{HOT}/a", f"{HOT}/c")
    opened.rename(f"{HOT}/b", f"{HOT}/c", renaming.EXCHANGE)
    opened.unlink(f"{HOT}/c")
    assert opened.read(f"{HOT}/b") == b"new"
    opened.link(f"{HOT}/b", f"{HOT}/d")
    with pytest.raises(Reserved):
        opened.unlink(f"{HOT}/d")
    opened.rename(f"{HOT}/d", f"{HOT}/b")  # two names of one file: nothing is replaced
    ask.unreserve_all(HERE)


def test_each_owner_of_each_connection_holds_it_for_itself(opened: Opened) -> None:
    ask, id = queries(opened), planted(opened)
    ask.reserve([id], "one", HERE, None)
    ask.reserve([id], "one", HERE, None)
    ask.reserve([id], "two", HERE, None)
    ask.reserve([id], "one", THERE, None)
    assert ask.unreserve([id], "three", HERE, None) == 0
    assert ask.unreserve([id], "one", HERE, None) == 1
    assert ask.record(opened.find(f"{HOT}/a"))["reserved"] == ["one", "two"]
    ask.unreserve_all(THERE)
    assert ask.record(opened.find(f"{HOT}/a"))["reserved"] == ["two"]
    ask.unreserve_all(HERE)
    opened.unlink(f"{HOT}/a")


def test_all_are_reserved_or_none_and_only_by_whoever_may_write_them(opened: Opened) -> None:
    ask, id, other = queries(opened), planted(opened), planted(opened, "b")
    bob = Asker(4702, (4702,))
    opened.set(f"{HOT}/a", uid=4702)
    with pytest.raises(Forbidden):
        ask.reserve([id, other], "bob", HERE, bob)
    with pytest.raises(NotFound):
        ask.reserve([id, "01932f6c-7a55-7cde-8f01-23456789abcd"], "bob", HERE, bob)
    with pytest.raises(IsADirectory):
        ask.reserve([id, HOT], "bob", HERE, None)
    assert not opened.store.reservations
    ask.reserve([id], "bob", HERE, bob)
    ask.unreserve_all(HERE)


def test_a_connection_has_as_many_as_it_may_and_gives_them_up_at_once(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "MOST", 3)
    ask, ids = queries(opened), [planted(opened, name) for name in "abcd"]
    ask.reserve(ids[:3], "one", HERE, None)
    ask.reserve(ids[1:3], "one", HERE, None)
    for too_many, owner in ((ids, "one"), (ids[:1], "two")):
        with pytest.raises(TooMany) as caught:
            ask.reserve(too_many, owner, HERE, None)
        assert errno_of(caught.value) == errno.ENOLCK
    assert ask.record(opened.find(f"{HOT}/d"))["reserved"] == []
    ask.reserve(ids[1:], "two", THERE, None)
    ask.unreserve_all(HERE)
    assert not ask.has_reserved(HERE)
    assert len(opened.store.reservations) == 3


def test_who_releases_learns_nothing_of_what_it_has_not_reserved(opened: Opened) -> None:
    ask, id, hidden = queries(opened), planted(opened), planted(opened, "b")
    bob = Asker(4702, (4702,))
    opened.set(f"{HOT}/a", uid=4702)
    ask.reserve([id], "bob", HERE, bob)
    nowhere = "01932f6c-7a55-7cde-8f01-23456789abcd"
    assert ask.unreserve([hidden], "bob", HERE, bob) == ask.unreserve([nowhere], "bob", HERE, bob) == 0
    assert ask.unreserve([nowhere, id, hidden], "bob", HERE, bob) == 1


async def test_a_reservation_ends_with_its_connection(world: World) -> None:
    async with world.peer() as peer:
        assert (await peer.ask("files.reserve", ids=[ID], owner="me"))["data"] == {"reserved": [ID]}
        assert (await peer.ask("files.release", ids=[ID], owner="me"))["data"] == {"released": 1}
        await peer.ask("files.reserve", ids=[ID], owner="me")
        async with world.peer() as other:
            assert (await other.ask("files.release", ids=[ID], owner="me"))["data"] == {"released": 0}
        assert len(world.queries.reserved) == 1
        assert (await peer.ask("files.reserve", ids=[], owner="me"))["error"]["code"] == "bad_data"
        assert (await peer.ask("files.reserve", ids=[ID], owner="a\nb"))["error"]["code"] == "bad_data"
    await until(lambda: not world.queries.reserved)
