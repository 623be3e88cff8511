"""Folders that cannot be written: one clear error, nothing half-made, then the right result."""

import os
import shutil
import subprocess

import pytest

from tests.e2e.world import SHORT, Place, same

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("folder", ["results", "cache/predictions", "cache/shards"])
def test_a_read_only_folder(finished, tmp_path, folder) -> None:
    shutil.copytree(finished.folder, tmp_path / "work", symlinks=True)
    place = Place(tmp_path / "work", finished.config)
    for name in ("results", "cache/predictions", "cache/shards"):
        shutil.rmtree(place.folder / name)
    (place.folder / folder).mkdir(parents=True)
    # Permission bits do not stop root; a read-only file system stops everybody.
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place.folder / folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        done = place.run(SHORT)
        assert done.code != 0 and "Read-only file system" in done.text and folder in done.text
        assert "Traceback" not in done.text.split("rule ")[0]
        assert not (place.folder / SHORT).exists()
        kept = place.journalled()
        subprocess.run([*mount[:4], "remount,rw", *mount[5:]], check=True)
        place.make(SHORT)
        same(place.predictions(), finished.predictions())
        assert place.journalled() >= kept and set(place.journalled().values()) == {1}
    finally:
        subprocess.run(["umount", "-l", str(place.folder / folder)], check=True)
