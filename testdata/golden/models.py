"""Plain PyTorch definitions of the networks that Broadside trains.

Parameter and buffer names are a contract: Broadside's checkpoints use exactly these keys, with
PyTorch's layouts (convolution weights OIHW, linear weights [out, in]).  Batch normalisation uses
eps 1e-5 and momentum 0.1 throughout.

Run `python3 models.py` to print every model's tensors, shapes and parameter counts.
"""

import torch
from torch import nn
from torch.nn import functional as F


def conv3x3(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    expansion = 1

    def __init__(self, inputs, width, stride, downsample):
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; the stride is in the 3x3 convolution."""

    expansion = 4

    def __init__(self, inputs, width, stride, downsample):
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = downsample

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Residual network with projection shortcuts (1x1 convolution and BN) where the shape changes.

    stem "imagenet": 7x7 stride 2, then max-pool 3x3 stride 2 pad 1; stem "cifar": 3x3 stride 1.
    """

    def __init__(self, block, blocks, widths, stem, classes):
        super().__init__()
        self.stages = len(blocks)
        self.stem = stem
        channels = widths[0]
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        else:
            self.conv1 = conv3x3(3, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        for i, (count, width) in enumerate(zip(blocks, widths)):
            stage = []
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                outputs = width * block.expansion
                downsample = None
                if stride != 1 or channels != outputs:
                    downsample = nn.Sequential(
                        nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                    )
                stage.append(block(channels, width, stride, downsample))
                channels = outputs
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, 2, 1)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


class PreActivationBlock(nn.Module):
    """Wide-ResNet block (Zagoruyko & Komodakis 2016).

    The shortcut is the raw input, or, where the shape changes, a 1x1 convolution of the
    activated input relu(bn1(x)).
    """

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        a = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(a))))
        return y + (x if self.shortcut is None else self.shortcut(a))


class WideResNet(nn.Module):
    """Wide-ResNet of depth 6n+4 and the given width factor, for small images."""

    def __init__(self, depth, factor, classes):
        super().__init__()
        if (depth - 4) % 6:
            raise ValueError(f"Wide-ResNet depth {depth} is not 6n+4")
        self.conv1 = conv3x3(3, 16)
        channels = 16
        for i in range(3):
            outputs = 16 * factor * 2**i
            stage = []
            for j in range((depth - 4) // 6):
                stage.append(PreActivationBlock(channels, outputs, 2 if i > 0 and j == 0 else 1))
                channels = outputs
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(F.relu(self.bn(x)).mean((2, 3)))


class C1(nn.Module):
    """C1 of Yao et al. (2018): two 5x5 convolutions, each -> ReLU -> BN -> max-pool, three linear."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 5, padding=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        self.bn2 = nn.BatchNorm2d(64)
        self.fc1 = nn.Linear(64 * 8 * 8, 384)
        self.fc2 = nn.Linear(384, 192)
        self.fc3 = nn.Linear(192, classes)

    def forward(self, x):
        x = F.max_pool2d(self.bn1(F.relu(self.conv1(x))), 3, 2, 1)
        x = F.max_pool2d(self.bn2(F.relu(self.conv2(x))), 3, 2, 1)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class C2(nn.Module):
    """C2 of Yao et al. (2018): four unpadded 3x3 convolutions, each -> ReLU -> BN, three linear."""

    def __init__(self, classes=10):
        super().__init__()
        widths = [3, 64, 64, 128, 128]
        for i in range(4):
            self.add_module(f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 3))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.fc1 = nn.Linear(128 * 5 * 5, 256)
        self.fc2 = nn.Linear(256, 256)
        self.fc3 = nn.Linear(256, classes)

    def forward(self, x):
        x = self.bn1(F.relu(self.conv1(x)))
        x = F.max_pool2d(self.bn2(F.relu(self.conv2(x))), 2)
        x = self.bn3(F.relu(self.conv3(x)))
        x = F.max_pool2d(self.bn4(F.relu(self.conv4(x))), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class MLP(nn.Module):
    """Two hidden layers with ReLU and nothing else."""

    def __init__(self, units, classes):
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, units)
        self.fc2 = nn.Linear(units, units)
        self.fc3 = nn.Linear(units, classes)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class F1(nn.Module):
    """F1 of Keskar et al. (2017): 784-5x512-10, each hidden linear (with bias) -> BN -> ReLU."""

    def __init__(self, classes=10):
        super().__init__()
        for i in range(5):
            self.add_module(f"fc{i + 1}", nn.Linear(784 if i == 0 else 512, 512))
            self.add_module(f"bn{i + 1}", nn.BatchNorm1d(512))
        self.fc6 = nn.Linear(512, classes)

    def forward(self, x):
        x = x.flatten(1)
        for i in range(5):
            x = F.relu(getattr(self, f"bn{i + 1}")(getattr(self, f"fc{i + 1}")(x)))
        return self.fc6(x)


class TwoConvThreeDense(nn.Module):
    """2conv3dense of Balles et al. (2017): C1 without normalisation."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        self.fc1 = nn.Linear(64 * 8 * 8, 384)
        self.fc2 = nn.Linear(384, 192)
        self.fc3 = nn.Linear(192, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)
        x = F.max_pool2d(F.relu(self.conv2(x)), 3, 2, 1)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class ReLU(nn.Module):
    """nn.ReLU through F.relu, where the distance to its kink is watched; it stays out of place."""

    def forward(self, x):
        return F.relu(x)


class MaxPool(nn.Module):
    """nn.MaxPool2d through F.max_pool2d, which is watched likewise."""

    def __init__(self, size, stride):
        super().__init__()
        self.window = size, stride

    def forward(self, x):
        return F.max_pool2d(x, *self.window)


class Net(nn.Module):
    """AlexNet's and VGG's outer structure."""

    def __init__(self, features, classifier):
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


VGG = {11: [1, 1, 2, 2, 2], 13: [2, 2, 2, 2, 2], 16: [2, 2, 3, 3, 3], 19: [2, 2, 4, 4, 4]}


def vgg(depth, small, classes):
    """VGG with BN, numbered like torchvision's; small: 32x32 images and one linear layer."""
    layers, channels = [], 3
    for count, width in zip(VGG[depth], [64, 128, 256, 512, 512]):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), ReLU()]
            channels = width
        layers.append(MaxPool(2, 2))
    if small:
        return Net(nn.Sequential(*layers), nn.Linear(512, classes))
    return Net(nn.Sequential(*layers), nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096), ReLU(), nn.Dropout(), nn.Linear(4096, 4096), ReLU(), nn.Dropout(),
        nn.Linear(4096, classes)))


