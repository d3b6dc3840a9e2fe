"""A patch discriminator that keeps a decoder's textures sharp (Isola et al., 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Pictures [B, 3, H, W] -> one logit for each patch of about 30 pixels."""

    def __init__(self, width: int = 48) -> None:
        """Build three halvings and a head."""
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for factor in (1, 2):
            channels = width * factor
            layers += [
                nn.Conv2d(channels, 2 * channels, 4, 2, 1),
                nn.GroupNorm(8, 2 * channels),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, 1, H / 8, W / 8]: high for what looks real."""
        logits: Tensor = self.layers(x)
        return logits


class Adversary:
    """A discriminator and its optimizer, beside an autoencoder that is trained."""

    def __init__(self, *, weight: float, learning_rate: float, device: str) -> None:
        """Build it; `weight` is the adversarial gradient's share of the reconstruction's."""
        layout = torch.contiguous_format if device == "cpu" else torch.channels_last
        self.network = PatchDiscriminator().to(device).to(memory_format=layout)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=learning_rate, betas=(0.5, 0.9), weight_decay=1e-4
        )
        self._weight = weight

    def term(self, y: Tensor, reconstruction: Tensor, last: Tensor) -> Tensor:
        """Return the generator's hinge loss -D(y), weighted as Esser et al. (2021) do.

        Its gradient at the weights `last`, the decoder's outermost, is then `weight` times the
        reconstruction loss's.
        """
        self.network.requires_grad_(False)
        with torch.autocast(y.device.type, torch.bfloat16):
            loss = -self.network(y).float().mean()
        self.network.requires_grad_(True)
        ours, theirs = (
            torch.autograd.grad(part, last, retain_graph=True)[0].norm()
            for part in (reconstruction, loss)
        )
        share = (self._weight * ours / (theirs + 1e-6)).clamp(max=1e3).detach()
        weighted: Tensor = loss * share
        return weighted

    def update(self, x: Tensor, y: Tensor) -> Tensor:
        """Teach the discriminator real pictures x from drawn ones y; return its loss."""
        with torch.autocast(x.device.type, torch.bfloat16):
            real, drawn = self.network(torch.cat([x, y.detach()])).float().chunk(2)
        loss = F.relu(1 - real).mean() + F.relu(1 + drawn).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()
