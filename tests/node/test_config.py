import os
from pathlib import Path

import pytest

from meshd_node.addresses import complete_address
from meshd_node.charter.config import CharterConfig
from meshd_node.config import ListenConfig, LogConfig, NodeConfig, load, render
from meshd_node.core.membership.config import MembershipConfig
from meshd_node.errors import ConfigError
from meshd_node.places import node_folder, socket_path

SOCKET = Path("/run/meshd/meshd.sock")
PLACED = {"MESHD_SOCKET": str(SOCKET)}


def written(folder: Path, text: str) -> Path:
    (folder / "node.toml").write_text(text)
    return folder


def refusal(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), environ or {})
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the file -----------------------------------------------------------------------------------------------------


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    assert load(tmp_path, PLACED) == NodeConfig(socket=SOCKET)
    assert NodeConfig(socket=SOCKET).listen.address == "0.0.0.0:7423"


def test_a_file_sets_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    config = load(written(tmp_path, 'seeds = ["a"]\n[listen]\nport = 9\n[membership]\nrepair_s = 3'), PLACED)

    assert config == NodeConfig(
        socket=SOCKET, seeds=("a:7423",), listen=ListenConfig(port=9), membership=MembershipConfig(repair_s=3.0)
    )


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[listen]\nprot = 9").endswith(
        "node.toml: unknown key listen.prot: did you mean listen.port?"
    )


def test_a_key_of_the_top_that_was_added_at_the_end_of_the_file_is_told_where_it_goes(tmp_path: Path) -> None:
    """There it is the last table's: `did you mean listen.host?` helps nobody."""
    assert refusal(tmp_path, '[listen]\nport = 9\nseeds = ["a"]').endswith(
        "node.toml: unknown key listen.seeds: seeds goes above the first [table]"
    )


def test_an_unknown_table_is_refused_with_those_there_are(tmp_path: Path) -> None:
    assert "unknown key zzzz: known are seeds, drain_s, listen.host" in refusal(tmp_path, "[zzzz]\nx = 1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[listen]\nport = '9'", "listen.port must be a whole number, not '9'"),
        ("[listen]\nport = true", "listen.port must be a whole number, not True"),
        ("[listen]\nport = 70000", "port from 0 to 65535"),
        ("[listen]\nhost = 'a b'", "a host has no spaces"),
        ('[listen]\nadvertise = ["a\\u001b:1"]', "no control characters"),
        ("[listen]\nhost = ''", "is not an address"),
        ("[listen]\nadvertise = ['a:b:c:']", "is not an address"),
        ("listen = 5", "listen must be a table, [listen], not 5"),
        ("seeds = 'a:1'", "seeds must be a list of texts"),
        ("seeds = [1]", "seeds must be a list of texts"),
        ("seeds = ['a','b','c','d','e','f','g','h','i']", "seeds has 9 addresses, 8 are allowed"),
        ("drain_s = -1", "drain_s must be from 0"),
        ("drain_s = nan", "drain_s must be a number"),
        ("[charter]\nslots = 5000", "charter.slots must be from -1 to 4096 (-1 is one for each CPU), not 5000"),
        ("[charter]\nmemory_mib = -1", "charter.memory_mib must be from 0"),
        ("[log]\nlevel = 'loud'", "log.level must be one of debug, info, warning, error, not 'loud'"),
        ("[log]\njson = 1", "log.json must be true or false"),
        ("[membership]\nrepair_s = 0", "membership.repair_s must be above 0"),
        ("[executor]\nwindow_ms = 0", "executor.window_ms"),
        ("x = ", "is not TOML"),
        ("a = " + "[" * 100_000, "is not TOML"),
        ("#" * 300_000, "larger than"),
    ],
)
def test_a_setting_that_can_not_be_used_is_one_line_that_names_it(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(tmp_path, text)

    assert expected in message
    assert str(tmp_path / "node.toml") in message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(b"a = \xff")

    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path, {})


def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.toml").mkdir()

    with pytest.raises(ConfigError, match="can not read"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    "config",
    [
        NodeConfig(socket=SOCKET),
        NodeConfig(
            socket=SOCKET,
            seeds=("a:1", "[::1]:2"),
            drain_s=5.0,
            listen=ListenConfig(host="::", port=0, advertise=("x:1",)),
            charter=CharterConfig(slots=2, memory_mib=100),
            log=LogConfig(level="debug", json=True),
            membership=MembershipConfig(dials_max=3, repair_s=0.5),
        ),
    ],
)
def test_what_is_rendered_reads_back_as_the_same(tmp_path: Path, config: NodeConfig) -> None:
    assert load(written(tmp_path, render(config)), PLACED) == config


