"""Any block-based timm CNN as FPD's backbone: its stages by name, what sits before them, and the sizes they come out at."""

from functools import partial
from itertools import pairwise

import torch
from torch import nn

from fpdlib.errors import FPDError
from fpdlib.network.spec import ACTIVATIONS, NetworkSpec

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish)
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")


def build_backbone(spec: NetworkSpec) -> nn.Module:
    """The timm CNN of a spec, with the spec's activation wherever its family takes `act_layer`."""
    import timm  # slow to import, and not needed to read results

    if not timm.is_model(spec.backbone):
        near = ", ".join(timm.list_models(f"*{spec.backbone[:6]}*")[:8]) or "none"
        raise FPDError(f"backbone is {spec.backbone!r}, which timm does not have; close names: {near}.")
    arguments = dict(spec.backbone_args)
    if spec.dropout:
        arguments["drop_rate"] = spec.dropout
    try:
        model = timm.create_model(spec.backbone, num_classes=spec.num_classes, act_layer=ACTIVATIONS[spec.activation], **arguments)
    except (TypeError, AssertionError) as error:
        raise FPDError(
            f"backbone {spec.backbone!r} cannot be built with {arguments} and a chosen activation: {error}. "
            "FPD needs a block-based CNN such as resnet18, densenet121, regnetx_002, convnext_atto."
        ) from error
    wanted = [isinstance(one, ACTIVATIONS[spec.activation]) for one in model.modules() if isinstance(one, RECTIFIERS)]
    if sum(wanted) * 2 < len(wanted):  # gates may keep their own
        raise FPDError(
            f"backbone {spec.backbone!r} takes activation {spec.activation!r} in {sum(wanted)} of {len(wanted)} places; accepted: a "
            "CNN whose blocks take timm's `act_layer`, such as resnet18, densenet121, regnetx_002, convnext_atto."
        )
    return model


def stage_modules(backbone: nn.Module, spec: NetworkSpec) -> dict[str, str]:
    """Stage name -> module path. Stages 1-4 are timm's last four feature levels; 'stem' is what comes before them."""
    info = getattr(backbone, "feature_info", None)
    entries = list(getattr(info, "info", info) or [])
    modules = dict(backbone.named_modules())
    paths = [entry["module"] for entry in entries if entry.get("module") in modules]
    if len(paths) < 4 or not hasattr(backbone, "forward_head"):
        raise FPDError(
            f"backbone is {spec.backbone!r}, which has {len(paths)} feature stages; FPD needs at least 4. "
            "Choose a block-based CNN such as resnet18, densenet121, regnetx_002, convnext_atto, vgg11_bn."
        )
    stages = dict(zip(STAGES[1:], paths[-4:], strict=True))
    # ResNets end their stem with max-pooling, after the level that timm lists (and the release counts it so).
    pooled = isinstance(modules.get("maxpool"), nn.MaxPool2d)
    stages["stem"] = "maxpool" if pooled else (paths[-5] if len(paths) > 4 else "stem")
    if stages["stem"] not in modules:
        del stages["stem"]
    return stages


def resolve_stage(name: str, stages: dict[str, str], backbone: nn.Module, spec: NetworkSpec) -> str:
    path = stages.get(name, name)
    if path not in dict(backbone.named_modules()) or not path:
        raise FPDError(f"inner names {name!r}, which {spec.backbone} does not have; accepted: {', '.join(stages)}.")
    return path


def probe(backbone: nn.Module, stages: dict[str, str], spec: NetworkSpec) -> tuple[dict[str, int], dict[str, int]]:
    """Channels and side length of every stage (and named inner module), measured by one pass over a blank image."""
    channels, sizes = {}, {}

    def record(path, module, inputs, output):
        if output.dim() != 4:
            raise FPDError(
                f"backbone is {spec.backbone!r}, whose {path} gives {tuple(output.shape)} and not (B, C, H, W). "
                "FPD needs a block-based CNN such as resnet18, densenet121, regnetx_002, convnext_atto."
            )
        channels[path], sizes[path] = output.shape[1], output.shape[-1]

    wanted = {*stages.values(), *(resolve_stage(name, stages, backbone, spec) for name in spec.inner)}
    handles = [backbone.get_submodule(path).register_forward_hook(partial(record, path)) for path in wanted]
    backbone.eval()
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, spec.image_size, spec.image_size))
    except (RuntimeError, AssertionError) as error:  # torch's and timm's own complaints about the size
        raise FPDError(f"image_size is {spec.image_size}, which {spec.backbone} cannot process ({error}): use more.") from error
    finally:
        for handle in handles:
            handle.remove()
        backbone.train()
    pyramid = [sizes[stages[name]] for name in STAGES[1:]]
    if spec.image_size < 32 or any(a <= b for a, b in pairwise(pyramid)):
        raise FPDError(
            f"image_size is {spec.image_size}: {spec.backbone}'s stages come out {pyramid} pixels wide, so it is too "
            "deep for these images. Use at least 32 pixels, with every stage smaller than the one before."
        )
    return channels, sizes
