"""The doctor: what a target needs, what of it is here, and what to type next."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vireo import config as cfg
from vireo.doctor import checks, compare, machine, needs
from vireo.errors import VireoError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory on a machine with plenty of everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "disk_free", lambda folder=".": int(2e12))
    monkeypatch.setattr(machine, "memory", lambda: (256.0, 200.0))
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("A GPU", 80.0, 79.0)])
    monkeypatch.setattr(machine, "java_problem", lambda: "")
    monkeypatch.setattr(machine, "hub_token", lambda: True)
    return tmp_path


def said(target, config=None):
    config = config or cfg.load()
    report = checks.examine(config, needs.resolve(config, target))
    return report, checks.text(report)


def test_a_result_with_nothing_here(here) -> None:
    report, text = said("results/viclip/videomme.json")
    assert "videomme (data of videomme): 101 GB, academic research only" in text
    assert "weights of viclip" in text and "1.7 GB" in text and "at 100 Mbit/s" in text
    assert "about 33 min of GPU time for 2700 items" in text
    assert "frames kept in cache/frames take about 3.3 GB" in text
    command = f"snakemake --cores {machine.cores()} results/viclip/videomme.json"
    assert text.endswith(f"{command} -s {cfg.HOME / 'Snakefile'}")  # typed in another folder
    assert not report.blocked and report.download > 1e11


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("viclip/videomme_short", "results/viclip/videomme_short.json"),
        ("./results/viclip/videomme/predictions.parquet", "results/viclip/videomme.json"),
        ("paper_sqa3d", "paper_sqa3d"),
        ("results/sqa3d.html", "paper_sqa3d"),
        ("viclip", "paper_viclip"),
        ("clipbert_sqa3d_fallback", "results/training/clipbert_sqa3d_fallback/weights.safetensors"),
        ("results/training/toy_clipbert", "results/training/toy_clipbert/weights.safetensors"),
        ("internvid_10m_flt_clips", "data/receipts/internvid_10m_flt_clips.json"),
        ("scannet", "data/receipts/scannet.json"),
        ("data/receipts/videomme.json", "data/receipts/videomme.json"),
        ("demo", "demo"),
        ("papers", "papers"),
        ("toy", "paper_toy"),
        ("results/report.html", "results/report.html"),
    ],
)
def test_whatever_people_type(here, target, command) -> None:
    assert needs.resolve(cfg.load(), target).target == command


def test_typos_get_near_names(here) -> None:
    for target, near in [("vicl", "viclip"), ("viclip/vidomme", "videomme"), ("a/b", "model")]:
        with pytest.raises(VireoError, match=near):
            needs.resolve(cfg.load(), target)
    with pytest.raises(VireoError, match="needs a DualEncoder, clipbert is a Answerer"):
        needs.resolve(cfg.load(), "clipbert/videomme")


def test_by_hand_comes_with_its_steps(here) -> None:
    report, text = said("sqa3d")
    assert report.blocked and "by hand  clipbert_sqa3d" in text
    assert "https://drive.google.com/" in text and "paths: {clipbert_sqa3d: /your/folder}" in text
    assert "get by hand (above): clipbert_sqa3d; then" in text
    assert "not run (published only: no block for it here): sqa3d_blind on sqa3d" in text
    config = cfg.load(over={"offline": True})
    assert "by hand  sqa3d_video" in said("clipbert/sqa3d", config)[1]


def test_own_scans_instead_of_ready_videos(here) -> None:
    over = {"benchmarks": {"sqa3d": {"sources": {"videos": "sqa3d_mp4"}}}}
    text = said("clipbert/sqa3d", cfg.load(over=over))[1]
    assert "sqa3d_mp4 (videos of sqa3d): made here from the scans" in text
    assert "by hand  scannet (scans for the videos of sqa3d)" in text


def test_clips_are_cut_here(here) -> None:
    text = said("internvid_10m_flt_clips")[1]
    assert "internvid_10m_flt_clips (asked for): cut here out of the videos" in text
    assert "by hand  internvid_10m_flt_videos" in text and "internvid_10m_flt_list" in text


def test_training_goes_all_the_way_down(here) -> None:
    text = said("viclip_ft_k710_ssv2/ssv2")[1]
    for word in ("weights of recipe viclip_ft_k710:", "weights of recipe viclip_ft_k710_ssv2:"):
        assert word in text
    trained = here / "results/training/viclip_ft_k710_ssv2/weights.safetensors"
    trained.parent.mkdir(parents=True)
    trained.touch()
    assert "weights of recipe" not in said("viclip_ft_k710_ssv2/ssv2")[1]


def test_a_small_machine(here, monkeypatch) -> None:
    monkeypatch.setattr(machine, "disk_free", lambda folder=".": int(5e10))
    monkeypatch.setattr(machine, "memory", lambda: (16.0, 12.0))
    monkeypatch.setattr(machine, "gpus", lambda: [])
    monkeypatch.setattr(machine, "java_problem", lambda: "METEOR needs Java: put `java` on PATH")
    report, text = said("mmduet/youcook2")
    assert report.blocked
    assert "wants 24 GB of main memory, this machine has 16 GB" in text
    assert "meant for a GPU with 24 GB and none is seen" in text and "METEOR needs Java" in text
    assert "are free in" in said("videomme")[1]
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("Small", 8.0, 8.0)])
    assert "Small has 8 GB; try `dtype: bfloat16`" in said("mmduet/youcook2")[1]
    monkeypatch.setattr(machine, "hub_token", lambda: False)
    assert "export HF_TOKEN=" in said("mmduet/youcook2")[1]


def test_a_wrong_python_and_a_poor_pyav(here, monkeypatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(machine, "missing_codecs", lambda: ["hevc", "av1"])
    text = said("viclip/videomme")[1]
    assert "Python 3.9 runs this; Vireo needs 3.11, 3.12 or 3.13 (make setup PYTHON=" in text
    assert "cannot decode hevc, av1: install the wheel that requirements.txt pins" in text


def test_this_machine_can_be_asked() -> None:
    total, free = machine.memory()
    assert 0 < free <= total and machine.disk_free("not/there/yet") > 0
    assert machine.cores() >= 1 and not machine.python_problem() and not machine.missing_codecs()


def files(root: Path, **contents: bytes) -> Path:
    for name, content in contents.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_two_copies(tmp_path) -> None:
    a = files(tmp_path / "a", videos__x_dot_mp4=b"x" * 5000, videos__y_dot_mp4=b"y" * 10)
    b = files(tmp_path / "b", top__videos__x_dot_mp4=b"x" * 5000, top__videos__y_dot_mp4=b"y" * 10)
    files(b / "top", _dot_DS_Store=b"litter")
    found = compare.compare(a, b)
    assert found.same and found.equal == 2 and compare.text(found).startswith("the same")
    assert "1 large ones by three probes" in compare.text(compare.compare(a, b, whole=1000))
    (b / "top/videos/y.mp4").write_bytes(b"z" * 10)
    (b / "top/videos/x.mp4").write_bytes(b"x" * 4999)
    (b / "top/videos/z.mp4").write_bytes(b"")
    found = compare.compare(a, b)
    assert not found.same
    assert found.sizes[0][1:] == (5000, 4999) and len(found.contents) == len(found.only_b) == 1
    with pytest.raises(VireoError, match="does not exist"):
        compare.compare(a, tmp_path / "c")


def test_two_files_under_other_names(tmp_path) -> None:
    files(tmp_path, one=b"same", two=b"same", three=b"else")
    assert compare.compare(tmp_path / "one", tmp_path / "two").same
    assert compare.compare(tmp_path / "one", tmp_path / "three").contents


def test_the_head_tells_the_size_of_its_dictionary() -> None:
    """A head trained for real on 41 of 100 classes, the last of them met once."""
    import torch

    from vireo.doctor import clipbert_head

    draw = torch.Generator().manual_seed(0)
    last = torch.nn.Linear(24, 100)
    torch.nn.init.normal_(last.weight, std=0.02, generator=draw)
    torch.nn.init.zeros_(last.bias)
    steps = 400
    adam = torch.optim.AdamW(last.parameters(), lr=2e-3)
    centres = torch.randn(41, 24, generator=draw)
    for step in range(steps):
        y = torch.randint(0, 40, (16,), generator=draw)
        if step == steps // 2:
            y[0] = 40
        x = torch.relu(centres[y] + 0.5 * torch.randn(16, 24, generator=draw))
        adam.param_groups[0]["lr"] = 2e-3 * min(1, step / 40) * (1 - step / steps)
        adam.zero_grad()
        torch.nn.functional.cross_entropy(last(x), y).backward()
        adam.step()
    bias = last.bias.detach().numpy()
    assert clipbert_head.trained_rows(bias) == 41
    assert clipbert_head.trained_rows(bias[:41]) is None  # no row is left over: nothing can be told
    assert clipbert_head.trained_rows(np.zeros(100)) is None


def test_a_dictionary_of_another_size_is_said(here) -> None:
    import torch
    from safetensors.torch import save_file

    from vireo.utils.files import write_json

    answers = here / "own/answer_dict.json"
    write_json(answers, [{f"a{n}": n for n in range(40)}, {str(n): f"a{n}" for n in range(40)}])
    bias = torch.full((100,), -0.5) + 0.0001 * torch.randn(100)
    bias[:44] = torch.rand(44) - 0.2
    save_file({"transformer.classifier.2.bias": bias}, here / "own/clipbert.safetensors")
    facts = {"root": str(here / "own"), "source": "test"}
    for name, file in (("sqa3d_task", answers.name), ("clipbert_sqa3d", "clipbert.safetensors")):
        listed = {file: {"size": 1, "sha256": None}}
        write_json(
            here / f"data/receipts/{name}.json", {"artifact": name, "files": listed, **facts}
        )
    text = said("clipbert/sqa3d")[1]
    assert "number 43, but the dictionary has 40 answers" in text
    assert "the dictionary answer_dict.json (sha256 " in text


def test_command_line(tmp_path, vireo, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path, a__x=b"1", b__x=b"2")
    call = ["doctor", "toy_viclip/toy_videomme", "--compare", "a", "b"]
    done = vireo(*call)
    assert done.returncode == 1, done.stderr
    assert "different" in done.stdout and "generated here" in done.stdout
    facts = json.loads(vireo(*call, "--json").stdout)
    assert facts["compare"]["same"] is False and facts["compare"]["contents"] == ["x"]
    (target,) = facts["targets"]
    assert target["target"] == "results/toy_viclip/toy_videomme.json" and not target["blocked"]
    assert {f["kind"] for f in target["findings"]} <= {"here", "comes", "note"}
    assert vireo("doctor").returncode == 2
    done = vireo("doctor", "vicilp/videomme")
    assert done.returncode == 1 and "did you mean 'viclip'" in done.stderr


def test_videomamba_without_compiled_kernels_is_a_note(here, monkeypatch) -> None:
    """On a machine without a GPU, for VideoMamba's runs and recipes alone."""
    targets = ["results/videomamba_m16_k400_f16/k400_ft.json", "videomamba_t16_lvu_scene"]
    monkeypatch.setattr(machine, "kernels_missing", lambda: "this processor has no AVX2")
    line = "VideoMamba's scan runs in PyTorch, compiled it is faster: this processor has no AVX2"
    for target in targets:
        assert line not in said(target)[1]
    monkeypatch.setattr(machine, "gpus", lambda: [])
    for target in targets:
        assert f"note     {line}" in said(target)[1]
    assert line not in said("results/viclip/videomme.json")[1]
    monkeypatch.setattr(machine, "kernels_missing", lambda: "")
    assert "scan runs in PyTorch" not in said(targets[0])[1]


def test_asking_for_kernels_imports_no_torch() -> None:
    code = (
        "import sys; from vireo.doctor import machine; machine.kernels_missing(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=cfg.HOME, timeout=120).returncode == 0
