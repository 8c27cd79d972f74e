"""The FPD network: every variant, every backbone family, the released structure."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fpdlib.errors import FPDError
from fpdlib.network.fpd import FPD, DenoisingLayer, build, cost, non_local_mean
from fpdlib.network.spec import NetworkSpec, released
from fpdlib.paper import settings
from fpdlib.paper.profiles import PROFILES, SMALL
from fpdlib.paper.variants import VARIANTS

FULL = {"restoration": True, "classifier": "back", "activation": "elu", "squeeze": "tanh"}
SMALL_F = replace(SMALL, inner=("stage1", "stage2"), **FULL)


@pytest.fixture
def x():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (2, 64, 3, 3), (1, 9, 3, 3)])
def test_both_association_orders_of_the_non_local_mean_agree(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    flat = x.flatten(2)
    pixels = flat.shape[2]
    by_channels = (flat @ flat.mT / pixels @ flat).view_as(x)
    by_pixels = (flat @ (flat.mT @ flat / pixels)).view_as(x)
    explicit = torch.stack([
        sum((flat[:, :, i] * flat[:, :, j]).sum(1, keepdim=True) * flat[:, :, j] for j in range(pixels)) / pixels
        for i in range(pixels)
    ], 2).view_as(x)  # fmt: skip
    for expected in (by_channels, by_pixels, explicit):
        assert torch.allclose(non_local_mean(x), expected, rtol=1e-5, atol=1e-5)


def test_the_cheaper_order_is_taken():
    def macs(channels, side):
        layer, x = DenoisingLayer(channels, "plain"), torch.rand(1, channels, side, side)
        with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
            layer(x)
        return counter.get_total_flops() // 2

    assert macs(64, 3) == 2 * 64 * 9 * 9  # HW x HW
    assert macs(4, 8) == 2 * 4 * 4 * 64  # C x C


def test_middle_layer_reads_the_restored_image_or_the_raw_input(x):
    restored = torch.rand_like(x)
    paper, release = FPD(SMALL_F), FPD(replace(SMALL_F, middle="raw"))
    assert torch.equal(paper.clean(restored, x), paper.clean(restored, 0 * x))  # text: only x' matters
    assert torch.allclose(paper.clean(restored, x), restored + non_local_mean(restored))
    flat = x.flatten(2)
    assert torch.allclose(release.clean(restored, x), restored + (flat @ flat.mT / 1024 @ flat).view_as(x), atol=1e-6)


def test_without_residual_connections_only_what_the_layers_made_of_their_input_is_left(x):
    bare = DenoisingLayer(3, "plain", residual=False)
    assert torch.equal(bare(x), non_local_mean(x)) and torch.allclose(DenoisingLayer(3, "plain")(x), x + non_local_mean(x))
    with_, without = FPD(SMALL_F), FPD(replace(SMALL_F, residual=False))
    assert torch.allclose(without.clean(x, 0 * x), with_.clean(x, 0 * x) - x, atol=1e-6)
    raw = FPD(replace(SMALL_F, residual=False, middle="raw"))  # the release's middle layer, x' no longer added
    assert torch.allclose(raw.clean(0 * x, x), non_local_mean(x, source=x)) and torch.equal(raw.clean(0 * x, x), raw.clean(x, x))
    with pytest.raises(FPDError, match="residual is False with denoiser 'xie'"):
        replace(SMALL_F, residual=False, denoiser="xie")
    layers = [module for module in without.modules() if isinstance(module, DenoisingLayer)]
    assert layers and not any(layer.residual for layer in layers)
    assert "bare" in with_.parts and "bare" not in without.parts  # nothing would be left of it


def test_back_inputs(x):
    restored = torch.rand_like(x)
    back = {mode: FPD(replace(SMALL_F, back_input=mode)).clean(restored, x) for mode in ("restored", "average", "flip")}
    assert torch.equal(back["restored"], restored)
    assert torch.allclose(back["average"], (restored + x) / 2)
    assert torch.equal(back["flip"], restored.flip(3))


@pytest.mark.parametrize(
    "backbone",
    ["resnet18", "resnet50", "resnet101", "resnext50_32x4d", "densenet121", "regnetx_002", "convnext_atto",
     "efficientnet_b0", "vgg11_bn"],
)  # fmt: skip
def test_any_block_based_cnn_is_enhanced(backbone):
    """Abstract: 'applies to all block-based CNNs'. Shapes, gradients to every layer, denoising that has an effect."""
    spec = NetworkSpec(backbone=backbone, inner=("stage1", "stage2"), decoder_width=32, **FULL)
    model = build(spec, 0)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    front = model.front(x)
    assert front.restored.shape == x.shape
    logits = model.squeeze(model.classify(front))
    assert logits.shape == (2, 10) and logits.abs().max() <= 1
    (logits.square().sum() + front.restored.square().sum()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without
    assert any(isinstance(m, nn.ELU) for m in model.modules())
    assert not any(isinstance(m, (nn.ReLU, nn.SiLU, nn.GELU)) for m in model.modules())
    plain = build(replace(spec, inner=()), 0).eval()
    with torch.no_grad():
        assert not torch.allclose(plain.trunk(x)[1], model.eval().trunk(x)[1])


@pytest.mark.parametrize(("backbone", "parameters"), [("resnet50", 25_172_429), ("resnet101", 44_164_557)])
def test_released_preset_has_the_released_structure(backbone, parameters):
    model = FPD(released(backbone))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for p in model.decoder.up.parameters()) == 69_763  # its transposed convolutions
    assert sum(p.numel() for p in model.trunk.backbone.get_classifier().parameters()) == 20_490
    assert [(layer.kernel_size[0], layer.stride[0]) for layer in model.decoder.up] == [(2, 2), (2, 2), (1, 1)]
    assert [layer.out_channels for layer in model.decoder.up] == [64, 16, 3]
    assert list(model.trunk.inner) == ["maxpool", "layer1"] and not list(model.trunk.inner.parameters())
    assert not list(model.back_statistics.buffers())
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 10)


def test_released_initialisation_is_he_normal_in_every_convolution():
    """The release draws each Conv2d He-normal, fan out, ReLU gain; transposed convolutions keep PyTorch's default."""

    def deviation(layer):
        return float(layer.weight.detach().std() / (2 / (layer.out_channels * layer.kernel_size[0] ** 2)) ** 0.5)

    model, default = (build(released(initialisation=how), 0) for how in ("released", "pytorch"))
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert deviation(layer) == pytest.approx(1, abs=0.05), name
    narrow = [1 / deviation(layer) for layer in (*default.decoder.laterals, default.decoder.smooth)]
    assert narrow == pytest.approx([2.45, 3.46, 4.89, 6.92, 2.45], rel=0.03)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), default.named_parameters(), strict=True):
        drawn_anew = name.startswith(("decoder.laterals", "decoder.smooth")) and name.endswith("weight")
        assert torch.equal(ours, theirs) != drawn_anew, name


