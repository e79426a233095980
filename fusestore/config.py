"""The settings of a store: `STORE/fusestore.toml` parsed into one frozen object, or one line that says what is wrong.

No disk is touched here beyond that file and the resolving of paths; whether a root's directory is there is for `roots`
to say. Each key carries in its annotation the sentence of what is legal for it; the error messages are made from it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, get_type_hints

import msgspec
import tomlkit
from msgspec import Meta, Struct
from tomlkit.items import InlineTable

from fusestore.errors import StoreError, UsageError
from fusestore.model import Outside, Watching

if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIG_NAME: Final = "fusestore.toml"
ROOT_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
UPLOADS_NAME: Final = "uploads"
DOWNLOADS_NAME: Final = "downloads"
INDEX_NAME: Final = "index"

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file. Each key's `Meta.description` completes the sentence "expected …"."""


class Mount(_Section, frozen=True):
    """[mount]: how the kernel shows the tree."""

    allow_other: Annotated[bool, Meta(description="true or false")] = False
    writeback: Annotated[bool, Meta(description="true or false")] = False
    prefer: Annotated[tuple[str, ...], Meta(description='names of roots, such as ["fast", "big"]')] = ()


_Names = Annotated[tuple[str, ...], Meta(description='names of users, or of groups as in ["alice", "@lab"]')]


class Control(_Section, frozen=True):
    """[control]: the socket."""

    mode: Annotated[str, Meta(pattern="^0[0-7]{3}$", description='an octal mode in quotes, such as "0600"')] = "0600"
    socket: Annotated[str, Meta(pattern=r"^[^\x00]+$", description="a path, absolute or below the store")] = (
        "control.sock"
    )
    group: Annotated[str, Meta(description='the name of a group, such as "lab", or ""')] = ""
    readers: _Names = ()
    operators: _Names = ()
    admins: _Names = ()

    @property
    def mode_bits(self) -> int:
        """The socket's permission bits."""
        return int(self.mode, 8)


class Hash(_Section, frozen=True):
    """[hash]: how content is named."""

    algorithm: Annotated[Literal["blake3", "sha256"], Meta(description='"blake3" or "sha256"')] = "blake3"


class IndexSettings(_Section, frozen=True):
    """[index]: the database."""

    map_bytes: Annotated[
        int, Meta(ge=16 * _MIB, le=1 << 46, description="a number of bytes, 16 MiB (16777216) or more")
    ] = 64 * _GIB
    commit_s: Annotated[float, Meta(gt=0, le=60, description="a number of seconds above 0 and up to 60")] = 1.0


class Events(_Section, frozen=True):
    """[events]: the feed."""

    keep: Annotated[int, Meta(ge=1, description="a number of events, 1 or more")] = 1_000_000
    keep_days: Annotated[float, Meta(ge=0, description="a number of days, 0 for no limit")] = 0.0
    keep_unacked: Annotated[int, Meta(ge=1, description="a number of events, 1 or more")] = 10_000_000


class Moves(_Section, frozen=True):
    """[moves]: the copying between roots."""

    workers: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 8
    per_pair: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 2
    rate: Annotated[int, Meta(ge=0, description="a number of bytes a second, 0 for no limit")] = 0


class Scrub(_Section, frozen=True):
    """[scrub]: reading everything again now and then."""

    every_days: Annotated[float, Meta(ge=0, le=36500, description="a number of days, 0 for never by itself")] = 0
    rate: Annotated[int, Meta(ge=0, description="a number of bytes a second, 0 for no limit")] = 32 * _MIB


class Log(_Section, frozen=True):
    """[log]: what the daemon says."""

    level: Annotated[
        Literal["", "debug", "info", "warning", "error"], Meta(description='"debug", "info", "warning" or "error"')
    ] = ""


class _RootTable(_Section, frozen=True):
    path: Annotated[
        str, Meta(pattern=r"^[^\x00]+$", description="a directory's path in quotes, absolute or below the store")
    ]
    outside: Annotated[Outside | None, Meta(description='"none", "readers" or "writers"')] = None
    read_only: Annotated[bool, Meta(description="true or false")] = False
    copies: Annotated[int, Meta(ge=1, le=16, description="a whole number from 1 to 16")] = 1
    trash_s: Annotated[int, Meta(ge=0, le=10**9, description="a number of seconds, 0 for no trash")] = 0
    trash_removed: Annotated[bool, Meta(description="true or false")] = False
    watch: Annotated[Watching, Meta(description='"listeners", "always" or "never"')] = Watching.LISTENERS


