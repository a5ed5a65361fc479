"""What the command lines print."""

import pytest

from corpus import console

HOSTILE = "\x1b]0;owned\x07 title \x1b[2J\x9b31m"


def test_a_text_from_the_web_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"refused: {HOSTILE}")
    console.print_table(HOSTILE, ["video"], [[HOSTILE]])
    out, err = capsys.readouterr()
    assert not set("\x1b\x07\x9b") & set(out + err)
    assert "title" in out
    assert "title" in err
