"""The methods of `files` that keep files from being removed while a connection relies on them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from fusestore.control.files import one_of
from fusestore.control.methods import Arguments, Call, Method, Role
from fusestore.errors import ControlError

IDS_MAX: Final = 1000
OWNER_MAX: Final = 255


class Claim(Arguments):
    """Files by their ids, and what others are told of who needs them."""

    ids: Annotated[list[str], Meta(min_length=1, max_length=IDS_MAX)]
    owner: Annotated[str, Meta(min_length=1, max_length=OWNER_MAX)]


def reserve(call: Call, claim: Claim) -> dict[str, Any]:
    """Keep files from being removed, replaced and expired until they are released, or this connection ends."""
    ids = call.queries.reserve(_ids(claim), claim.owner, call.connection, call.asker(Role.OPERATOR))
    return {"reserved": ids}


def release(call: Call, claim: Claim) -> dict[str, Any]:
    """Give up what this owner has reserved by this connection; says how many of the files those were."""
    return {"released": call.queries.unreserve(_ids(claim), claim.owner, call.connection, call.asker(Role.OPERATOR))}


def _ids(claim: Claim) -> list[str]:
    ids = [one_of(None, each) for each in dict.fromkeys(claim.ids)]
    if not claim.owner.isprintable():
        raise ControlError("bad_data", "data: owner has characters that cannot be shown")
    return [each for each in ids if each is not None]


METHODS: Final = {
    "reserve": Method(reserve, Claim, Role.ANYONE),
    "release": Method(release, Claim, Role.ANYONE),
}
