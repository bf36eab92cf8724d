"""What a layer costs with rows and without, in multiply-adds: a function of sizes alone, the same on every machine.

A choice by the clock would make a run's last bits depend on how busy the machine was.

m tasks, N rows of inputs of length d, c outputs. Numbers of multiplications alone mislead where a layer is small or its
weights are many: unfolding patches, writing weight gradients and copying them into rows is memory traffic. The
constants translate it; they were measured on one core (AVX-512, float32, torch 2.14) with the convolutions of a
ResNet-18 at 64x64, batch 16, and the calls with linear layers of 64 to 1,024 units, where they are most of it.
"""

ROW_TRAFFIC = 60
"""Multiply-adds in the time of writing one entry of a weight gradient and copying it into its row."""
PATCH_TRAFFIC = 100
"""The same for one entry of the unfolded inputs, unfolded and put in order."""
GRADIENT_TRAFFIC = 20
"""The same for one entry of a gradient at the outputs, copied."""
ROW_PRODUCTS, GRADIENT_PRODUCTS = 1.7, 4.0
"""Times that a multiply-add of thin products (m of rows with m of rows) takes of one of a large product."""
LAYER, LAYER_AND_TASK = 12e6, 1e5
"""The same for the calls that a lone layer's products take, whatever their size; once, and for each task."""


def cost_of_rows(m: int, n: int, d: int, c: int) -> float:
    """Weight gradients of all tasks, their rows and the Gramian of these."""
    return m * (n + ROW_TRAFFIC) * d * c + ROW_PRODUCTS * m * m * d * c


def cost_of_products(m: int, n: int, d: int, c: int) -> float:
    """S = A A^T, S D_k and <D_l, S D_k> of all tasks, and the weight gradient of their combination."""
    once = n * n * d + PATCH_TRAFFIC * n * d + (n + ROW_TRAFFIC) * d * c
    return LAYER + LAYER_AND_TASK * m + once + m * (n + GRADIENT_TRAFFIC) * n * c + GRADIENT_PRODUCTS * m * m * n * c