def alexnet(classes):
    """AlexNet-OWT-BN of Hoffer et al. (2017) for ImageNet."""
    def conv(inputs, outputs, size, stride, padding):
        return nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)

    features = nn.Sequential(
        conv(3, 64, 11, 4, 2), MaxPool(3, 2), nn.BatchNorm2d(64), ReLU(),
        conv(64, 192, 5, 1, 2), MaxPool(3, 2), ReLU(), nn.BatchNorm2d(192),
        conv(192, 384, 3, 1, 1), ReLU(), nn.BatchNorm2d(384),
        conv(384, 256, 3, 1, 1), ReLU(), nn.BatchNorm2d(256),
        conv(256, 256, 3, 1, 1), MaxPool(3, 2), ReLU(), nn.BatchNorm2d(256))
    classifier = nn.Sequential(
        nn.Linear(256 * 6 * 6, 4096, bias=False), nn.BatchNorm1d(4096), ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096, bias=False), nn.BatchNorm1d(4096), ReLU(), nn.Dropout(),
        nn.Linear(4096, classes))
    return Net(features, classifier)


def small_alexnet(convolutions, pool, hidden, conv_bn, linear_bn, classes):
    """AlexNet for 32x32 images from (outputs, size, stride, padding, pooled) per convolution, pool
    (size, stride), and (inputs, outputs) per hidden linear layer."""
    features, channels = [], 3
    for outputs, size, stride, padding, pooled in convolutions:
        features.append(nn.Conv2d(channels, outputs, size, stride, padding, bias=not conv_bn))
        features += ([nn.BatchNorm2d(outputs)] if conv_bn else []) + [ReLU()]
        features += [MaxPool(*pool)] if pooled else []
        channels = outputs
    if not hidden:
        return Net(nn.Sequential(*features), nn.Linear(channels, classes))
    classifier = []
    for inputs, outputs in hidden:
        classifier.append(nn.Linear(inputs, outputs, bias=not linear_bn))
        classifier += ([nn.BatchNorm1d(outputs)] if linear_bn else []) + [ReLU()]
    return Net(nn.Sequential(*features), nn.Sequential(*classifier, nn.Linear(hidden[-1][1], classes)))


def cifar_alexnet(bn, classes):
    """AdaBatch's AlexNet for CIFAR."""
    convolutions = [(64, 11, 4, 5, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False),
                    (256, 3, 1, 1, True)]
    return small_alexnet(convolutions, (2, 2), [], bn, False, classes)


