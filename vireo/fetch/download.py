"""Filling data/<artifact>: downloads from the block's sources, then unpacking.

Made from an artifact block and what already stands in the folder: only missing files are fetched,
each from the first source that has it. Partial downloads and notes about unpacked archives live in
data/<artifact>/.vireo, so that everything can be killed at any time and goes on where it was.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vireo.errors import VireoError
from vireo.fetch import archive, http, hub, local, receipt
from vireo.fetch.local import NOTES, artifact_dir, describe_missing
from vireo.fetch.receipt import readable
from vireo.utils import files, home
from vireo.utils.cli import Progress, log
from vireo.utils.redact import redact

Block = dict[str, Any]
ZENODO = "https://zenodo.org/records/{record}/files/{name}?download=1"
RESERVE = 1 << 26


class Downloader:
    """Fill data/<artifact>: one file after the other, each from the first source that has it."""

    def __init__(self, name: str, block: Block, config: Block) -> None:
        self.name, self.block, self.config = name, block, config
        self.root = artifact_dir(name)
        self.repositories: dict[str, hub.Repository] = {}
        self.used: list[str] = []

    def run(self) -> str:
        """Fetch and unpack what is missing; returns where it came from, for the receipt."""
        if not local.inspect(self.block, self.root).complete:
            self._unpack_present()
            todo = [] if local.inspect(self.block, self.root).complete else self._todo()
            if todo:
                self._refuse_without_source()
                todo = self._expand(todo)
                self._check_disk(todo)
                for entry in todo:
                    self._bring(entry)
            state = local.inspect(self.block, self.root)
            if state.missing:
                raise VireoError(self._missing_text())
            if self.block.get("wants"):
                local.note_complete(self.root, state)
        for entry in self.block.get("files", []):
            at = local.find(entry, self.root)
            if at is not None:
                local.check(*at, self.name)
        shutil.rmtree(self.root / NOTES / "part", ignore_errors=True)
        return "; ".join(dict.fromkeys(self.used)) or f"found in data/{self.name}"

    def _todo(self) -> list[Block]:
        return [e for e in self.block.get("files", []) if not self._done(e)]

    def _done(self, entry: Block) -> bool:
        if local.packed(entry):
            return "*" not in entry["name"] and local.unpacked(entry, self.root)
        return local.find(entry, self.root) is not None

    def _unpack_present(self) -> None:
        """Archives that the user dropped into data/<artifact> are unpacked, and left there."""
        for entry in self.block.get("files", []):
            if local.packed(entry) and self.root.is_dir():
                for path in sorted(self.root.glob(entry["name"])):
                    one = {**entry, "name": str(path.relative_to(self.root))}
                    if not local.unpacked(one, self.root):
                        local.check(entry, path, self.name)
                        self._unpack(one, path)

    def _refuse_without_source(self) -> None:
        if not self.block.get("sources"):
            raise VireoError(self._missing_text())
        if self.config.get("offline"):
            raise VireoError("offline: true, so nothing is downloaded. " + self._missing_text())

    def _missing_text(self) -> str:
        return describe_missing(self.name, self.block, self.config) or f"{self.name}: incomplete"

    def _expand(self, todo: list[Block]) -> list[Block]:
        """Replace patterns such as videos_*.zip by the files that the Hub lists."""
        result = []
        for entry in todo:
            if "*" not in entry["name"]:
                result.append(entry)
                continue
            matches = self._hub_matches(entry["name"])
            for remote in matches:
                one = {**entry, "name": remote.name, "size": remote.size, "sha256": remote.sha256}
                if not self._done(one):
                    result.append(one)
        return result

    def _hub_matches(self, pattern: str) -> list[hub.Remote]:
        problems = []
        for source in self.block["sources"]:
            if source["type"] == "hf":
                try:
                    matches = self._repository(source).matching(pattern)
                except http.Unavailable as error:
                    problems.append(str(error))
                    continue
                if matches:
                    return matches
                problems.append(f"{source['repo']} has no {pattern}")
        raise VireoError("\n".join([*problems, self._missing_text()]))

    def _repository(self, source: Block) -> hub.Repository:
        repo, revision = source["repo"], source.get("revision", "main")
        if repo not in self.repositories:
            wanted = receipt.pinned(self.name, repo, revision)
            found = hub.look_up(repo, source.get("kind", "model"), wanted)
            receipt.pin(self.name, repo, revision, found.commit)
            self.repositories[repo] = found
        return self.repositories[repo]

    def _check_disk(self, todo: list[Block]) -> None:
        plain, packed, unpacked = 0, [0], 0
        for entry in todo:
            size = entry.get("size") or entry.get("about") or 0
            if local.packed(entry):
                packed.append(size)
                unpacked += entry["extract"].get("unpacked") or size
            else:
                plain += size
        here = sum(p.stat().st_size for p in (self.root / NOTES).rglob("*") if p.is_file())
        keep = sum(packed) if self.config.get("keep_archives", True) else max(packed)
        needed = max(plain + keep + unpacked - here, 0)
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free - RESERVE
        log.info("%s: %d files, %s on disk", self.name, len(todo), readable(needed))
        if needed > free:
            raise VireoError(
                f"{self.name} needs {readable(needed)} in {self.root.resolve()} and "
                f"{readable(max(free, 0))} are free. Make room, run in another folder "
                "(--directory), or set keep_archives: false"
            )

    def _bring(self, entry: Block) -> None:
        problems: list[str] = []
        for candidate in (entry, *entry.get("accept", [])):
            for source in self.block["sources"]:
                if not _offers(source, candidate, candidate is entry):
                    continue
                try:
                    self._from_source(source, {**entry, **_own_facts(candidate)})
                    return
                except http.Unavailable as error:
                    log.warning("%s", error)
                    problems.append(f"- {error}")
                    if isinstance(error, http.WrongContent) and self._only_recorded(candidate):
                        problems.append(
                            f"  (recorded in {receipt.LOCK} on the first download; if the new "
                            "file is the right one: "
                            f"{home.script('fetch', self.name, '--accept-change')})"
                        )
        reasons = "\n".join(dict.fromkeys(problems)) or "- no source offers it"
        raise VireoError(f"cannot get {entry['name']}:\n{reasons}\n{self._missing_text()}")

    def _only_recorded(self, entry: Block) -> bool:
        return not entry.get("sha256") and bool(receipt.recorded(self.name, entry["name"]))

    def _from_source(self, source: Block, entry: Block) -> None:
        name = entry["name"]
        remote = source.get("files", {}).get(name, name)
        recorded = receipt.recorded(self.name, name)
        expected = http.Expected(
            entry.get("size") or recorded.get("size"),
            entry.get("sha256") or recorded.get("sha256"),
            entry.get("md5"),
        )
        with _disk_errors(name, self.root), _bar(name, expected.size or entry.get("about")) as bar:
            if source["type"] == "hf":
                got, path = self._from_hub(source, remote, name, expected, bar)
            else:
                got, path = self._from_url(_url(source, remote), name, expected, bar)
        self.used.append(got.url)
        if local.packed(entry):
            receipt.enforce(self.name, name, got.size, got.sha256, got.url)
            self._unpack(entry, path)
            if self.config.get("keep_archives", True):
                self._place(path, name)
            else:
                path.unlink()
        else:
            final = self._place(path, name)
            receipt.remember_hash(final, got.sha256)
            receipt.enforce(self.name, name, got.size, got.sha256, got.url)

    def _from_url(
        self, url: str, name: str, expected: http.Expected, bar: Callable[[int], None]
    ) -> tuple[http.Got, Path]:
        log.info("%s: %s from %s", self.name, name, redact(url))
        partial = files.inside(self.root / NOTES / "part", name)
        got = http.download(url, partial, expected, bar)
        http.discard_state(partial)
        return got, partial

    def _from_hub(
        self,
        source: Block,
        remote: str,
        name: str,
        expected: http.Expected,
        bar: Callable[[int], None],
    ) -> tuple[http.Got, Path]:
        repository = self._repository(source)
        log.info("%s: %s from %s at %s", self.name, name, source["repo"], repository.commit)
        folder = self.root / NOTES / "part" / "hub"
        path = hub.download(repository, remote, folder, bar)
        size, sha256 = path.stat().st_size, files.sha256(path)
        origin = f"hf:{source['repo']}@{repository.commit}/{remote}"
        try:
            http.Expected(expected.size, expected.sha256).check(size, sha256, "", origin)
        except http.WrongContent:
            path.unlink()
            raise
        return http.Got(size, sha256, origin), path

    def _place(self, path: Path, name: str) -> Path:
        final = files.inside(self.root, name)
        final.parent.mkdir(parents=True, exist_ok=True)
        path.replace(final)
        return final

    def _unpack(self, entry: Block, path: Path) -> None:
        options = entry["extract"]
        log.info("%s: unpacking %s (%s)", self.name, path.name, readable(path.stat().st_size))
        names = archive.extract(
            path,
            local.target(entry, self.root),
            flatten=options.get("flatten", False),
            limit=options.get("unpacked"),
        )
        note = {"size": path.stat().st_size, "members": names}
        files.write_json(local.marker(self.root, entry["name"]), note, indent=None)


def _own_facts(candidate: Block) -> Block:
    """Size and hashes belong to one file; an accepted alternative does not inherit them."""
    return {key: candidate.get(key) for key in ("name", "size", "about", "sha256", "md5")}


def _offers(source: Block, candidate: Block, main: bool) -> bool:
    """A source has the main file unless it lists others; alternatives only when listed."""
    listed = source.get("files")
    return candidate["name"] in listed if listed else main


def _url(source: Block, remote: str) -> str:
    if source["type"] == "zenodo":
        return ZENODO.format(record=source["record"], name=quote(remote))
    return source["url"].replace("{name}", quote(remote))


@contextmanager
def _disk_errors(name: str, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VireoError(
            f"cannot write {name} below {root.resolve()}: {error.strerror or error}; what has come "
            "is kept there and continued next time"
        ) from error


@contextmanager
def _bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Progress in whole megabytes: bytes would make unreadable numbers."""
    with Progress(total and max(total >> 20, 1), name, "MB") as shown:
        came = 0

        def report(count: int) -> None:
            nonlocal came
            came += count
            step = (came >> 20) - shown.count
            if step:
                shown.update(step)

        yield report
