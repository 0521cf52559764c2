"""Go templates after --format."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock.cli.output import align, format_rows, human_age, human_duration, human_size, parse_time
from fastdock.cli.template import Template, TemplateError

DATA = {
    "A": "text",
    "N": 3,
    "L": [1, 2, "b"],
    "M": {"k": {"z": 1}, "b": None, "with-dash": "d"},
    "E": [],
    "T": True,
    "Nil": None,
    "Label": lambda key: f"<{key}>",
    "F": 0.5,
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.A}} {{ .N }}", "text 3"),
        ("{{.M.k.z}}{{(index .M \"k\").z}}{{index .M \"with-dash\"}}", "11d"),
        ("{{json .}}", None),
        ("{{json .L}}", '[1,2,"b"]'),
        ("{{.L}} {{.M.k}} {{.T}} {{.Nil}} {{.F}}", "[1 2 b] map[z:1] true <no value> 0.5"),
        ("{{range .L}}<{{.}}>{{end}}", "<1><2><b>"),
        ("{{range $i, $e := .L}}{{if $i}},{{end}}{{$e}}{{end}}", "1,2,b"),
        ("{{range $k, $v := .M.k}}{{$k}}={{$v}}{{end}}", "z=1"),
        ("{{range .E}}x{{else}}none{{end}}", "none"),
        ("{{range .L}}{{if eq . 2}}{{break}}{{end}}{{.}}{{end}}", "1"),
        ("{{range .L}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{end}}", "1b"),
        ("{{if .E}}a{{else if .T}}b{{else}}c{{end}}", "b"),
        ("{{if and .T (not .E)}}y{{end}}{{if or .E .Nil}}n{{end}}", "y"),
        ("{{with .M.k}}{{.z}}{{$.A}}{{end}}", "1text"),
        ("{{$x := .N}}{{$x}}{{range .L}}{{$x = .}}{{end}}{{$x}}", "3b"),
        ("{{.A | upper | printf \"%-6s|\"}}", "TEXT  |"),
        ("{{printf \"%d %05d %q %.1f %v%%\" 1 2 \"x\" 1.25 .L}}", '1 00002 "x" 1.2 [1 2 b]%'),
        ("{{println .A 1}}{{print 1 2 \"a\" 3}}", "text 1\n1 2a3"),
        ("{{join (split \"a,b\" \",\") \"/\"}} {{lower \"AB\"}} {{title \"ab cd\"}}", "a/b ab Ab Cd"),
        ("{{truncate .A 2}}{{pad .A 1 2}}|", "te text  |"),
        ("{{len .L}}{{len .A}} {{index .L 2}} {{slice .A 1 3}}", "34 b ex"),
        ("{{.Label \"x\"}}{{with .Label \"y\"}}{{.}}{{end}}", "<x><y>"),
        ("a {{- .A -}} b", "atextb"),
        ("a{{/* comment */}}b {{- /* trims */ -}} c", "abc"),
        ("{{`raw \\n`}}{{\"tab\\t\\u00e9\"}}{{'a'}}", "raw \\ntab\té97"),
        ("{{gt 2 1}} {{lt 1.5 2}} {{ne .A \"x\"}} {{eq .A \"x\" \"text\"}}", "true true true true"),
        ("{{range 3}}{{.}}{{end}}", "012"),
    ],
)  # fmt: skip
def test_render(template, expected):
    """What Go writes."""
    shown = Template(template).render(
        {key: value for key, value in DATA.items() if key != "Label" or "Label" in template}
    )
    assert expected is None or shown == expected


@pytest.mark.parametrize(
    "template",
    ["{{", "{{.A", "{{if .A}}", "{{end}}", "{{else}}", "{{range}}{{end}}", "{{unknown .A}}", "{{.A)}}", "{{(.A}}",
     "{{|}}", "{{if .A}}{{else}}{{else}}{{end}}", "{{define \"x\"}}{{end}}",
     "{{\"unclosed}}", "{{.A | 3 |}}", "{{$x}", "{{}}"],
)  # fmt: skip
def test_malformed(template):
    """An error, before anything is printed."""
    with pytest.raises(TemplateError):
        Template(template)


@pytest.mark.parametrize(
    "template",
    ["{{.None}}", "{{.A.B}}", "{{$x}}", "{{index .L 9}}", "{{index .A \"x\"}}", "{{lt .A 1}}", "{{range .A}}{{end}}",
     "{{.A 1}}", "{{len .N}}", "{{slice .A 9}}", "{{break}}", "{{join 3 \"\"}}", "{{truncate}}"],
)  # fmt: skip
def test_does_not_fit(template):
    """An error that says what."""
    with pytest.raises(TemplateError):
        Template(template).render(DATA)


@given(st.text(alphabet='{}.|$ "ABLMa:=(),end if range index json else 019-', max_size=40))
def test_any_text(template):
    """No template makes the parser or the data fail in another way."""
    with contextlib.suppress(TemplateError):
        Template(template).render(DATA)


ROWS = [{"ID": "abc", "Name": "first"}, {"ID": "a-longer-identifier", "Name": "x"}]
HEADINGS = {"ID": "IMAGE ID", "Name": "NAME"}


def test_table():
    """Docker's columns: as wide as the longest cell and three blanks, ten at least."""
    assert format_rows(ROWS, None, "{{.ID}}\t{{.Name}}", HEADINGS) == (
        "IMAGE ID              NAME\nabc                   first\na-longer-identifier   x\n"
    )
    assert align(["a\tb", "c\td"]) == "a         b\nc         d\n"


def test_tables_do_not_steer_the_terminal():
    """An image's own words may have escape sequences."""
    assert align(["\x1b[31mred\tb"]) == "?[31mred   b\n"


def test_formats():
    """table with a template, a bare template, json."""
    assert format_rows(ROWS[:1], "table {{upper .Name}}", "", HEADINGS) == "NAME\nFIRST\n"
    assert format_rows(ROWS[:1], r"{{.ID}}\t{{.Name}}", "", HEADINGS) == "abc\tfirst\n"
    assert format_rows(ROWS[:1], "json", "", HEADINGS) == '{"ID":"abc","Name":"first"}\n'
    assert format_rows([], "{{.ID}}", "", HEADINGS) == ""


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (4_262_345, "4.26MB"), (929_000_000, "929MB"), (999_999_999, "1GB"),
     (77e9, "77GB"), (1e30, "1e+12EB")],
)  # fmt: skip
def test_sizes(size, shown):
    """Decimal units, three digits."""
    assert human_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
     (3600, "About an hour"), (7200, "2 hours"), (86400, "24 hours"), (3 * 86400, "3 days"), (21 * 86400, "3 weeks"),
     (90 * 86400, "3 months"), (800 * 86400, "2 years")],
)  # fmt: skip
def test_durations(seconds, shown):
    """Docker's words."""
    assert human_duration(seconds) == shown


def test_times():
    """RFC 3339 with nanoseconds and zones; other text is no time."""
    assert parse_time("1970-01-01T00:00:10.5Z") == 10.5
    assert parse_time("1970-01-01T01:00:10.123456789+01:00") == pytest.approx(10.123456789)
    assert parse_time("yesterday") == 0
    assert parse_time("9999-99-99T00:00:00Z") == 0
    assert human_age("0001-01-01T00:00:00Z", 0) == "N/A"