def reduced_alexnet(conv_bn, linear_bn, classes):
    """The reduced AlexNet of Masters and Luschi (2018)."""
    convolutions = [(16, 5, 1, 2, True), (48, 3, 1, 1, True), (96, 3, 1, 1, False), (64, 3, 1, 1, False),
                    (64, 3, 1, 1, True)]
    return small_alexnet(convolutions, (3, 2), [(64 * 3 * 3, 256), (256, 256)], conv_bn, linear_bn, classes)


class SqueezeNextBlock(nn.Module):
    """Two narrowing 1x1, a 1x3, a 3x1 and a widening 1x1 convolution, each -> BN -> ReLU, and a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        narrow = inputs if stride == 2 else inputs // 4 if inputs > outputs else inputs // 2
        half = narrow // 2
        self.conv1 = nn.Conv2d(inputs, narrow, 1, stride)
        self.conv2 = nn.Conv2d(narrow, half, 1)
        self.conv3 = nn.Conv2d(half, narrow, (1, 3), padding=(0, 1))
        self.conv4 = nn.Conv2d(narrow, narrow, (3, 1), padding=(1, 0))
        self.conv5 = nn.Conv2d(narrow, outputs, 1)
        for i, width in enumerate([narrow, half, narrow, narrow, outputs]):
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(width))
        self.shortcut = None
        if stride == 2 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i in range(1, 6):
            y = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y)))
        return y + (x if self.shortcut is None else F.relu(self.shortcut(x)))


class SqueezeNext(nn.Module):
    """SqueezeNext (Gholami et al. 2018) with a 3x3 stem, for small images."""

    def __init__(self, blocks, width, classes):
        super().__init__()
        channels = 64 * width
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        for i, count in enumerate(blocks):
            stage = []
            for j in range(count):
                stage.append(SqueezeNextBlock(channels, 32 * width * 2**i, 2 if i > 0 and j == 0 else 1))
                channels = 32 * width * 2**i
            self.add_module(f"stage{i + 1}", nn.Sequential(*stage))
        self.conv2 = nn.Conv2d(channels, 128 * width, 1)
        self.bn2 = nn.BatchNorm2d(128 * width)
        self.linear = nn.Linear(128 * width, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        return self.linear(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))


class ConvBN(nn.Module):
    """conv -> BN -> ReLU, and in ResNet-9 what follows it: a pooling and a residual pair."""

    def __init__(self, inputs, outputs, pool=False, residual=False):
        super().__init__()
        self.conv = conv3x3(inputs, outputs)
        self.bn = nn.BatchNorm2d(outputs)
        self.pool = pool
        self.residual = None
        if residual:
            self.residual = nn.Sequential()
            self.residual.add_module("res1", ConvBN(outputs, outputs))
            self.residual.add_module("res2", ConvBN(outputs, outputs))

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        if self.pool:
            x = F.max_pool2d(x, 2, 2)
        return x if self.residual is None else x + self.residual(x)


class ResNet9(nn.Module):
    """ResNet-9 of DAWNBench (Page 2018); the names have dots for its levels."""

    def __init__(self, classes=10):
        super().__init__()
        self.prep = ConvBN(3, 64)
        self.layer1 = ConvBN(64, 128, pool=True, residual=True)
        self.layer2 = ConvBN(128, 256, pool=True)
        self.layer3 = ConvBN(256, 512, pool=True, residual=True)
        self.linear = nn.Linear(512, classes, bias=False)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.prep(x))))
        return 0.125 * self.linear(F.max_pool2d(x, x.shape[-1]).flatten(1))


class ScaledStdConv2d(nn.Conv2d):
    """A convolution with weights of mean 0 and variance 1/fan_in per output channel, times a gain."""

    def __init__(self, inputs, outputs, kernel_size, stride=1, padding=0):
        super().__init__(inputs, outputs, kernel_size, stride, padding)
        self.gain = nn.Parameter(torch.ones(outputs))

    def forward(self, x):
        w = self.weight.flatten(1)
        variance, mean = torch.var_mean(w, 1, correction=0, keepdim=True)
        w = self.gain[:, None] * (w - mean) / ((variance + 1e-5) * w.shape[1]).sqrt()
        return F.conv2d(x, w.view_as(self.weight), self.bias, self.stride, self.padding)


class NFBlock(nn.Module):
    """A pre-activation block of NF-ResNet; beta is 1/std of its input, alpha the branch's share."""

    GAIN = 1.7139588594436646
    ALPHA = 0.2

    def __init__(self, inputs, width, stride, beta, bottleneck):
        super().__init__()
        self.beta = beta
        inner = width // 4 if bottleneck else width
        self.conv1 = ScaledStdConv2d(inputs, inner, 1) if bottleneck else ScaledStdConv2d(inputs, inner, 3, stride, 1)
        self.conv2 = ScaledStdConv2d(inner, inner, 3, stride if bottleneck else 1, 1)
        self.conv3 = ScaledStdConv2d(inner, width, 1) if bottleneck else None
        self.downsample = ScaledStdConv2d(inputs, width, 1, stride) if stride != 1 or inputs != width else None

    def activation(self, x):
        return self.GAIN * F.relu(x)

    def forward(self, x):
        a = self.activation(x) * self.beta
        y = self.conv2(self.activation(self.conv1(a)))
        if self.conv3 is not None:
            y = self.conv3(self.activation(y))
        return self.ALPHA * y + (x if self.downsample is None else self.downsample(a))