def test_initialisation_reaches_denoising_layers_and_separate_weights():
    spec = replace(SMALL_F, denoiser="bottleneck", sharing="separate")
    model, default = build(spec, 0), build(replace(spec, initialisation="pytorch"), 0)
    for trunk in ("trunk", "back_trunk"):
        for path, layer in getattr(model, trunk).inner.items():
            ours, theirs = layer.transform.weight, getattr(default, trunk).inner[path].transform.weight
            assert ours.std() > 2 * theirs.std()
    with pytest.raises(FPDError, match="initialisation is 'zero'; accepted: 'released', 'pytorch'"):
        replace(SMALL, initialisation="zero")


def test_laterals_read_features_before_their_denoising_layer(x):
    model = build(SMALL_F, 0).eval()
    seen = {}
    model.trunk.backbone.layer1[-1].register_forward_hook(lambda m, i, o: seen.update(block=o))
    model.trunk.backbone.layer2[0].conv1.register_forward_pre_hook(lambda m, i: seen.update(next=i[0]))
    with torch.no_grad():
        features, _ = model.trunk(x)
        assert torch.equal(features[0], seen["block"])
        assert torch.allclose(seen["next"], seen["block"] + non_local_mean(seen["block"]))


ANCHORS = [name for name, variant in VARIANTS.items() if "kind" in variant.network]


@pytest.mark.parametrize("name", ANCHORS)
def test_the_known_answer_networks_have_the_same_interface(name):
    model = build(VARIANTS[name].spec(PROFILES["smoke"]), 0)
    x = torch.rand(4, 3, 28, 28)
    assert model(x).shape == (4, 10) and model.front(x).restored is None
    grey = x.mean(1, keepdim=True).expand_as(x)
    assert torch.allclose(model(x), model(grey), atol=1e-5)  # three channels or one: the same ball


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ANCHORS])
def test_every_network_of_a_table(name, x):
    spec = VARIANTS[name].spec(PROFILES["smoke"])
    model = build(spec, 0)  # in training mode: without trained statistics the cubic layers overflow
    with torch.no_grad():
        front = model.front(x)
        pre, post = model.pre_squeeze(x), model(x)
    assert (front.restored is not None) == spec.restoration
    assert pre.isfinite().all() and torch.equal(post, pre.tanh() if spec.squeeze == "tanh" else pre)
    assert cost(spec)["parameters"] == sum(p.numel() for p in model.parameters())