class RootConfig(Struct, frozen=True):
    """One storage place, as the config says it."""

    name: str
    path: Path  # absolute; symlinks in it are the operator's and stay
    outside: Outside
    read_only: bool = False
    copies: int = 1  # of each file, its own place among them
    trash_s: int = 0  # how long bytes that are not needed any more are kept; 0: not at all
    trash_removed: bool = False  # those of removed names too, and not only what moves leave behind
    watch: Watching = Watching.LISTENERS  # when changes by others are looked out for; only where they write


class Config(Struct, frozen=True):
    """Every setting of one store."""

    store: Path  # absolute
    mount: Mount
    control: Control
    hash: Hash
    index: IndexSettings
    events: Events
    moves: Moves
    scrub: Scrub
    log: Log
    roots: tuple[RootConfig, ...]  # the resource roots, in the file's order

    @property
    def areas(self) -> tuple[RootConfig, RootConfig]:
        """The landing areas that every store has: uploads, downloads."""
        return tuple(  # type: ignore[return-value]  # a generator of two is a pair
            RootConfig(name, self.store / name, Outside.NONE) for name in (UPLOADS_NAME, DOWNLOADS_NAME)
        )

    @property
    def socket(self) -> Path:
        """Where the control socket is."""
        return self.store / self.control.socket


_SECTIONS: Final[dict[str, type[_Section]]] = {
    "mount": Mount,
    "control": Control,
    "hash": Hash,
    "index": IndexSettings,
    "events": Events,
    "moves": Moves,
    "scrub": Scrub,
    "log": Log,
}


def default_toml() -> str:
    """The text of a new store's config: one resource root, `main`, and the defaults as comments."""
    return resources.files("fusestore").joinpath("default.toml").read_text()


def load(store: Path) -> Config:
    """Read and check the config of the store at `store`.

    Raises:
        StoreError: there is no store at this path.
        UsageError: the config is wrong; one line with the file, the key, what was expected and what was found.
    """
    store = Path(os.path.abspath(store))
    return _parse(store, _read(store))


def add_root(store: Path, name: str, directory: Path, outside: Outside | None = None) -> Config:
    """Declare the resource root `name` at `directory`, which is made if missing; comments and order of the file stay.

    The file is replaced as a whole and durably, or not at all. Returns the config as it is from now on.

    Raises:
        StoreError: there is no store at this path.
        UsageError: the name or the directory cannot be used, or the present config is wrong.
    """
    store = Path(os.path.abspath(store))
    directory = Path(os.path.abspath(directory))
    file = Path(os.path.realpath(store / CONFIG_NAME))
    _read(store)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two `root add` at once: both roots are kept
        text = _read(store)
        if any(root.name == name for root in _parse(store, text).roots):
            raise UsageError(f"{store / CONFIG_NAME}: roots.{name}: there is a root of this name already")
        below = directory.is_relative_to(store)
        text = _with_root(text, name, str(directory.relative_to(store) if below else directory), outside)
        config = _parse(store, text)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{directory} cannot be a root's directory: {error.strerror}") from None
        _replace(file, text, folder)
    finally:
        os.close(folder)
    return config


def _with_root(text: str, name: str, path: str, outside: Outside | None) -> str:
    document = tomlkit.parse(text)
    roots = document.get("roots")
    if roots is None:
        roots = document["roots"] = tomlkit.table(is_super_table=True)
    table = tomlkit.inline_table() if isinstance(roots, InlineTable) else tomlkit.table()
    table["path"] = path
    if outside is not None:
        table["outside"] = outside.value
    roots[name] = table
    return tomlkit.dumps(document)


def _replace(file: Path, text: str, folder: int) -> None:
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        with open(new, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), file.stat().st_mode & 0o777)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        new.rename(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    os.fsync(folder)


def _read(store: Path) -> str:
    file = store / CONFIG_NAME
    try:
        return file.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{store} is not a store: it has no {CONFIG_NAME}; `fusestore init` makes one") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: expected UTF-8 text, found byte 0x{error.object[error.start]:02x}") from error
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from error


