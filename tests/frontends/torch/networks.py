"""Small networks built like the ones people use: the same blocks, fewer and narrower."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor


def conv_bn(
    i: int, o: int, k: int = 3, s: int = 1, g: int = 1, act: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), act()
    )


class SqueezeExcite(nn.Module):
    def __init__(self, c: int, gate: type[nn.Module] = nn.Sigmoid) -> None:
        super().__init__()
        self.down, self.up, self.gate = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1), gate()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return x * y


class Basic(nn.Module):
    """ResNet's block of two 3x3 convolutions."""

    def __init__(self, i: int, o: int, s: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(i, o, 3, s)
        self.conv2 = conv_bn(o, o, 3, 1, act=nn.Identity)
        self.short = conv_bn(i, o, 1, s, act=nn.Identity) if s != 1 or i != o else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        y += self.short(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """ResNet's 1x1, 3x3 (of 4 groups), 1x1, with squeeze and excitation."""

    def __init__(self, i: int, o: int, s: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_bn(i, o // 2, 1),
            conv_bn(o // 2, o // 2, 3, s, 4),
            conv_bn(o // 2, o, 1, act=nn.Identity),
        )
        self.excite = SqueezeExcite(o)
        self.short = conv_bn(i, o, 1, s, act=nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.excite(self.convs(x)) + self.short(x))


class ResNet(nn.Module):
    def __init__(self, block: Callable[[int, int, int], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 7, 2, 3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.layer1 = nn.Sequential(block(16, 16, 1), block(16, 32, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.flatten(self.avgpool(self.layer1(self.stem(x))), 1))
        return y


class InvertedResidual(nn.Module):
    """MobileNet's expand, depthwise, project; v3 with excitation and hard-swish."""

    def __init__(
        self, i: int, o: int, s: int, act: type[nn.Module], excites: bool, k: int = 3
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            conv_bn(i, 4 * i, 1, act=act),
            conv_bn(4 * i, 4 * i, k, s, 4 * i, act),
        ]
        if excites:
            layers.append(SqueezeExcite(4 * i, nn.Hardsigmoid))
        self.body = nn.Sequential(*layers, conv_bn(4 * i, o, 1, act=nn.Identity))
        self.has_skip = s == 1 and i == o

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.has_skip else y


def mobilenet(act: type[nn.Module], excites: bool) -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 8, 3, 2, act=act),
        InvertedResidual(8, 8, 1, act, excites),
        InvertedResidual(8, 12, 2, act, excites, 5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 16),
        act(),
        nn.Dropout(0.2),
        nn.Linear(16, 5),
    )


class UNet(nn.Module):
    """Down by max pool, up by a transposed convolution and by resizing, joined by concat."""

    def __init__(self, resizes: bool) -> None:
        super().__init__()
        self.down1, self.down2 = conv_bn(3, 8), conv_bn(8, 16)
        self.up = (
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
                nn.Conv2d(16, 8, 1),
            )
            if resizes
            else nn.ConvTranspose2d(16, 8, 2, 2)
        )
        self.join, self.head = conv_bn(16, 8, act=nn.LeakyReLU), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.up(self.down2(F.max_pool2d(a, 2)))
        rows, columns = a.shape[2] - b.shape[2], a.shape[3] - b.shape[3]
        b = F.pad(b, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        y: Tensor = self.head(self.join(torch.cat([a, b], dim=1))).softmax(1)
        return y


class DenseNet(nn.Module):
    """Each layer reads all before it; the transition halves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(8 + 4 * k), nn.ReLU(), nn.Conv2d(8 + 4 * k, 4, 3, padding=1)
            )
            for k in range(3)
        )
        self.transition = nn.Sequential(
            nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2, 2)
        )
        self.classifier = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        y = self.transition(torch.cat(features, 1))
        made: Tensor = self.classifier(y.mean([2, 3]))
        return made


class Fire(nn.Module):
    """SqueezeNet's squeeze, then two expansions side by side."""

    def __init__(self, i: int, s: int, e: int) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = (
            nn.Conv2d(i, s, 1),
            nn.Conv2d(s, e, 1),
            nn.Conv2d(s, e, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x), inplace=True)
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, 2),
        nn.ReLU(True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(16, 4, 8),
        Fire(16, 6, 12),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Dropout(),
        nn.Conv2d(24, 7, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(1),
        nn.LogSoftmax(1),
    )


class Shuffle(nn.Module):
    """ShuffleNet v2's unit: half passes, half is convolved, then channels are shuffled."""

    def __init__(self, c: int, s: int) -> None:
        super().__init__()
        half, i = c // 2, c // 2 if s == 1 else c
        self.branch = nn.Sequential(
            conv_bn(i, half, 1),
            conv_bn(half, half, 3, s, half, nn.Identity),
            conv_bn(half, half, 1),
        )
        self.pass_through = (
            nn.Identity()
            if s == 1
            else nn.Sequential(conv_bn(c, c, 3, 2, c, nn.Identity), conv_bn(c, half, 1))
        )
        self.is_split = s == 1

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1) if self.is_split else (x, x)
        y = torch.cat((self.pass_through(a), self.branch(b)), 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ConvNeXt(nn.Module):
    """Depthwise 7x7, layer norm over channels, two linear layers, a scaled skip."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, c, 4, 4)
        self.depthwise, self.norm = (
            nn.Conv2d(c, c, 7, padding=3, groups=c),
            nn.LayerNorm(c, eps=1e-6),
        )
        self.wide, self.narrow = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
        self.scale = nn.Parameter(torch.full((c,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, one encoder layer of torch's own."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, size, 8, 8)
        self.token = nn.Parameter(torch.rand(1, 1, size))
        self.positions = nn.Parameter(torch.rand(1, 17, size))
        self.layer = nn.TransformerEncoderLayer(
            size, 4, 32, batch_first=True, norm_first=True, activation="gelu"
        )
        self.head = nn.Linear(size, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), y], 1) + self.positions
        made: Tensor = self.head(self.layer(y)[:, 0])
        return made


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet basic": lambda: ResNet(Basic),
    "resnet bottleneck with excitation": lambda: ResNet(Bottleneck),
    "mobilenet v2": lambda: mobilenet(nn.ReLU6, False),
    "mobilenet v3": lambda: mobilenet(nn.Hardswish, True),
    "efficientnet": lambda: mobilenet(nn.SiLU, True),
    "unet transposed": lambda: UNet(False),
    "unet resized": lambda: UNet(True),
    "densenet": DenseNet,
    "squeezenet": squeezenet,
    "shufflenet": lambda: nn.Sequential(conv_bn(3, 16, 3, 2), Shuffle(16, 2), Shuffle(16, 1)),
    "convnext": lambda: ConvNeXt(8),
    "vision transformer": VisionTransformer,
}
