"""Who may do what to a block."""

from __future__ import annotations

import enum

from ..errors import PermissionDenied
from ..models import MemoryBlock, Permission, SharedBlock


class Act(enum.StrEnum):
    """What somebody wants to do to a block."""

    APPEND = "append to"
    OVERWRITE = "overwrite"
    DELETE = "delete"


_NEEDED = {
    Act.APPEND: Permission.APPEND,
    Act.OVERWRITE: Permission.READ_WRITE,
    Act.DELETE: Permission.ADMIN,
}
_CONSENT = {Permission.PARTNER, Permission.HUMAN}


def stricter(one: Permission, other: Permission) -> Permission:
    """The one that allows less."""
    return min(one, other, key=lambda permission: permission.rank)


def effective(block: MemoryBlock, attachment: SharedBlock | None) -> Permission:
    """What an agent may do: the stricter of the block's permission and its attachment's."""
    return (
        block.permission
        if attachment is None
        else stricter(block.permission, attachment.permission)
    )


def check(block: MemoryBlock, attachment: SharedBlock | None, act: Act, *, consent: bool) -> None:
    """Raise ``PermissionDenied`` unless both the block and the attachment allow the act.

    ``partner`` and ``human`` allow appending and overwriting once that person consented.
    """
    _check(block.permission, act, block, consent=consent)
    if attachment is not None:
        _check(attachment.permission, act, block, consent=consent)


def _check(permission: Permission, act: Act, block: MemoryBlock, *, consent: bool) -> None:
    consented = consent and permission in _CONSENT and act is not Act.DELETE
    if consented or permission.rank >= _NEEDED[act].rank:
        return
    ask = " without that person's consent" if permission in _CONSENT else ""
    raise PermissionDenied(
        f"A block with permission {permission.value} does not allow to {act.value} it{ask} "
        f"(block {block.id}); change the permission of the block or of its attachment."
    )
