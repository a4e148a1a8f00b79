"""32-pixel builders on timm's and torchvision's own model classes: their blocks, fewer channels, less stride.

An inversion reads batch-norm statistics, and those of a 1×1 map are noise; so the total stride is 8 (a vision
transformer's that of its patches) and no batch norm sees less than 4×4.  Strides beyond that are set to one after the
construction, which leaves the classes untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.shufflenetv2 import ShuffleNetV2
from torchvision.models.vgg import VGG, make_layers

Builder = Callable[..., nn.Module]

_MOBILENET_V1 = [["dsa_r1_k3_s1_c64"], ["dsa_r2_k3_s2_c128"], ["dsa_r2_k3_s2_c256"], ["dsa_r6_k3_s1_c512"]]
_MOBILENET_V1 += [["dsa_r2_k3_s1_c1024"]]
_MOBILENET_V2 = [
    ["ds_r1_k3_s1_c16"],
    ["ir_r2_k3_s2_e6_c24"],
    ["ir_r3_k3_s2_e6_c32"],
    ["ir_r4_k3_s1_e6_c64"],
    ["ir_r3_k3_s1_e6_c96"],
    ["ir_r3_k3_s1_e6_c160"],
    ["ir_r1_k3_s1_e6_c320"],
]
_MNASNET_B1 = [
    ["ds_r1_k3_s1_c16_noskip"],
    ["ir_r3_k3_s2_e3_c24"],
    ["ir_r3_k5_s2_e3_c40"],
    ["ir_r3_k5_s1_e6_c80"],
    ["ir_r2_k3_s1_e6_c96"],
    ["ir_r4_k5_s1_e6_c192"],
    ["ir_r1_k3_s1_e6_c320_noskip"],
]
_EFFICIENTNET_B0 = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s1_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s1_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
]
_MOBILENET_V3_LARGE = [
    ["ds_r1_k3_s1_e1_c16_nre"],
    ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
    ["ir_r3_k5_s2_e3_c40_se0.25_nre"],
    ["ir_r1_k3_s1_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"],
    ["ir_r2_k3_s1_e6_c112_se0.25"],
    ["ir_r3_k5_s1_e6_c160_se0.25"],
    ["cn_r1_k1_s1_c960"],
]


def _unstride(module: nn.Module) -> None:
    """Set every stride inside ``module`` to one; pooling by its stride becomes the identity."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            child.stride = (1, 1)
        elif isinstance(child, nn.AvgPool2d | nn.MaxPool2d):
            setattr(module, name, nn.Identity())
        else:
            _unstride(child)


