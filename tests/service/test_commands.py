"""The commands against a served socket, as subprocesses: what they print, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from fusestore.config import Control
from fusestore.control.server import serve
from tests.service.fake_queries import ID, FakeQueries

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(90)
VERBS = [
    "init", "mount", "umount", "status", "stat", "where", "history", "explain", "events", "moves", "wait", "verify",
    "scrub", "jobs", "reload", "check",
]  # fmt: skip


class Commands:
    """Runs `fusestore` beside the server it asks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.queries = FakeQueries()

    async def run(self, *arguments: str, code: int = 0) -> str:
        environment = {**os.environ, "FUSESTORE_SOCKET": str(self.path), "PYTHONPATH": os.getcwd(), "COLUMNS": "80"}
        done = await trio.run_process(
            [sys.executable, "-c", "import sys; from fusestore.cli.main import main; sys.exit(main())", *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment,
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert b"Traceback" not in done.stderr
        return (done.stderr if code else done.stdout).decode()

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self.run(*arguments, "--json"))


@pytest.fixture
async def commands(tmp_path_factory: pytest.TempPathFactory, nursery: trio.Nursery) -> Commands:
    commands = Commands(tmp_path_factory.mktemp("c") / "control.sock")
    await nursery.start(partial(serve, control=Control()), commands.path, commands.queries)
    return commands


async def test_status_shows_a_table_for_people_and_json_for_programs(commands: Commands) -> None:
    text = await commands.run("status")
    assert "/mnt/lab" in text
    assert "1.0 GiB" in text
    assert (await commands.json("status"))["roots"][0]["name"] == "main"


async def test_an_object_is_shown_by_its_id(commands: Commands) -> None:
    assert (await commands.json("stat", ID))["path"] == "uploads/a"
    text = await commands.run("stat", ID)
    assert ID in text
    assert "0644" in text
    assert "/disk/300" in await commands.run("where", ID)
    assert await commands.json("history", ID) == []


async def test_an_explanation_begins_with_its_verdict_and_ends_with_what_calls_would_be_told(
    commands: Commands,
) -> None:
    lines = (await commands.run("explain", ID)).splitlines()
    assert lines[0] == f"{ID}: it is elsewhere; wait"
    assert lines[1:] == [
        "  no hash is recorded",
        "  rm: would be done",
        "  mv to cold: The target root has no room for it: cold",
    ]
    answers = (await commands.json("explain", ID))["answers"]
    assert [(each["call"], each["ok"], each["code"], each["errno"]) for each in answers] == [
        ("rm", True, "ok", 0),
        ("mv", False, "no_room", 28),
    ]


async def test_a_scrub_shows_how_far_it_is_and_what_is_not_sound(commands: Commands) -> None:
    text = await commands.run("scrub", "--status")
    assert "running, 99 %" in text
    assert "expected blake3:00, found blake3:01" in text
    assert (await commands.json("scrub", "--now", "--root", "main"))["damaged"][0]["path"] == "uploads/a"


async def test_the_help_of_scrub_says_what_it_repairs(commands: Commands) -> None:
    text = " ".join((await commands.run("scrub", "--help")).split())
    assert "It is repaired from a good replica, where another root has one" in text


async def test_the_help_of_where_says_what_each_role_means(commands: Commands) -> None:
    text = " ".join((await commands.run("where", "--help")).split())
    assert '"by id" for the file itself under its id instead of its name, as after drop and drain' in text


async def test_the_trash_is_listed_emptied_and_restored_from(commands: Commands, tmp_path: Path) -> None:
    assert "0017-01932f6c" in await commands.run("trash", "list")
    assert "1 file, 4.0 KiB" in await commands.run("trash", "empty", "--root", "main")
    assert "is not inside a mount" in await commands.run("trash", "restore", ID, str(tmp_path / "a"), code=2)


async def test_what_is_neither_in_a_mount_nor_an_id_is_a_usage_error(commands: Commands, tmp_path: Path) -> None:
    assert "is not inside a mount" in await commands.run("stat", str(tmp_path / "x"), code=2)
    assert "give PATH|ID or --root" in await commands.run("verify", code=2)
    assert "give a path" in await commands.run("wait", code=2)


async def test_an_unknown_id_ends_with_one_line_and_status_1(commands: Commands) -> None:
    assert (await commands.run("stat", "0123456789abcdef", code=1)).count("\n") == 1


async def test_events_prints_the_log_a_line_each_across_pages(commands: Commands) -> None:
    commands.queries.happen(2500)
    lines = (await commands.run("events", "--since", "10", "--json")).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(11, 2501))
    assert len((await commands.run("events")).splitlines()) == 2500
    lines = (await commands.run("events", "--kind", "created", "--json")).splitlines()
    assert len(lines) == 2500
    assert await commands.run("events", "--kind", "renamed") == ""
    assert await commands.run("events", "--root", "main") == ""
    assert "there is no root 'nowhere'; there are: main" in await commands.run("events", "--root", "nowhere", code=1)
    assert "no event has the kind 'rename'; there are:" in await commands.run("events", "--kind", "rename", code=1)
    assert await commands.run("events", "--since", "now") == ""
    assert "or now, not '-1'" in await commands.run("events", "--since=-1", code=2)
    commands.queries.cut(2000)
    assert "are missing" in await commands.run("events", "--since", "10", code=1)
    assert len((await commands.run("events")).splitlines()) == 501