class NFResNet(nn.Module):
    """NF-ResNet (Brock et al. 2021a); widths are of the stages' outputs."""

    def __init__(self, blocks, widths, bottleneck, classes):
        super().__init__()
        channels = 64 if bottleneck else 16
        self.conv1 = ScaledStdConv2d(3, channels, 7, 2, 3) if bottleneck else ScaledStdConv2d(3, channels, 3, 1, 1)
        self.pool = MaxPool3() if bottleneck else nn.Identity()
        for i, (count, width) in enumerate(zip(blocks, widths)):
            stage, variance = [], 1.0
            for j in range(count):
                stage.append(NFBlock(channels, width, 2 if i > 0 and j == 0 else 1, variance**-0.5, bottleneck))
                channels = width
                variance = (1.0 if j == 0 else variance) + NFBlock.ALPHA**2
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.stages = len(blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.pool(self.conv1(x))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(F.relu(x).mean((2, 3)))


class MaxPool3(nn.Module):
    """The stem's max pooling, through F.max_pool2d, where it is watched."""

    def forward(self, x):
        return F.max_pool2d(x, 3, 2, 1)


def nf_resnet(depth, classes):
    """NF-ResNet-50 or -101 for ImageNet; any other depth is 6n+2, for small images."""
    if depth in IMAGENET_NF:
        return NFResNet(IMAGENET_NF[depth], [256, 512, 1024, 2048], True, classes)
    return NFResNet([(depth - 2) // 6] * 3, [16, 32, 64], False, classes)


IMAGENET_NF = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}


def cifar_resnet(depth, classes):
    """ResNet-(6n+2) for small images: widths 16, 32, 64 and basic blocks."""
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"ResNet depth {depth} is not 6n+2")
    return ResNet(BasicBlock, [(depth - 2) // 6] * 3, [16, 32, 64], "cifar", classes)


IMAGENET_RESNETS = {
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
    101: (Bottleneck, [3, 4, 23, 3]),
}


class Local(nn.Module):
    """Layers that learn by heads of their own; the logits are the logarithms of the heads' mean probabilities."""

    def forward(self, x):
        features = []
        for i in range(1, 4):
            x = self.features(i, x)
            features.append(x.flatten(1))
        heads = (self.get_submodule(f"head{i + 1}")(f) for i, f in enumerate(features))
        return sum(F.softmax(h, 1) for h in heads).div(3).log()


class CaFo(Local):
    """Three blocks of 32, 128 and 512 channels with heads without bias, for 32x32 images."""

    def __init__(self, classes):
        super().__init__()
        channels = 3
        for i, k in enumerate([32, 128, 512], 1):
            self.add_module(f"block{i}", nn.ModuleDict({"conv": nn.Conv2d(channels, k, 3, 1, 1), "bn": nn.BatchNorm2d(k)}))
            self.add_module(f"head{i}", nn.Linear(k * (32 >> i) ** 2, classes, bias=False))
            channels = k

    def features(self, i, x):
        block = self.get_submodule(f"block{i}")
        return block["bn"](F.max_pool2d(F.relu(block["conv"](x)), 2))


class LocalMLP(Local):
    """Three hidden layers of 512, for 28x28 images."""

    def __init__(self, classes):
        super().__init__()
        for i in range(1, 4):
            self.add_module(f"fc{i}", nn.Linear(512 if i > 1 else 784, 512))
            self.add_module(f"head{i}", nn.Linear(512, classes))

    def features(self, i, x):
        return F.relu(self.get_submodule(f"fc{i}")(x.flatten(1)))


class LocalCNN(Local):
    """Three convolutions of 32, 64 and 128 channels, for 32x32 images."""

    def __init__(self, classes):
        super().__init__()
        channels = 3
        for i, k in enumerate([32, 64, 128], 1):
            self.add_module(f"conv{i}", nn.Conv2d(channels, k, 3, 1, 1))
            self.add_module(f"head{i}", nn.Linear(k * (32 >> i) ** 2, classes))
            channels = k

    def features(self, i, x):
        return F.max_pool2d(F.relu(self.get_submodule(f"conv{i}")(x)), 2)


SQUEEZENEXT = {7: [1, 2, 1, 1], 23: [6, 6, 8, 1]}
IMAGENET = ("resnet18", "resnet34", "resnet50", "resnet101", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "nf-resnet50",
            "nf-resnet101")


def build(name, classes=10):
    """Builds a model by name.

    c1, c2, f1; resnet18, resnet34, resnet50, resnet101 (ImageNet stem), with the suffix -cifar for the small
    stem; resnet9; any other resnetD with D = 6n+2; nf-resnet50, nf-resnet101, any other nf-resnetD with
    D = 6n+2; wrn-D-K or wrnD-K, for example wrn-16-4; vggD and vggD-cifar; alexnet and its variants;
    squeezenext23, squeezenext23-2x; 2conv3dense; cafo3, local-mlp, local-cnn; mlp-N.
    """
    shallow = {"c1": C1, "c2": C2, "f1": F1, "2conv3dense": TwoConvThreeDense, "resnet9": ResNet9,
               "alexnet": alexnet, "cafo3": CaFo, "local-mlp": LocalMLP, "local-cnn": LocalCNN}
    if name in shallow:
        return shallow[name](classes)
    if name.startswith("mlp-"):
        return MLP(int(name[4:]), classes)
    if name.startswith("vgg"):
        depth, _, small = name[3:].partition("-")
        return vgg(int(depth), small == "cifar", classes)
    if name.startswith("alexnet-cifar"):
        return cifar_alexnet(name == "alexnet-cifar", classes)
    if name.startswith("alexnet-reduced"):
        return reduced_alexnet(not name.endswith("-nobn"), name == "alexnet-reduced", classes)
    if name.startswith("squeezenext"):
        depth, _, width = name[11:].partition("-")
        return SqueezeNext(SQUEEZENEXT[int(depth)], int(width.removesuffix("x") or 1), classes)
    if name.startswith("nf-resnet"):
        return nf_resnet(int(name[9:]), classes)
    if name.startswith("wrn"):
        depth, factor = name[3:].removeprefix("-").split("-")
        return WideResNet(int(depth), int(factor), classes)
    if name.startswith("resnet"):
        number, _, stem = name[6:].partition("-")
        if int(number) in IMAGENET_RESNETS and stem in ("", "cifar"):
            block, blocks = IMAGENET_RESNETS[int(number)]
            return ResNet(block, blocks, [64, 128, 256, 512], stem or "imagenet", classes)
        if stem == "":
            return cifar_resnet(int(number), classes)
    raise ValueError(f"unknown model {name!r}")


def input_shape(name):
    """Shape [channels, height, width] of one input image of the named model."""
    if name in ("f1", "local-mlp") or name.startswith("mlp-"):
        return (1, 28, 28)
    return (3, 224, 224) if name in IMAGENET else (3, 32, 32)


def parameter_count(model):
    return sum(p.numel() for p in model.parameters())


NAMES = ["c1", "c2", "f1", "resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "wrn16-2", "wrn16-4",
         "wrn28-10", "resnet18", "resnet18-cifar", "resnet34", "resnet34-cifar", "resnet50", "resnet50-cifar",
         "2conv3dense", "alexnet", "alexnet-cifar", "alexnet-cifar-nobn", "alexnet-reduced", "alexnet-reduced-convbn",
         "alexnet-reduced-nobn", "resnet9", "squeezenext7", "squeezenext23", "squeezenext23-2x", "vgg11", "vgg13",
         "vgg16", "vgg19", "nf-resnet8", "nf-resnet20", "nf-resnet56", "nf-resnet50", "nf-resnet101", "vgg11-cifar", "vgg13-cifar", "vgg16-cifar", "vgg19-cifar"]


def describe(name, classes):
    """Prints the tensors of one model in PyTorch's order: name, shape, count, parameter or buffer."""
    model = build(name, classes)
    parameters = dict(model.named_parameters())
    print(f"== {name} classes={classes} input={list(input_shape(name))} parameters={parameter_count(model)}")
    for key, value in model.state_dict().items():
        kind = "parameter" if key in parameters else "buffer"
        print(f"  {key} {list(value.shape)} {value.numel()} {kind}")


def main():
    with torch.device("meta"):
        for name in NAMES:
            describe(name, 1000 if input_shape(name)[1] == 224 else 10)


if __name__ == "__main__":
    main()