def test_front_and_back_pass_share_their_weights():
    front_only = build(replace(SMALL, inner=("stage1",), restoration=True), 0)
    both = build(replace(SMALL, inner=("stage1",), restoration=True, classifier="back"), 0)
    assert [n for n, _ in both.named_parameters()] == [n for n, _ in front_only.named_parameters()]
    passes = []
    both.trunk.register_forward_hook(lambda *_: passes.append(1))
    both(torch.rand(2, 3, 32, 32))
    assert len(passes) == 2


def test_batchnorm_statistics_per_pass_and_shared(x):
    tracked = "trunk.backbone.bn1.num_batches_tracked"
    shared, own = build(replace(SMALL_F, statistics="shared"), 0).train(), build(SMALL_F, 0).train()
    for model in (shared, own):
        front = model.front(x)
        model.classify(front)
        before = model.trunk.backbone.bn1.running_mean.clone()
        with model.second_phase():
            model.classify(model.front(front.restored.detach()))
        assert torch.equal(before, model.trunk.backbone.bn1.running_mean) == (model is own)
    assert shared.state_dict()[tracked] == 4  # front, back, and both again: what the release does
    statistics = dict(own.back_statistics.named_buffers())
    assert not torch.allclose(statistics["backbone:bn1:running_mean"], own.trunk.backbone.bn1.running_mean)
    assert own.trunk.backbone.bn1.momentum == 0.1


def test_x_starts_as_the_plain_network(x):
    """Xie et al. initialise the BatchNorm of each non-local block at zero, so the block starts as the identity."""
    plain = build(SMALL, 0).eval()
    xie = build(replace(SMALL, inner=("stage1", "stage2", "stage3", "stage4"), denoiser="xie"), 0).eval()
    assert len(xie.trunk.inner) == 4
    xie.trunk.backbone.load_state_dict(plain.trunk.backbone.state_dict())
    with torch.no_grad():
        assert torch.equal(plain(x), xie(x))
        for layer in xie.trunk.inner.values():
            layer.transform[1].weight.fill_(0.1)
        assert not torch.allclose(plain(x), xie(x))


def test_weights_come_from_the_seed_and_leave_the_callers_random_state():
    before = torch.get_rng_state()
    a, b, c = (build(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a) and not all(torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet1O1"}, ["resnet1O1", "timm", "close names"]),
        ({"backbone": "mixer_s32_224", "backbone_args": ()}, ["mixer_s32_224"]),
        ({"backbone": "vit_tiny_patch16_224", "backbone_args": (("img_size", 32),)}, ["vit_tiny", "block-based CNN"]),
        ({"image_size": 16}, ["image_size is 16", "too deep"]),
        ({"image_size": 34, "restoration": True}, ["image_size is 34", "multiple of 32"]),
        ({"inner": ("stage9",)}, ["stage9", "accepted", "stage1"]),
        ({"inner": ("stage1", "layer1")}, ["two entries name the same module"]),
        ({"squeeze": "sigmoid"}, ["squeeze is 'sigmoid'", "'tanh'"]),
        ({"classifier": "back"}, ["restoration=True"]),
        ({"dropout": 1.5}, ["dropout is 1.5"]),
        ({"backbone": 3}, ["backbone is 3"]),
        ({"image_size": "64"}, ["image_size is '64'"]),
        ({"decoder_width": 0}, ["decoder_width is 0"]),
    ],
)
def test_bad_specs_are_named(changes, words):
    with pytest.raises(FPDError) as error:
        FPD(replace(SMALL, **changes))
    for word in words:
        assert word in str(error.value)


def test_the_decoder_of_the_releases_resnet_50_for_svhn():
    """128 -> 64 -> 16 -> 3, where a quarter each would be 128 -> 32 -> 8 -> 3; SVHN and Caltech have dropout, MNIST none."""
    spec = settings.setting("paper", "svhn-resnet50").network
    model = build(replace(spec, restoration=True), 0)
    assert [layer.out_channels for layer in model.decoder.up] == [64, 16, 3] and model.decoder.smooth.in_channels == 128
    assert spec.dropout == settings.setting("paper", "caltech101").network.dropout == 0.5
    assert settings.setting("paper", "table2").network.dropout == 0.0 and PROFILES["paper"].network.decoder_channels == ()
    with pytest.raises(FPDError, match=r"decoder_channels is \(8,\); accepted: 2 numbers here"):
        build(replace(spec, restoration=True, decoder_channels=(8,)), 0)


@pytest.mark.parametrize("backbone", ["dpn68", "rexnet_100"])
def test_a_cnn_that_ignores_the_activation_is_refused(backbone):
    """It takes `act_layer` without a word and keeps its own in nearly every block."""
    with pytest.raises(FPDError, match=rf"'{backbone}' takes activation 'elu' in \d+ of \d+ places"):
        build(NetworkSpec(backbone, activation="elu"), 0)
