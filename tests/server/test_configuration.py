"""What goes before what; and whatever is wrong is named where the operator wrote it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.configuration import KINDS, _line_of, configure, database_url
from server.settings import Settings, SettingsError


def refused(
    folder: Path,
    toml: str | bytes = "",
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str | bool | None] | None = None,
) -> str:
    (folder / "loa.toml").write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    with pytest.raises(SettingsError) as error:
        configure({"data": str(folder), **(options or {})}, environment or {})
    line = str(error.value)
    assert len(line.splitlines()) == 1
    return line


# ------------------------------------------------------------------ what goes before what
def test_file_environment_and_options_each_go_before_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "loa.toml").write_text("port = 1\nttl = 2\ngroup_port = 4\n")
    environment = {"LOA_TTL": "3", "LOA_GROUP_PORT": "6", "LOA_ANNOUNCE": "no", "OTHER": "x"}
    settings = configure({"data": str(tmp_path), "group_port": "8", "port": None}, environment)
    assert settings == Settings(port=1, ttl=3, group_port=8, announce=False, data=tmp_path)


def test_without_a_word_all_is_as_by_default(tmp_path: Path) -> None:
    assert configure({"data": str(tmp_path)}, {}) == Settings(data=tmp_path)
    assert configure({"data": str(tmp_path)}, {"LOA_PORT": ""}) == Settings(data=tmp_path)


def test_the_folder_is_that_of_the_option_before_that_of_the_environment(tmp_path: Path) -> None:
    environment = {"LOA_DATA": str(tmp_path / "b")}
    assert configure({"data": None}, environment).data == tmp_path / "b"
    assert configure({"data": str(tmp_path / "a")}, environment).data == tmp_path / "a"


def test_every_setting_can_be_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    wanted = {
        "bind": "192.0.2.1",
        "port": 8000,
        "interface": "192.0.2.2",
        "groups": "239.1.0.0/16",
        "group_port": 6000,
        "ttl": 5,
        "announce": False,
        "senders": 3,
        "halls": 2,
        "database": "postgresql://loa:secret@192.0.2.3/loa",
        "audit_file": "/mnt/heads.jsonl",
        "audit_syslog": "192.0.2.4:5140",
        "audit_webhook": "https://log.example.org/loa?token=secret",
        "audit_days": 400,
        "programmes_days": 0,
        "tls_certificate": "/etc/loa.pem",
        "tls_key": "/etc/key.pem",
    }
    assert wanted.keys() == KINDS.keys()
    settings = Settings(**wanted, data=tmp_path)  # type: ignore[arg-type]
    environment = {f"LOA_{name.upper()}": str(value) for name, value in wanted.items()}
    assert configure({"data": str(tmp_path)}, environment) == settings
    lines = (
        f"{k} = {v!r}" if isinstance(v, str) else f"{k} = {str(v).lower()}"
        for k, v in wanted.items()
    )
    (tmp_path / "loa.toml").write_text("\n".join(lines))
    assert configure({"data": str(tmp_path)}, {}) == settings


@pytest.mark.parametrize("yes", ["1", "true", "YES", "on"])
def test_yes_is_written_in_several_ways(tmp_path: Path, yes: str) -> None:
    assert configure({"data": str(tmp_path)}, {"LOA_ANNOUNCE": yes}).announce


def test_an_option_may_take_back_what_the_file_allows(tmp_path: Path) -> None:
    (tmp_path / "loa.toml").write_text("announce = true\n")
    assert not configure({"data": str(tmp_path), "announce": False}, {}).announce


# ------------------------------------------------------------------ loa.toml
LINES = [
    ('# a\n\nttl = 3\nport = "abc"\n', 'loa.toml line 4: port = "abc": use a whole number'),
    ('"port" = 7.5', "loa.toml line 1: port = 7.5: use a whole number"),
    ("port = true", "loa.toml line 1: port = true: use a whole number"),
    ("announce = 1", "loa.toml line 1: announce = 1: use true or false"),
    ("\nbind = 127", "loa.toml line 2: bind = 127: use text in quotation marks"),
    ("bind = [\n'a',\n'b']", "loa.toml line 1: bind = [...]: use text in quotation marks"),
    ("ttl = 1979-05-27", "loa.toml line 1: ttl = 1979-05-27: use a whole number"),
    ("port.number = 1", "loa.toml line 1: port = {...}: use a whole number"),
    ("ttl = 1\r\nport = 70000\r\n", "loa.toml line 2: port = 70000: use 1 to 65531, or 0 for"),
    ('groups = """\nport = 3\n"""\nport = "x"', 'loa.toml line 4: port = "x": use a whole number'),
    ("ttl = 999\n[a]\n", "loa.toml line 2: no setting 'a'"),
    ("prot = 3", "loa.toml line 1: no setting 'prot'; did you mean port?"),
    ("\n\nGroup-Port = 3", "loa.toml line 3: no setting 'Group-Port'; did you mean group_port?"),
    ("colour = 3", "loa.toml line 1: no setting 'colour'; the settings are bind, port, "),
    ("[network]\nport = 3", "loa.toml line 1: no setting 'network'; the settings are"),
    ("data = '/srv'", "loa.toml line 1: the file lies in that folder; name another with --data"),
    ("ttl = 3\nport =\n", "loa.toml line 2: invalid value"),
    ("ttl = 3\nport = 1\nport = 2\n", "loa.toml line 3: cannot overwrite a value"),
    ('ttl = 3\nbind = """\nabc\n', "loa.toml line 3: "),
    (b"\xef\xbb\xbfttl = 300", "loa.toml line 1: ttl = 300: use 0 to 255"),
    (b"ttl = 3\nbind = '\xff'\n", "loa.toml line 2: save the file as UTF-8"),
    ("insecure = true", "loa.toml line 1: no setting 'insecure'; "),
    ('\ntls_key = "/k"', 'loa.toml line 2: tls_key = "/k": set tls_certificate as well'),
]


