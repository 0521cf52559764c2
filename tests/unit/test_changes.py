"""--change: Dockerfile instructions that alter an image's configuration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock._errors import SpecError
from fastdock.changes import apply_changes, duration, words


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', {"Cmd": ["a", "b c"]}),
        ("CMD echo $HOME", {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        ("cmd []", {"Cmd": []}),
        ('ENTRYPOINT ["x"]', {"Entrypoint": ["x"]}),
        ("ENV A=1 B='two words' C=a\\ b", {"Env": ["A=1", "B=two words", "C=a b"]}),
        ("ENV OLD the rest", {"Env": ["OLD=the rest"]}),
        ('LABEL a="b c" d=', {"Labels": {"a": "b c", "d": ""}}),
        (
            "EXPOSE 80 53/udp 90-91",
            {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}},
        ),
        ('VOLUME ["/a", "/b"]', {"Volumes": {"/a": {}, "/b": {}}}),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ("WORKDIR a/../b", {"WorkingDir": "/b"}),
        ("USER 1000:1000", {"User": "1000:1000"}),
        ("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}),
        ('SHELL ["/bin/bash", "-c"]', {"Shell": ["/bin/bash", "-c"]}),
        ("ONBUILD RUN x", {"OnBuild": ["RUN x"]}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl localhost",
            {"Healthcheck": {"Test": ["CMD-SHELL", "curl localhost"], "Interval": 90 * 10**9, "Retries": 3}},
        ),
    ],
)
def test_change(change, expected):
    """Each instruction changes its field."""
    assert apply_changes({}, [change]) == expected


def test_changes_build_on_what_is_there():
    """ENV and LABEL replace their own names; ENTRYPOINT does away with the old CMD; WORKDIR is relative."""
    config = {"Env": ["A=1", "B=2"], "Cmd": ["old"], "Labels": {"x": "1"}, "WorkingDir": "/srv"}
    changed = apply_changes(
        config, ["ENV A=3", 'ENTRYPOINT ["e"]', "LABEL y=2", "WORKDIR app", "WORKDIR /abs"]
    )
    assert changed == {
        "Env": ["A=3", "B=2"],
        "Entrypoint": ["e"],
        "Labels": {"x": "1", "y": "2"},
        "WorkingDir": "/abs",
    }
    assert config["Env"] == ["A=1", "B=2"]


@pytest.mark.parametrize(
    "change",
    ["RUN x", "", "FROM y", "ENV", "ENV =x", "EXPOSE 0", "EXPOSE 70000", "EXPOSE 9-1", "EXPOSE x", "USER", "SHELL sh",
     "ONBUILD FROM x", "ONBUILD", "VOLUME", "WORKDIR", "HEALTHCHECK", "HEALTHCHECK --x=1 CMD y", "ENV A='x",
     "HEALTHCHECK --interval=fast CMD y"],
)  # fmt: skip
def test_refused(change):
    """What is no change, or malformed."""
    with pytest.raises(SpecError):
        apply_changes({}, [change])


@pytest.mark.parametrize(
    ("text", "value"), [("1s", 10**9), ("1.5m", 90 * 10**9), ("2h3ms", 7200003 * 10**6), ("0s", 0)]
)
def test_durations(text, value):
    """Go's durations."""
    assert duration(text) == value


@given(st.lists(st.text(alphabet="abc '\"\\=", min_size=1, max_size=6), max_size=4))
def test_words_come_back(parts):
    """What is escaped is split into what it was."""
    escaped = " ".join("".join(f"\\{character}" for character in part) for part in parts)
    assert words(escaped) == parts


@given(st.text(max_size=40))
def test_any_text(text):
    """No change makes the parser fail in another way."""
    for instruction in ("ENV", "LABEL", "EXPOSE", "VOLUME", "HEALTHCHECK", "CMD"):
        try:
            apply_changes({}, [f"{instruction} {text}"])
        except SpecError:
            continue