@pytest.mark.parametrize(("since", "printed"), [(5, 4), (8, 1), (101, 0)])
async def test_a_consumer_is_moved_to_an_event_of_any_epoch(commands: Commands, since: int, printed: int) -> None:
    commands.queries.happen(10)
    commands.queries.acked["backup"] = 2
    commands.queries.crash(survived=8, next_seq=100)
    lines = (await commands.run("events", "--consumer", "backup", "--since", f"{since}")).splitlines()
    assert len(lines) == printed
    assert commands.queries.acked == {"backup": 101}


async def test_a_consumer_is_not_moved_to_what_is_no_event(commands: Commands) -> None:
    commands.queries.happen(10)
    commands.queries.acked["backup"] = 2
    commands.queries.cut(6)
    for since, why in (("4", "the log begins at 6"), ("11", "the log ends at 10"), ("20", "the log ends at 10")):
        assert why in await commands.run("events", "--consumer", "backup", "--since", since, code=1)
    assert commands.queries.acked == {"backup": 2}


async def test_a_consumer_that_there_is_not_is_told_before_anything_is_waited_for(commands: Commands) -> None:
    said = await commands.run("wait", "--all", "--acked-by", "nobody", "--timeout", "5", code=1)
    assert "nobody" in said


async def test_events_follow_prints_each_as_it_happens_and_ends_with_the_daemon(commands: Commands) -> None:
    commands.queries.happen(3)
    script = "import sys; from fusestore.cli.main import main; sys.exit(main())"
    follower = await trio.lowlevel.open_process(
        [sys.executable, "-c", script, "events", "--follow", "--json", "--socket", str(commands.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert follower.stdout is not None
    received = b""
    with trio.fail_after(30):
        for count in (3, 4, 5):
            while received.count(b"\n") < count:
                received += await follower.stdout.receive_some()
            commands.queries.happen()
    follower.terminate()
    await follower.wait()
    assert [json.loads(line)["seq"] for line in received.splitlines()][:5] == [1, 2, 3, 4, 5]


async def test_wait_ends_well_when_moves_are_over_and_badly_when_one_is_stuck(commands: Commands) -> None:
    commands.queries.let_go.set()
    assert await commands.json("wait", "--all") == {"moves": [], "replicas": []}
    stuck = {
        "number": 4,
        "state": "waiting",
        "reason": "conflict",
        "path": "resources/main/[bold]\udcff\n",
        "source": "uploads",
        "target": "main",
        "files_done": 1,
        "files_total": 2,
        "bytes_done": 10,
        "bytes_total": 2048,
        "held_path": "",
        "eta_s": 75.0,
        "created_ns": 1_700_000_000_000_000_000,
    }
    commands.queries.stuck = [stuck]
    await commands.run("wait", "4", code=1)
    assert "resources/main/[bold]\\xff\\n" in await commands.run("moves")
    assert (await commands.json("moves"))[0]["path"] == stuck["path"]
    commands.queries.stuck = [{**stuck, "number": number} for number in range(1, 1202)]
    assert [move["number"] for move in await commands.json("moves")] == list(range(1, 1202))
    assert [move["number"] for move in await commands.json("moves", "--all")] == list(range(202, 1202))
    assert [move["number"] for move in await commands.json("moves", "--limit", "2")] == [1200, 1201]


async def test_moves_are_shown_and_steered_by_number_path_or_all_at_once(commands: Commands) -> None:
    commands.queries.stuck = [
        {
            "number": number,
            "id": ID,
            "state": "running",
            "reason": "",
            "path": f"resources/cold/{number}",
            "old_path": f"uploads/{number}",
            "source": "uploads",
            "target": "cold",
            "files_done": 1,
            "files_total": 4,
            "bytes_done": 512,
            "bytes_total": 2048,
            "held_path": "",
            "eta_s": 75.0,
            "created_ns": 1_700_000_000_000_000_000,
            "finished_ns": 0,
            "uid": 1000,
            "pid": 4,
        }
        for number in (4, 5)
    ]
    text = await commands.run("moves", "show", "4")
    for words in ("running", "512 B of 2.0 KiB (25 %)", "1m15s", "uploads: uploads/4", "by uid 1000, pid 4"):
        assert words in text
    assert (await commands.json("moves", "show", "5"))["number"] == 5
    for verb in ("pause", "resume", "retry"):
        assert "resources/cold/4" in await commands.run("moves", verb, "4")
        assert [move["number"] for move in await commands.json("moves", verb, "--all")] == [4, 5]
    assert (await commands.json("moves", "cancel", "4"))["state"] == "cancelled"
    assert "There is no such move: 9" in await commands.run("moves", "cancel", "9", code=1)
    assert commands.queries.asked[:2] == [("pause", 4), ("pause", None)]
    commands.queries.stuck = []
    assert "there is no move to retry" in await commands.run("moves", "retry", "--all")


async def test_wait_takes_several(commands: Commands) -> None:
    commands.queries.let_go.set()
    assert await commands.json("wait", ID, "4") == {"moves": [], "replicas": []}
    assert "or --all" in await commands.run("wait", ID, "--all", code=2)


async def test_wait_gives_up_after_its_time(commands: Commands) -> None:
    assert "not over after" in await commands.run("wait", "--all", "--timeout", "0.1", code=1)


async def test_verify_names_what_is_bad_and_ends_with_status_1(commands: Commands) -> None:
    said = await commands.run("verify", "--root", "main", code=1)
    assert said == ("fusestore: 1 of 2 files differ or cannot be read; 2 files were not read, the root is away: cold\n")


async def test_copies_are_added_shown_and_given_up(commands: Commands) -> None:
    assert "1 copy is not made" in await commands.run("replicate", ID, "--to", "cold", "--wait", code=1)
    assert await commands.run("replicate", ID, "--to", "cold") == "12 files to be copied to cold\n"
    assert commands.queries.copies == [(ID, "cold", None)] * 2
    assert "last good copy" in await commands.run("drop", ID, "--from", "cold", code=1)
    assert "0 copies dropped, 1 file removed" in await commands.run("drop", ID, "--from", "cold", "--force-last")
    assert "1 of 1 copy differs" in await commands.run("where", "--verify", ID, code=1)


async def test_the_plan_of_a_drain_shows_what_leaves_and_says_so_when_nothing_has_to(commands: Commands) -> None:
    lines = (await commands.run("drain", "main", "--plan", "--to", "cold")).splitlines()
    assert [line.split() for line in lines[:2]] == [["TO", "FILES", "BYTES"], ["cold", "2", "1.0", "KiB"]]
    stays = "3 directories, symlinks and special files stay; the index knows them"
    assert lines[2:] == [stays]
    text = await commands.run("drain", "main", "--plan")
    assert text.splitlines() == ["no file is known on main: nothing has to leave", stays]


async def test_a_root_is_not_drained_to_itself(commands: Commands) -> None:
    said = await commands.run("drain", "cold", "--to", "cold", code=2)
    assert said == "fusestore: cold is the root that is to be emptied; name another one with --to\n"


async def test_no_daemon_has_its_own_status(commands: Commands, tmp_path: Path) -> None:
    assert "no daemon answers" in await commands.run("status", "--socket", str(tmp_path / "none"), code=6)


async def test_every_verb_has_help_with_an_example(commands: Commands) -> None:
    for verb in VERBS:
        assert "Example:" in await commands.run(verb, "--help")
    assert "Example:" in await commands.run("root", "add", "--help")
    for verb in ("list", "show", "pause", "resume", "retry", "cancel"):
        assert "Example:" in await commands.run("moves", verb, "--help")


def test_help_loads_nothing_slow() -> None:
    script = (
        "import sys; from fusestore.cli.main import main; sys.argv = ['fusestore', '--help']; main();"
        "print(*{'trio', 'rich', 'lmdb', 'pyfuse3'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert done.stderr.split() == []


async def test_jobs_are_listed_shown_and_cancelled(commands: Commands) -> None:
    assert await commands.run("jobs") == "nothing takes long now\n"
    async with await trio.open_unix_socket(commands.path) as stream:
        request = {"tid": 1, "collectionName": "moves", "methodName": "wait", "background": True}
        await stream.send_all(json.dumps(request).encode() + b"\n")
        job = json.loads(await stream.receive_some(65536))["data"]["job"]
    table = await commands.run("jobs")
    assert "moves.wait" in table
    assert "1 of 2 files" in table
    assert (await commands.json("jobs"))[0]["job"] == job
    assert (await commands.json("jobs", job, "--cancel", "--wait"))["state"] == "cancelled"
    await commands.run("jobs", "--wait", code=2)
    assert "no job" in await commands.run("jobs", "ffffffff", code=1)