@pytest.mark.parametrize(("toml", "says"), LINES, ids=[repr(row[0]) for row in LINES])
def test_what_is_wrong_in_the_file_is_named_with_its_line(
    tmp_path: Path, toml: str | bytes, says: str
) -> None:
    assert refused(tmp_path, toml).startswith(says)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "loa.toml").mkdir()
    with pytest.raises(SettingsError, match=r"loa\.toml: Is a directory"):
        configure({"data": str(tmp_path)}, {})


@given(st.integers(0, 30), st.integers(0, 5))
def test_the_line_is_found_wherever_the_key_is(before: int, comments: int) -> None:
    lines = [f"key{number} = [\n{number}\n]" for number in range(before)]
    lines += ["# port = 3"] * comments + ["port = 3 # port", "ttl = 1"]
    assert _line_of("port", "\n".join(lines)) == 3 * before + comments + 1


# ------------------------------------------------------------------ LOA_...
VARIABLES = [
    ({"LOA_PORT": "abc"}, "LOA_PORT=abc: use a whole number"),
    ({"LOA_PORT": "٣"}, "LOA_PORT=٣: use a whole number"),
    ({"LOA_PORT": "7" * 5000}, "LOA_PORT=777"),
    ({"LOA_TTL": "256"}, "LOA_TTL=256: use 0 to 255"),
    ({"LOA_ANNOUNCE": "maybe"}, "LOA_ANNOUNCE=maybe: use true or false"),
    ({"LOA_BIND": "a\nb"}, "LOA_BIND=a b: use an IP address"),
    ({"LOA_PROT": "1"}, "LOA_PROT: no such setting; did you mean LOA_PORT?"),
    ({"LOA_GROUPPORT": "1"}, "LOA_GROUPPORT: no such setting; did you mean LOA_GROUP_PORT?"),
    ({"LOA_DATE": "/srv"}, "LOA_DATE: no such setting; did you mean LOA_DATA?"),
]


@pytest.mark.parametrize(("environment", "says"), VARIABLES)
def test_what_is_wrong_in_the_environment_is_named_with_its_variable(
    tmp_path: Path, environment: Mapping[str, str], says: str
) -> None:
    assert refused(tmp_path, environment=environment).startswith(says)


def test_variables_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    environment = {"LOA_SERVICE_HOST": "10.0.0.1", "LOA_PORT_7460_TCP": "tcp://10.0.0.1:7460"}
    environment |= {"LOA_TOKEN": "x", "LOA_FINGERPRINT": "x", "LOA_SERVER": "x"}
    assert configure({"data": str(tmp_path)}, environment) == Settings(data=tmp_path)


