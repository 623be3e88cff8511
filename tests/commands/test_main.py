"""`vireo`: help, version, usage, exit codes, and the older names of the commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import vireo as package
from vireo import commands, config
from vireo.config import HOME
from vireo.media import sens_export

SHIMS = {"doctor": "doctor", "evaluate": "evaluate", "lists": "lists", "sens": "sens"}
SHIMS |= {"talker": "smollm2"}


def test_every_file_is_a_command_and_is_listed(vireo) -> None:
    files = {p.stem for p in Path(commands.__file__).parent.glob("*.py")}
    assert files - {"__init__", "options"} == set(commands.NAMES)
    done = vireo("--help")
    assert done.returncode == 0 and done.stdout == vireo("-h").stdout
    for name in commands.NAMES:
        assert re.search(rf"^    {name} +\w", done.stdout, re.M), name
    assert "exit codes" in done.stdout


@pytest.mark.parametrize("name", commands.NAMES)
def test_help_is_complete(vireo, name) -> None:
    """A sentence, every argument explained, examples that the command's own parser takes."""
    done = vireo(name, "--help")
    assert done.returncode == 0 and done.stdout == vireo(name, "-h").stdout
    assert done.stdout.startswith(f"usage: vireo {name} ") and "examples:" in done.stdout
    examples = commands.module(name).EXAMPLES.replace("\\\n", " ")
    for line in examples.splitlines():
        words = [w.strip('"') for w in re.findall(r'"[^"]*"|\S+', line.partition("   #")[0])]
        assert words[:2] == ["vireo", name]
        words = [each for word in words for each in ([word, word] if "*" in word else [word])]
        if "--help" not in words:
            assert commands.parser().parse_args(words[1:]).command is commands.module(name)


def test_the_version_is_said_in_one_place(vireo) -> None:
    assert vireo("--version").stdout == f"vireo {package.__version__}\n"
    project = (HOME / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project and 'path = "vireo/__init__.py"' in project
    cited = yaml.safe_load((HOME / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == package.__version__


@pytest.fixture(scope="module")
def shipped():
    return config.load()


@pytest.fixture
def loaded(shipped, monkeypatch) -> None:
    """The shipped configuration is read once for all mistakes that are not about it."""
    load = config.load
    monkeypatch.setattr(config, "load", lambda files=None: load(files) if files else shipped)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "arguments are required: COMMAND"),
        (["predcit"], 2, "invalid choice: 'predcit'"),
        (["predict"], 2, "arguments are required: MODEL"),
        (["predict", "viclip"], 2, "arguments are required: --video"),
        (["predict", "viclip", "--video", "no.mp4", "--texts", "a", "b"], 1, "no video at no.mp4"),
        (["predict", "vicilp", "--video", "x"], 1, "did you mean 'viclip'"),
        (["predict", "mmduet", "--video", "x", "--fps", "0"], 2, "--fps: 0 is not a number above"),
        (["predict", "mmduet", "--video", "x", "--fps", "nan"], 2, "--fps"),
        (["predict", "mmduet", "--video", "x", "--max-frames", "-1"], 2, "not at least 1"),
        (["predict", "mmduet", "--video", "x", "--prob", "1", "--sum", "2"], 2, "not allowed with"),
        (["predict", "viclip", "--video", "x", "--device", "gpu"], 2, "invalid choice: 'gpu'"),
        (["predict", "viclip", "--video", "no", "--texts", "a", "b"], 1, "no video below no"),
        (["predict", "viclip", "--video", "v.mp4", "--texts", "a", "b"], 1, "weights of viclip"),
        (["show", "viclip", "videomme", "--only", "1", "--out", "x.html"], 1, "items not found"),
        (["doctor", "--compare", "no", "nothing"], 1, "no holds no files"),
        (["doctor", "x", "--config", "no.yaml"], 1, "no.yaml"),
        (["doctor", "demo", "--log", "v.mp4/log"], 1, "v.mp4"),
        (["report", "no.json", "--summary"], 1, "no.json"),
        (["compare", "no.json"], 2, "arguments are required: RESULT.json"),
        (["sens", "info", "v.mp4"], 1, "v.mp4"),
        (["sens", "info", "no.sens"], 1, "no.sens"),
        (["sens", "export", "v.mp4", "out", "--every", "0"], 2, "0 is not at least 1"),
        (["sens", "export", "v.mp4", "out", "--what", "colour"], 2, "invalid choice: 'colour'"),
        (["lists", "videomme", "--annotations", ".", "--out", "."], 1, "no classes or targets"),
        (["evaluate", "vidomme", "--x"], 1, "did you mean 'videomme'"),
    ],
)
def test_a_mistake_is_a_sentence(vireo, tmp_path, monkeypatch, arguments, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    Path("v.mp4").write_bytes(b"no video")
    Path("no").mkdir()
    done = vireo(*arguments)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.usefixtures("loaded")
def test_an_option_may_be_shortened(vireo, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = vireo("predict", "viclip", "--vid", "no.mp4", "--text", "a", "b")
    assert done.returncode == 1 and "no video at no.mp4" in done.stderr
    done = vireo("predict", "viclip", "--vid", "no.mp4", "--s", "2")
    assert done.returncode == 2 and "ambiguous option: --s could match" in done.stderr


def test_help_waits_for_nothing_heavy() -> None:
    code = "import sys; from vireo.commands import parser; parser().format_help(); "
    code += "print(*({'numpy', 'pandas', 'torch', 'cv2', 'jinja2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stdout + done.stderr


def test_choices_are_those_of_the_library() -> None:
    from vireo.commands import options, sens

    assert (sens.PARTS, sens.LAYOUTS) == (sens_export.PARTS, sens_export.LAYOUTS)
    parsed = vars(commands.parser().parse_args(["predict", "mmduet"]))
    assert {key: parsed[key] for key in options.NOT_STREAMING} == options.NOT_STREAMING


@pytest.mark.parametrize("name", SHIMS)
def test_older_names_still_work(name) -> None:
    script = [sys.executable, str(HOME / f"scripts/{name}.py")]
    done = subprocess.run([*script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: vireo {SHIMS[name]} ")


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "vireo", "--version"]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert done.stdout == f"vireo {package.__version__}\n"


def test_no_script_looks_at_its_command_line_before_parsing() -> None:
    """`sys.argv` is handed on, never searched."""
    allowed = re.compile(r"sys\.exit\(main\(\[\"\w+\", \*sys\.argv\[1:\]\]\)\)")
    for path in [*(HOME / "scripts").glob("*.py"), *(HOME / "vireo/commands").glob("*.py")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "sys.argv" in line and path.name != "train.py":
                assert allowed.search(line), f"{path.name}: {line}"
