"""Wrong keys and sizes of an `arch`, said by every family in the same way; where weights begin."""

import pytest
import torch

from vireo.errors import VireoError
from vireo.models import clipbert, mmduet, viclip_classifier
from vireo.nn import build as fresh
from vireo.nn import clip_teacher
from vireo.training import videomamba_student

VISION = {"image_size": 8, "patch_size": 4, "width": 8, "layers": 1, "heads": 1, "num_frames": 2}
STUDENT = {"width": 32, "depth": 1}


@pytest.mark.parametrize(
    ("build", "arch", "message"),
    [
        (clipbert.build, {"layer": 1}, "key of a clipbert arch 'layer'; did you mean 'layers'"),
        (clipbert.build, {"heads": 5}, "a clipbert arch: hidden_size 768 is no multiple of heads"),
        (mmduet.build, {"head": 1}, "key of an mmduet arch 'head'; did you mean 'heads'"),
        (mmduet.build, {"vision": {"kv_heads": 1}}, "key of an mmduet arch's vision 'kv_heads'"),
        (viclip_classifier.build, VISION, "a viclip_classifier arch needs num_classes"),
        (videomamba_student.build, {**STUDENT, "output": 1}, "did you mean 'output_dim'"),
        (videomamba_student.build, {**STUDENT, "num_classes": 4}, "key of a videomamba arch"),
    ],
)
def test_wrong_architectures_are_explained(build, arch, message) -> None:
    with torch.device("meta"), pytest.raises(VireoError, match=message):
        build(arch)


def test_a_teacher_says_which_key_is_wrong(tmp_path) -> None:
    with pytest.raises(VireoError, match="key of a CLIP teacher 'layer'; did you mean 'layers'"):
        clip_teacher.load(tmp_path / "none.pt", {"layer": 1})


def test_weights_come_from_the_generator_alone() -> None:
    class Small(torch.nn.Module):
        def __init__(self, arch: dict[str, int]) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(arch["width"]))

        def init_weights(self, generator: torch.Generator | None = None) -> None:
            torch.nn.init.normal_(self.weight, generator=generator)

    made = fresh.model(Small, {"width": 3}, torch.Generator().manual_seed(1))
    assert torch.equal(made.weight, torch.randn(3, generator=torch.Generator().manual_seed(1)))
    before = torch.get_rng_state()
    with torch.device("meta"):
        assert fresh.model(Small, {"width": 10**12}).weight.is_meta
    assert torch.equal(before, torch.get_rng_state())