def test_only_what_differs_from_the_defaults_is_rendered() -> None:
    lines = render(NodeConfig(socket=SOCKET, charter=CharterConfig(slots=2))).splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == ["[charter]", "slots = 2"]


# --- the environment ----------------------------------------------------------------------------------------------


def test_variables_override_the_file(tmp_path: Path) -> None:
    folder = written(tmp_path, "[listen]\nport = 9\nadvertise = ['x:1']\n[log]\nlevel = 'error'")
    environ = {
        "MESHD_LISTEN": "[::1]:10",
        "MESHD_LOG_LEVEL": "debug",
        "MESHD_LOG_JSON": "1",
        "MESHD_SEEDS": "a, b:2,",
        "MESHD_CHARTER_SLOTS": "3",
        "MESHD_MEMBERSHIP_REFUSED_S": "2.5",
        "MESHD_DIR": "/elsewhere",
        "PATH": "/bin",
    }
    config = load(folder, environ)

    assert config.listen == ListenConfig(host="::1", port=10, advertise=("x:1",))
    assert config.log == LogConfig(level="debug", json=True)
    assert (config.seeds, config.charter.slots, config.membership.refused_s) == (("a:7423", "b:2"), 3, 2.5)


def test_an_empty_variable_sets_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, {"MESHD_LISTEN": "", "MESHD_LOG_LEVEL": "", **PLACED}) == NodeConfig(socket=SOCKET)


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("MESHD_LISTEN", "a:b:c:d", "MESHD_LISTEN: "),
        ("MESHD_LISTEN_PORT", "x", "MESHD_LISTEN_PORT must be a whole number, not 'x'"),
        ("MESHD_DRAIN_S", "inf", "MESHD_DRAIN_S must be a number"),
        ("MESHD_LOG_JSON", "maybe", "MESHD_LOG_JSON must be true or false, not 'maybe'"),
        ("MESHD_LOG_LEVEL", "loud", "by MESHD_LOG_LEVEL: log.level must be one of"),
    ],
)
def test_a_variable_that_can_not_be_used_is_named(tmp_path: Path, variable: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {variable: text})

    assert expected in str(caught.value)


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host", "host:7423"),
        ("host:1", "host:1"),
        ("10.0.0.1", "10.0.0.1:7423"),
        ("[::1]", "[::1]:7423"),
        ("[::1]:5", "[::1]:5"),
        ("2001:db8::1", "[2001:db8::1]:7423"),
    ],
)
def test_a_port_may_be_left_out(text: str, address: str) -> None:
    assert complete_address(text) == address


@pytest.mark.parametrize("text", ["", ":1", "host:", "host:x", "host:70000", "host:-1", "[::1", "h" * 80, "host:1_0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        complete_address(text)


# --- places -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "uid", "folder"),
    [
        ({"MESHD_DIR": "/srv/a", "HOME": "/home/me"}, 0, "/srv/a"),
        ({"HOME": "/root"}, 0, "/var/lib/meshd"),
        ({"HOME": "/home/me"}, 1000, "/home/me/.local/share/meshd"),
        ({"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, 1000, "/data/meshd"),
        ({"HOME": "/home/me", "XDG_DATA_HOME": "relative"}, 1000, "/home/me/.local/share/meshd"),
    ],
)
def test_the_folder_is_the_one_that_was_chosen_or_the_users_own(environ: dict[str, str], uid: int, folder: str) -> None:
    assert node_folder(environ, uid) == Path(folder)


def test_a_relative_folder_is_taken_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert node_folder({"MESHD_DIR": "n1"}, 1000) == tmp_path / "n1"


def test_without_a_home_there_is_no_folder_and_the_error_says_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        node_folder({}, 1000)

    assert "MESHD_DIR" in caught.value.hint


def test_the_socket_is_in_the_folder_unless_it_was_put_elsewhere(tmp_path: Path) -> None:
    assert socket_path(Path("/srv/a"), {}) == Path("/srv/a/meshd.sock")
    assert socket_path(Path("/srv/a"), {"MESHD_SOCKET": "/run/x"}) == Path("/run/x")


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_bound() -> None:
    longest = "/" + "d" * (107 - len("//meshd.sock"))
    assert len(os.fsencode(socket_path(Path(longest), {}))) == 107

    with pytest.raises(ConfigError, match=r"has 108 bytes, the system allows 107"):
        socket_path(Path(longest + "d"), {})
