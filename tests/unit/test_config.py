"""The config: what is read from it, and each mistake names the file, the key, what was expected and what was found."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusestore import config
from fusestore.errors import StoreError, UsageError
from fusestore.model import Outside

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    write(store, config.default_toml())
    return store


def write(store: Path, text: str) -> None:
    (store / "fusestore.toml").write_text(text)


def mistake(store: Path, text: str) -> str:
    write(store, text)
    with pytest.raises(UsageError) as caught:
        config.load(store)
    message = str(caught.value)
    assert message.startswith(f"{store}/fusestore.toml: ")
    assert "\n" not in message
    return message.removeprefix(f"{store}/fusestore.toml: ")


def test_a_new_store_has_the_defaults_and_one_root(store: Path) -> None:
    found = config.load(store)
    assert found.roots == (config.RootConfig("main", store / "main", Outside.NONE),)
    assert found.areas == (
        config.RootConfig("uploads", store / "uploads", Outside.NONE),
        config.RootConfig("downloads", store / "downloads", Outside.NONE),
    )
    assert (found.mount.allow_other, found.mount.writeback) == (False, False)
    assert (found.socket, found.control.mode_bits) == (store / "control.sock", 0o600)
    assert (found.hash.algorithm, found.events.keep, found.moves.workers) == ("blake3", 1_000_000, 8)
    assert found.moves.per_pair == 2
    assert found.index.commit_s == 1.0


def test_the_defaults_in_the_comments_are_the_real_ones(store: Path) -> None:
    plain = config.load(store)
    lines = [line.removeprefix("# ") for line in config.default_toml().splitlines() if line.startswith("# ")]
    settings = [line for line in lines if line.startswith("[") or line.partition(" = ")[0].isidentifier()]
    assert len(settings) > 8
    write(store, "\n".join(settings) + '\n[roots.main]\npath = "main"\n')
    assert config.load(store) == plain


def test_every_key_can_be_set(store: Path) -> None:
    write(
        store,
        """
        mount = { allow_other = true, writeback = true }
        control = { mode = "0660", socket = "/run/fusestore.sock" }
        hash.algorithm = "sha256"
        index = { map_bytes = 1073741824, commit_s = 2 }
        events.keep = 10
        moves.workers = 4
        log.level = "warning"
        [roots.hot]
        path = "/mnt/hot/../hot"
        outside = "none"
        read_only = true
        """,
    )
    found = config.load(store)
    assert found.log.level == "warning"
    assert found.roots == (config.RootConfig("hot", Path("/mnt/hot"), Outside.NONE, read_only=True),)
    assert (found.socket, found.control.mode_bits) == (Path("/run/fusestore.sock"), 0o660)
    assert (found.index.map_bytes, found.index.commit_s) == (1 << 30, 2.0)
    assert (found.mount.allow_other, found.mount.writeback, found.hash.algorithm) == (True, True, "sha256")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('mount.allow_other = "yes"', 'mount.allow_other: expected true or false, found "yes"'),
        ("mount = 3", "mount: expected a table, found 3"),
        ("mount.alow_other = true", "mount.alow_other: unknown key, expected one of allow_other, writeback, prefer"),
        ('moves.prefer = ["main"]', "moves.prefer: unknown key here, it belongs in [mount]"),
        ("allow_other = true", "allow_other: unknown key here, it belongs in [mount]"),
        ("mount.rate = 1", "mount.rate: unknown key here, it belongs in [moves] or [scrub]"),
        ("moves.copies = 2", "moves.copies: unknown key here, it belongs in [roots.NAME]"),
        ('[roots.a]\npath = "/x"\nkeep = 1', "roots.a.keep: unknown key here, it belongs in [events]"),
        ('mount.prefer = "main"', 'mount.prefer: expected names of roots, such as ["fast", "big"], found "main"'),
        ('mount.prefer = ["nowhere"]', 'mount.prefer: expected names out of uploads, downloads, found "nowhere"'),
        (
            "colour = 1",
            "colour: unknown key, expected one of mount, control, hash, index, events, moves, scrub, log, roots",
        ),
        ('log.level = "loud"', 'log.level: expected "debug", "info", "warning" or "error", found "loud"'),
        ('control.mode = "rw"', 'control.mode: expected an octal mode in quotes, such as "0600", found "rw"'),
        ("control.mode = 0o600", 'control.mode: expected an octal mode in quotes, such as "0600", found 384'),
        ('hash.algorithm = "md5"', 'hash.algorithm: expected "blake3" or "sha256", found "md5"'),
        ("scrub.rate = -1", "scrub.rate: expected a number of bytes a second, 0 for no limit, found -1"),
        ("events.keep = 0", "events.keep: expected a number of events, 1 or more, found 0"),
        ("moves.workers = true", "moves.workers: expected a whole number from 1 to 64, found true"),
        ("index.commit_s = 0", "index.commit_s: expected a number of seconds above 0 and up to 60, found 0"),
        ("index.commit_s = nan", "index.commit_s: expected a number of seconds above 0 and up to 60, found NaN"),
        ("index.map_bytes = 1", "index.map_bytes: expected a number of bytes, 16 MiB (16777216) or more, found 1"),
        ("roots = []", "roots: expected a table, found []"),
        ("roots.a = 1", "roots.a: expected a table, found 1"),
        (
            "[roots.a]",
            "roots.a.path: expected a directory's path in quotes, absolute or below the store, found nothing",
        ),
        (
            '[roots.a]\npath = ""',
            'roots.a.path: expected a directory\'s path in quotes, absolute or below the store, found ""',
        ),
        (
            '[roots.a]\npath = "/x"\noutside = "some"',
            'roots.a.outside: expected "none", "readers" or "writers", found "some"',
        ),
        (
            '[roots.a]\npath = "/x"\nro = true',
            "roots.a.ro: unknown key, expected one of path, outside, read_only, copies, trash_s, trash_removed, watch",
        ),
        ('[roots.a]\npath = "/x"\ncopies = 0', "roots.a.copies: expected a whole number from 1 to 16, found 0"),
        (
            '[roots.a]\npath = "/x"\ntrash_s = -1',
            "roots.a.trash_s: expected a number of seconds, 0 for no trash, found -1",
        ),
    ],
)
def test_a_mistake_is_named_in_one_line(store: Path, text: str, message: str) -> None:
    assert mistake(store, text) == message


def test_a_long_value_is_cut_and_stays_on_its_line(store: Path) -> None:
    assert len(mistake(store, 'mount.allow_other = """' + "line\n" * 1000 + '"""')) < 200


def test_broken_toml_names_the_line(store: Path) -> None:
    assert "line 2" in mistake(store, "[mount]\nallow_other =\n")


def test_a_config_that_is_no_text_is_named(store: Path) -> None:
    (store / "fusestore.toml").write_bytes(b"# \xff\n")
    with pytest.raises(UsageError, match="expected UTF-8 text, found byte 0xff"):
        config.load(store)


@pytest.mark.parametrize("name", ["uploads", "downloads", "..", ".fusestore", "a/b", "", "-rf", "ü", "n" * 65, "a\nb"])
def test_a_root_name_that_cannot_be_a_directory_is_refused(store: Path, name: str) -> None:
    shown = json.dumps(name)[:50]
    assert f"found {shown}" in mistake(store, f'[roots.{json.dumps(name)}]\npath = "/x"')


def test_what_is_not_a_store_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(StoreError, match="is not a store"):
            config.load(place)


def test_outside_defaults_to_none_below_the_store_and_to_writers_elsewhere(store: Path, tmp_path: Path) -> None:
    write(store, f'[roots.in]\npath = "sub/in"\n[roots.out]\npath = "{tmp_path}/out"')
    assert [root.outside for root in config.load(store).roots] == [Outside.NONE, Outside.WRITERS]


def test_writeback_needs_roots_that_nobody_else_touches(store: Path) -> None:
    text = '[mount]\nwriteback = true\n[roots.a]\npath = "/x"\n'
    assert mistake(store, text).startswith('mount.writeback: expected false, because roots.a has outside = "writers"')
    write(store, text + 'outside = "none"\n')
    assert config.load(store).mount.writeback


def test_roots_are_compared_by_component_and_never_as_text(store: Path, tmp_path: Path) -> None:
    write(store, f'[roots.a]\npath = "{tmp_path}/data"\n[roots.b]\npath = "{tmp_path}/data2"\n')
    assert len(config.load(store).roots) == 2


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("data", "data", "which is root a"),
        ("data", "data/sub", "inside root a"),
        ("data/sub", "data", "which holds root a"),
        ("data", "link/sub", "inside root a"),
        ("data", "other/../data/", "which is root a"),
        ("data", "store", "does not contain the store"),
        ("data", ".", "does not contain the store"),
        ("data", "store/uploads", "the store's own uploads"),
        ("data", "store/index/x", "the store's own index"),
    ],
)
def test_roots_that_share_a_directory_are_refused(
    store: Path, tmp_path: Path, first: str, second: str, words: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    text = f'[roots.a]\npath = "{tmp_path}/{first}"\n[roots.b]\npath = "{tmp_path}/{second}"\n'
    assert words in mistake(store, text)


def test_a_root_is_added_and_the_rest_of_the_file_stays(store: Path, tmp_path: Path) -> None:
    before = config.default_toml() + "\n# a closing remark\n"
    write(store, before)
    (store / "fusestore.toml").chmod(0o640)
    config.add_root(store, "hot", tmp_path / "hot", Outside.READERS)
    found = config.add_root(store, "inner", store / "inner")
    text = (store / "fusestore.toml").read_text()
    assert text.startswith(before)
    assert 'path = "inner"' in text
    assert stat.S_IMODE((store / "fusestore.toml").stat().st_mode) == 0o640
    assert found == config.load(store)
    assert [(root.name, root.path, root.outside) for root in found.roots] == [
        ("main", store / "main", Outside.NONE),
        ("hot", tmp_path / "hot", Outside.READERS),
        ("inner", store / "inner", Outside.NONE),
    ]
    assert sorted(os.listdir(store)) == ["fusestore.toml", "inner"]
    assert os.listdir(tmp_path / "hot") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "roots = {}\n",
        '[roots]\na = { path = "/a" }\n',
        '[roots.a]\npath = "/a"\n[mount]\n',
        'roots.a.path = "/a"\n',
    ],
)
def test_a_root_is_added_to_any_form_of_the_file(store: Path, tmp_path: Path, text: str) -> None:
    write(store, text)
    assert config.add_root(store, "hot", tmp_path / "hot").roots[-1].path == tmp_path / "hot"


@pytest.mark.parametrize(
    ("name", "directory", "words"),
    [
        ("main", "/x", "already"),
        ("uploads", "/x", "neither"),
        ("a", "main/sub", "inside"),
        ("a", ".", "contain the store"),
    ],
)
def test_a_root_that_cannot_be_is_not_added(store: Path, name: str, directory: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config.add_root(store, name, store / directory)
    assert (store / "fusestore.toml").read_text() == config.default_toml()
    assert os.listdir(store) == ["fusestore.toml"]


@pytest.mark.parametrize("directory", ["file", "file/below"])
def test_a_root_whose_directory_cannot_be_made_is_not_added(store: Path, tmp_path: Path, directory: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"{tmp_path / directory} cannot be a root's directory"):
        config.add_root(store, "hot", tmp_path / directory)
    assert (store / "fusestore.toml").read_text() == config.default_toml()


@settings(max_examples=25, deadline=None)  # each is written durably
@given(st.text(max_size=60))
def test_any_path_is_written_so_that_it_is_read_back(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    store = tmp_path_factory.mktemp("store")
    write(store, config.default_toml())
    directory = store / "roots" / ("x" + name.replace("/", "_").replace("\0", "_"))
    try:
        directory.as_posix().encode()
    except UnicodeEncodeError:
        return
    assert config.add_root(store, "hot", directory).roots[-1].path == directory