def test_who_has_no_home_is_told_to_name_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("server.data.SYSTEM_FOLDER", tmp_path)
    with pytest.raises(SettingsError, match="LOA_DATA"):
        configure({}, {})


# ------------------------------------------------------------------ --options
OPTIONS: list[tuple[Mapping[str, str | bool | None], str]] = [
    ({"port": "abc"}, "--port abc: use a whole number"),
    ({"group_port": "5005"}, "--group-port 5005: use an even port"),
    ({"tls_key": "k.pem"}, "--tls-key k.pem: use the whole path"),
]


@pytest.mark.parametrize(("options", "says"), OPTIONS)
def test_what_is_wrong_in_an_option_is_named_with_it(
    tmp_path: Path, options: Mapping[str, str | bool | None], says: str
) -> None:
    assert refused(tmp_path, options=options).startswith(says)


def test_a_wrong_value_that_another_goes_before_is_told_all_the_same(tmp_path: Path) -> None:
    # Otherwise it would be found on the day that the other is taken away.
    said = refused(tmp_path, 'port = "abc"', options={"port": "7460"})
    assert said.startswith("loa.toml line 1")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://loa:secret@host/loa",
        "postgresql://loa:secret@host",
        "postgresql://loa:secret@host:port/loa",
        "loa:secret",
        "postgresql://[loa:secret@host/loa",
    ],
)
def test_what_is_no_database_s_url_is_refused_without_its_password(
    tmp_path: Path, url: str
) -> None:
    said = []
    (tmp_path / "loa.toml").write_text(f'database = "{url}"\n')
    with pytest.raises(SettingsError) as refused:
        configure({"data": str(tmp_path)}, {})
    said.append(str(refused.value))
    (tmp_path / "loa.toml").unlink()
    with pytest.raises(SettingsError) as refused:
        configure({"data": str(tmp_path)}, {"LOA_DATABASE": url})
    said.append(str(refused.value))
    for option, environment in ((url, {}), (None, {"LOA_DATABASE": url})):
        with pytest.raises(SettingsError) as refused:
            database_url(option, environment)
        said.append(str(refused.value))
    for line in said:
        assert "use postgresql://user:password@host/name" in line
        assert "secret" not in line
        assert len(line.splitlines()) == 1


ANCHORS = [
    ("audit_file", "heads.jsonl", 'audit_file = "heads.jsonl": use the whole path'),
    ("audit_syslog", "a/b", 'audit_syslog = "a/b": use HOST, HOST:PORT, or the path'),
    ("audit_webhook", "ftp://secret", "audit_webhook = ...: use a URL such as https://"),
]


@pytest.mark.parametrize(("setting", "value", "says"), ANCHORS)
def test_what_is_no_anchor_is_refused_without_its_secret(
    tmp_path: Path, setting: str, value: str, says: str
) -> None:
    said = refused(tmp_path, f'{setting} = "{value}"')
    assert said.startswith(f"loa.toml line 1: {says}")
    assert "secret" not in said


@pytest.mark.parametrize("setting", ["audit_days", "programmes_days"])
@pytest.mark.parametrize("days", [-1, 36_501])
def test_days_are_a_century_s_at_most(tmp_path: Path, setting: str, days: int) -> None:
    said = refused(tmp_path, f"{setting} = {days}")
    assert said == f"loa.toml line 1: {setting} = {days}: use 1 to 36500, or 0 for ever"


@pytest.mark.parametrize("form", ["loa:secret@host/loa", "host/loa?password=secret"])
def test_a_password_on_the_command_line_is_refused_unseen(form: str) -> None:
    with pytest.raises(SettingsError, match="set LOA_DATABASE instead") as refused:
        database_url(f"postgresql://{form}", {})
    assert "secret" not in str(refused.value)
    assert database_url(None, {"LOA_DATABASE": f"postgresql://{form}"}) is not None


def test_settings_do_not_show_the_password_where_they_are_printed() -> None:
    assert "secret" not in repr(Settings(database="postgresql://loa:secret@host/loa"))
