"""A batch on the CPU: each image by one thread, and the arrays between torch and the kernels."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """An unfilled tensor in numpy's memory: numpy asks for huge pages where it is large, torch does not."""
    return torch.from_numpy(np.empty(shape, np.float32 if dtype == torch.float32 else np.float64))


def image_of(array: np.ndarray, b: int) -> np.ndarray:
    """Image b's [V, n] of an array [V, n], [1, V, n] or [B, V, n]."""
    if array.ndim == 2:
        return array
    return array[b] if len(array) > 1 else array[0]


def grad_per_image(per_vertex: torch.Tensor, images: int) -> tuple[torch.Tensor, np.ndarray]:
    """A buffer [images, V, n], unfilled, so that no two images add into the same memory."""
    grad = empty((images, *per_vertex.shape[-2:]), per_vertex.dtype)
    return grad, grad.numpy()


def sum_over_images(grad: torch.Tensor, per_vertex: torch.Tensor) -> torch.Tensor:
    """Bring a per-image gradient to the shape of its tensor, adding images in order where it is shared."""
    if per_vertex.ndim == 3 and len(per_vertex) == len(grad):
        return grad
    total = torch.zeros_like(per_vertex, memory_format=torch.contiguous_format)
    for image_grad in grad:
        total += image_grad
    return total


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def each_image(work: Callable[[int], object], images: int) -> list:
    """[work(0), work(1), ...] on torch's number of threads, this one among them."""
    global _pool
    threads = min(torch.get_num_threads(), images)
    if threads <= 1:
        return [work(b) for b in range(images)]
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="raster")
    results: list = [None] * images
    queue = iter(range(images))  # next() on a range iterator is one step under the GIL

    def drain():
        for b in queue:
            results[b] = work(b)

    helpers = [_pool.submit(drain) for _ in range(threads - 1)]
    drain()
    for helper in helpers:
        helper.result()
    return results
