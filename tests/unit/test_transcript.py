"""A page that prints what a command does not answer is found out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.transcript import Shell, Step, chapters, matches, steps

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """# Title

## One

```console
$ echo one \\
    two
one two
$ cat > file <<'END'
$ not a command
END
$ cat file |
    wc -l
1
```

```toml
$ = "no transcript"
```

## Two

```console
$ false
ERROR: of its own
```
"""


def test_a_command_goes_on_after_a_backslash_a_pipe_and_in_a_here_document() -> None:
    assert steps(PAGE) == [
        Step("One", "echo one \\\n    two", "one two"),
        Step("One", "cat > file <<'END'\n$ not a command\nEND", ""),
        Step("One", "cat file |\n    wc -l", "1"),
        Step("Two", "false", "ERROR: of its own"),
    ]
    assert [len(each) for each in chapters(PAGE).values()] == [3, 1]
    assert [step.fails for step in steps(PAGE)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("printed", "answered", "same"),
    [
        ("etag: …", "etag: BwY=\n", True),
        ("etag: …\nversion: 1", "etag: BwY=\nversion: 1", True),
        ("first\n…\nlast", "first\nmiddle\nmore\nlast", True),
        ("a.c", "abc", False),
        ("etag: …", "etag: BwY=\nversion: 1", False),
        ("", "something", False),
        ("something", "", False),
        ("first\n…\nlast", "first\nlast, or not", False),
    ],
)
def test_only_what_is_left_open_may_differ(printed: str, answered: str, same: bool) -> None:
    assert matches(printed, answered) is same


def test_the_shell_keeps_its_variables_and_tells_both_outputs_and_the_status(
    tmp_path: Path,
) -> None:
    with Shell(tmp_path, {"PATH": "/usr/bin:/bin"}) as shell:
        assert shell.run("NAME=value; cd /") == (0, "")
        assert shell.run('echo "$NAME" >&2; pwd; false') == (1, "value\n/\n")
        assert shell.run("cat") == (0, "")
