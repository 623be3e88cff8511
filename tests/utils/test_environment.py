"""What a job records of the code it runs."""

import subprocess

from vireo.utils import environment


def test_git_commit_and_dirty_flag(tmp_path):
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert environment.git(tmp_path) is None
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "x")
    assert environment.git(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "file").write_text("2")
    assert environment.git(tmp_path)["dirty"] is True
    (tmp_path / "inner").mkdir()
    assert environment.git(tmp_path / "inner") is None
