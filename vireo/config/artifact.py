"""What comes from outside: where it is downloaded, its files, what a complete folder holds."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from vireo.config.base import Block, Count, Flag, Index, TextOrWhole, key

NEEDED = {"http": "url", "hf": "repo", "zenodo": "record"}


class Source(Block):
    """One place to download from."""

    type: Literal["http", "hf", "zenodo"] = key(
        "An HTTP(S) address, a Hugging Face repository, or a Zenodo record."
    )
    url: str | None = key(
        "http: the address; `{name}` stands for the file.", None, pattern="^https?://"
    )
    repo: str | None = key("hf: owner/name.", None)
    kind: Literal["model", "dataset", "space"] = key("hf: kind of repository.", "model")
    revision: str = key(
        "hf: commit, tag or branch; what a branch stood for at the first download is kept in "
        "data/lock.json.",
        "main",
    )
    record: TextOrWhole | None = key("zenodo: number of the record.", None)
    files: dict[str, str] | None = key(
        "File name here -> path there, where they differ or where the source has only some of "
        "them.",
        None,
    )

    @model_validator(mode="after")
    def _has_its_address(self) -> Any:
        needed = NEEDED[self.type]
        if getattr(self, needed) is None:
            raise PydanticCustomError("needed", "{text}", {"text": f"`{needed}` is missing"})
        return self


class Extract(Block):
    """How an archive is unpacked."""

    to: str = key("Folder below the artifact's folder.", ".")
    flatten: Flag = key("Drop the folders inside the archive.", False)
    unpacked: Count | None = key(
        "Most that it may unpack to (default: 100 times its size).", None, unit="bytes"
    )


class File(Block):
    """One file of an artifact."""

    name: str = key(
        "Path below the artifact's folder; may hold `*` for files listed by the Hub.", min_length=1
    )
    size: Index | None = key("Size, checked.", None, unit="bytes")
    about: Index | None = key(
        "Rough size (for the free-disk check and progress).", None, unit="bytes"
    )
    sha256: str | None = key(
        "Checked after download and in the user's own copy.", None, pattern="^[0-9a-fA-F]{64}$"
    )
    md5: str | None = key(
        "Checked after download, where a server publishes no better.",
        None,
        pattern="^[0-9a-fA-F]{32}$",
    )
    optional: Flag = key("Not an error when absent.", False)
    extract: Extract | None = key("It is a zip or tar archive to unpack.", None)
    accept: list["File"] | None = key(
        "Other files that serve as well, in order of preference.", None
    )


class Want(Block):
    """Something a data set's folder must hold."""

    what: str = key("Its name for people.")
    any: Annotated[list[str], Field(min_length=1)] = key(
        "Glob patterns below the folder; one match is enough."
    )
    count: Count | None = key(
        "How many there are when complete (endings do not count); without it every match is "
        "listed with its hash in the receipt.",
        None,
    )
    optional: Flag = key("Not an error when absent.", False)


class Artifact(Block):
    """Something that comes from outside."""

    title: str | None = key("Name for people.", None)
    homepage: str | None = key("Page that describes it.", None)
    licence: str | None = key(
        "Licence or terms of use; shown before and copied into the receipt.", None
    )
    sources: list[Source] = key(
        "Where it can be downloaded, tried in this order; empty = by hand only.", []
    )
    files: list[File] = key("The files to have.", [])
    wants: list[Want] = key(
        "What a complete folder holds after unpacking, for data sets; without it the folder is "
        "judged by `files`.",
        [],
    )
    by_hand: str | None = key("The manual step, printed when it cannot be downloaded.", None)