def _parse(store: Path, text: str) -> Config:
    file = store / CONFIG_NAME
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not valid TOML: {error}") from error
    roots = _table(file, "roots", document.pop("roots", {}))
    for key in document:
        if key not in _SECTIONS:
            raise UsageError(f"{file}: {_shown_key(key)}: {_unknown(key, [*_SECTIONS, 'roots'])}")
    sections = {name: _section(file, name, document.get(name, {}), kind) for name, kind in _SECTIONS.items()}
    config = msgspec.convert(
        {"store": store, **sections, "roots": tuple(_root(file, store, name, table) for name, table in roots.items())},
        Config,
    )
    _check_places(file, config)
    known = [root.name for root in (*config.areas, *config.roots)]
    for name in config.mount.prefer:
        if name not in known:
            there_are = ", ".join(known)
            raise UsageError(f"{file}: mount.prefer: expected names out of {there_are}, found {_shown(name)}")
    if config.mount.writeback:
        for root in config.roots:
            if root.outside is not Outside.NONE:
                raise UsageError(
                    f'{file}: mount.writeback: expected false, because roots.{root.name} has outside = "{root.outside}"'
                    " and the kernel would not see outside changes; found true"
                )
    return config


_AnySection = TypeVar("_AnySection", bound=_Section)


def _section(file: Path, key: str, value: object, kind: type[_AnySection]) -> _AnySection:
    table = _table(file, key, value)
    for name in table:
        if name not in kind.__struct_fields__:
            raise UsageError(f"{file}: {key}.{_shown_key(name)}: {_unknown(name, kind.__struct_fields__)}")
    annotations = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        legal = annotations[field.name].__metadata__[0].description
        if field.name in table:
            try:
                msgspec.convert(table[field.name], annotations[field.name])
            except msgspec.ValidationError as error:
                found = _shown(table[field.name])
                raise UsageError(f"{file}: {key}.{field.name}: expected {legal}, found {found}") from error
        elif field.required:
            raise UsageError(f"{file}: {key}.{field.name}: expected {legal}, found nothing")
    return msgspec.convert(table, kind)


def _unknown(key: str, known: Iterable[str]) -> str:
    """What is wrong with a key that its table has not: others may have it."""
    tables: dict[str, type[_Section]] = {**_SECTIONS, "roots.NAME": _RootTable}
    homes = [f"[{name}]" for name, kind in tables.items() if key in kind.__struct_fields__]
    if homes:
        return f"unknown key here, it belongs in {' or '.join(homes)}"
    return f"unknown key, expected one of {', '.join(known)}"


def _table(file: Path, key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{file}: {key}: expected a table, found {_shown(value)}")
    return value


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _shown(key)


def _root(file: Path, store: Path, name: str, value: object) -> RootConfig:
    if not ROOT_NAME.fullmatch(name) or name in (UPLOADS_NAME, DOWNLOADS_NAME):
        raise UsageError(
            f"{file}: roots.{_shown_key(name)}: expected a name of up to 64 letters, digits, '.', '_' and '-' that does"
            f" not begin with '.' or '-' and is neither {UPLOADS_NAME} nor {DOWNLOADS_NAME}, found {_shown(name)}"
        )
    table = _section(file, f"roots.{name}", value, _RootTable)
    path = Path(os.path.abspath(store / table.path))
    outside = table.outside
    if outside is None:
        outside = Outside.NONE if _resolved(path).is_relative_to(_resolved(store)) else Outside.WRITERS
    return RootConfig(
        name, path, outside, table.read_only, table.copies, table.trash_s, table.trash_removed, table.watch
    )


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _check_places(file: Path, config: Config) -> None:
    """Refuse roots that share a directory with each other or with the store's own; compared component by component."""
    store = _resolved(config.store)
    taken = {_resolved(config.store / name): f"the store's own {name}" for name in _OWN_PLACES}
    for root in config.roots:
        place = _resolved(root.path)
        key = f"{file}: roots.{root.name}.path"
        if store.is_relative_to(place):
            raise UsageError(f"{key}: expected a directory that does not contain the store, found {_shown(place)}")
        for other, whose in taken.items():
            if place == other:
                raise UsageError(f"{key}: expected a directory of its own, found {_shown(place)}, which is {whose}")
            if place.is_relative_to(other):
                raise UsageError(f"{key}: expected a directory of its own, found {_shown(place)}, inside {whose}")
            if other.is_relative_to(place):
                raise UsageError(f"{key}: expected a directory of its own, found {_shown(place)}, which holds {whose}")
        taken[place] = f"root {root.name}"


_OWN_PLACES: Final = (UPLOADS_NAME, DOWNLOADS_NAME, INDEX_NAME)