def resnet(
    classes: int,
    in_chans: int,
    *,
    block: str,
    layers: Sequence[int],
    channels: Sequence[int],
    deep: int = 0,
    squeeze: bool = False,
    pool: bool = True,
) -> nn.Module:
    """A timm ResNet: ``block`` basic | bottleneck, ``channels`` the stages' planes, maps 8, 4, 4, 4 (16, 8, 4, 4
    without ``pool``); ``deep`` is the width of the three-convolution stem with average-pooled shortcuts (0: one
    convolution, whose 64 channels timm's class fixes), ``squeeze`` adds SE."""
    net = ResNet(
        {"basic": BasicBlock, "bottleneck": Bottleneck}[block],
        tuple(layers),
        num_classes=classes,
        in_chans=in_chans,
        stem_width=deep // 2,
        stem_type="deep" if deep else "",
        avg_down=bool(deep),
        channels=tuple(channels),
        block_args={"attn_layer": "se"} if squeeze else None,
    )
    if not deep:
        width = net.conv1.out_channels
        net.conv1 = nn.Conv2d(in_chans, width, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    if pool:
        _unstride(net.layer3)
    else:
        net.maxpool = nn.Identity()
    _unstride(net.layer4)
    return cast(nn.Module, net)


def _efficient(
    arch: list[list[str]], classes: int, in_chans: int, width: float, stem: int, head: int, act: type[nn.Module]
) -> nn.Module:
    net = EfficientNet(
        decode_arch_def(arch),
        num_classes=classes,
        num_features=head,
        in_chans=in_chans,
        stem_size=stem,
        fix_stem=True,
        round_chs_fn=partial(round_channels, multiplier=width),
        act_layer=act,
    )
    return cast(nn.Module, net)


def mobilenet_v2(classes: int, in_chans: int, *, width: float, stem: int, head: int) -> nn.Module:
    """MobileNetV2 at ``width`` times its channels; maps 16, 8, 4."""
    return _efficient(_MOBILENET_V2, classes, in_chans, width, stem, head, nn.ReLU6)


def mnasnet(classes: int, in_chans: int, *, width: float, stem: int, head: int) -> nn.Module:
    """MNasNet-B1 (no squeeze-excite) at ``width`` times its channels; maps 16, 8, 4."""
    return _efficient(_MNASNET_B1, classes, in_chans, width, stem, head, nn.ReLU)


def efficientnet_b0(classes: int, in_chans: int, *, width: float, stem: int, head: int) -> nn.Module:
    """EfficientNet-B0 with its squeeze-excite and SiLU at ``width`` times its channels; maps 16, 8, 4."""
    return _efficient(_EFFICIENTNET_B0, classes, in_chans, width, stem, head, nn.SiLU)


def mobilenet_b(classes: int, in_chans: int, *, width: float, stem: int) -> nn.Module:
    """MobileNetV1 without batch norm and ReLU after the depthwise convolutions (MixMix's MobileNet-b)."""
    net = _efficient(_MOBILENET_V1, classes, in_chans, width, stem, 0, nn.ReLU)
    for part in net.modules():
        if hasattr(part, "conv_dw"):
            part.bn1 = nn.Identity()
    return net


def mobilenet_v3_large(classes: int, in_chans: int, *, width: float, stem: int, head: int) -> nn.Module:
    """MobileNetV3-Large at ``width`` times its channels; its head convolution after the pooling has no batch norm."""
    net = MobileNetV3(
        decode_arch_def(_MOBILENET_V3_LARGE),
        num_classes=classes,
        num_features=head,
        in_chans=in_chans,
        stem_size=stem,
        fix_stem=True,
        round_chs_fn=partial(round_channels, multiplier=width),
        act_layer=nn.Hardswish,
        se_layer=partial(_squeeze_v3(), gate_layer="hard_sigmoid", rd_round_fn=round_channels),
    )
    return cast(nn.Module, net)


def _squeeze_v3() -> Callable[..., nn.Module]:
    from timm.models._efficientnet_blocks import SqueezeExcite

    layer: Callable[..., nn.Module] = SqueezeExcite
    return layer


def regnet_x(
    classes: int, in_chans: int, *, depth: int, w0: int, wa: float, wm: float, group: int, stem: int
) -> nn.Module:
    """A timm RegNetX of the given design parameters; maps 8, 4, then 4."""
    cfg = RegNetCfg(depth=depth, w0=w0, wa=wa, wm=wm, group_size=group, stem_width=stem)
    net = RegNet(cfg, in_chans=in_chans, num_classes=classes)
    for name, stage in net.named_children():
        if name in ("s3", "s4"):
            _unstride(stage)
    return cast(nn.Module, net)


def vgg_bn(classes: int, in_chans: int, *, widths: Sequence[int | str]) -> nn.Module:
    """torchvision's VGG with batch norm; ``widths`` as in its tables ("M" pools); one linear layer after pooling."""
    features = make_layers(list(widths), batch_norm=True)
    first = features[0]
    features[0] = nn.Conv2d(in_chans, first.out_channels, 3, padding=1)
    net = VGG(features, num_classes=classes, init_weights=False)
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    net.classifier = nn.Sequential(nn.Linear(int([w for w in widths if w != "M"][-1]), classes))
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return cast(nn.Module, net)


def densenet(classes: int, in_chans: int, *, growth: int, blocks: Sequence[int], stem: int) -> nn.Module:
    """torchvision's DenseNet: 3×3 stem of stride 2, no stem pooling, the last transition without pooling."""
    net = DenseNet(growth_rate=growth, block_config=tuple(blocks), num_init_features=stem, num_classes=classes)
    net.features.conv0 = nn.Conv2d(in_chans, stem, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(net.features.conv0.weight)
    net.features.pool0 = nn.Identity()
    net.features.transition3.pool = nn.Identity()
    return cast(nn.Module, net)


def shufflenet_v2(classes: int, in_chans: int, *, repeats: Sequence[int], channels: Sequence[int]) -> nn.Module:
    """torchvision's ShuffleNetV2 without the stem's max-pooling, stage 4 without its stride; maps 16, 8, 4, 4."""
    net = ShuffleNetV2(list(repeats), list(channels), num_classes=classes)
    net.conv1[0] = nn.Conv2d(in_chans, channels[0], 3, stride=2, padding=1, bias=False)
    net.maxpool = nn.Identity()
    _unstride(net.stage4)
    return cast(nn.Module, net)


def vit(classes: int, in_chans: int, *, patch: int, width: int, depth: int, heads: int, expansion: float) -> nn.Module:
    """timm's vision transformer with a class token for 32 pixels: ``patch`` pixels a patch, ``expansion`` the hidden
    width of the feed-forward layers over ``width``."""
    net = VisionTransformer(
        img_size=32,
        patch_size=patch,
        in_chans=in_chans,
        num_classes=classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=expansion,
    )
    return cast(nn.Module, net)


def convnext(classes: int, in_chans: int, *, depths: Sequence[int], widths: Sequence[int]) -> nn.Module:
    """timm's ConvNeXt without its fourth stage, on a stem of 2x2 patches; maps 16, 8, 4."""
    net = ConvNeXt(
        in_chans=in_chans,
        num_classes=classes,
        depths=(*depths, 1),
        dims=(*widths, widths[-1]),
        patch_size=2,
    )
    net.stages[0].downsample = nn.Identity()  # timm halves the maps once more behind such a stem
    net.stages[3] = nn.Identity()
    return cast(nn.Module, net)


BUILDERS: dict[str, Builder] = {
    "resnet": resnet,
    "mobilenet_v2": mobilenet_v2,
    "mnasnet": mnasnet,
    "efficientnet_b0": efficientnet_b0,
    "mobilenet_b": mobilenet_b,
    "mobilenet_v3_large": mobilenet_v3_large,
    "regnet_x": regnet_x,
    "vgg_bn": vgg_bn,
    "densenet": densenet,
    "shufflenet_v2": shufflenet_v2,
    "vit": vit,
    "convnext": convnext,
}
