"""Small models of the kinds people prune."""

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

F = nn.functional


class Residual(nn.Module):
    """Convolution, batch norm, a residual addition, a depthwise convolution, a shuffle, a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3, padding="same")
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(32, 5)

    def forward(self, x, scale=None):
        x = self.relu(self.norm1(self.conv1(x)))
        y = self.depthwise(x + self.conv2(x))
        first, second = y.chunk(2, 1)
        y = torch.cat([second, first], 1)
        return self.fc(torch.flatten(self.pool(y), 1))


class Block(nn.Module):
    """A transformer block written out, with a table of positions and a parameter used as x @ w."""

    def __init__(self, features=8, heads=2):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(20, features)
        self.positions = nn.Parameter(torch.randn(1, 5, features))
        self.norm = nn.LayerNorm(features)
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)
        self.fc1 = nn.Linear(features, 12)
        self.fc2 = nn.Linear(12, features)
        self.w = nn.Parameter(torch.randn(features, 4))
        self.head = nn.Linear(features, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens) + self.positions
        batch, length, features = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.proj((scores @ v).transpose(1, 2).reshape(batch, length, features))
        x = x + self.fc2(F.relu(self.fc1(x)))
        return self.head(x), x @ self.w


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 3))
