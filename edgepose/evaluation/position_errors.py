"""How far positions in space are from the true ones: MPJPE, and the same after scaling or a similarity.

Each is the mean over a pose's key points of the distance to the true position, in the unit of the positions. The poses
are compared relative to a root, which the caller subtracts from both. Definitions: Ionescu et al. (TPAMI 2014; MPJPE),
Martinez et al. (ICCV 2017; "protocol 2"), Rhodin et al. (CVPR 2018; N-MPJPE).
"""

from __future__ import annotations

import numpy as np


def mpjpe(xyz: np.ndarray, true_xyz: np.ndarray) -> np.ndarray:
    """(N,) mean per-joint position error of poses (N, K, 3)."""
    _check(xyz, true_xyz)
    return np.asarray(np.linalg.norm(xyz - true_xyz, axis=-1).mean(axis=-1))


def n_mpjpe(xyz: np.ndarray, true_xyz: np.ndarray) -> np.ndarray:
    """(N,) the error that is left when each pose is scaled to fit the true one best (least squares)."""
    _check(xyz, true_xyz)
    square = (xyz**2).sum(axis=(1, 2))
    scale = (xyz * true_xyz).sum(axis=(1, 2)) / np.where(square > 0, square, 1)
    return mpjpe(xyz * scale[:, None, None], true_xyz)


def p_mpjpe(xyz: np.ndarray, true_xyz: np.ndarray) -> np.ndarray:
    """(N,) the error that is left when each pose is scaled, turned and moved to fit the true one best (Procrustes).

    A pose is not mirrored. Umeyama, "Least-squares estimation of transformation parameters between two point patterns"
    (PAMI 1991).
    """
    _check(xyz, true_xyz)
    pose, truth = (values - values.mean(axis=1, keepdims=True) for values in (xyz, true_xyz))
    left, stretch, right = np.linalg.svd(truth.transpose(0, 2, 1) @ pose)
    signs = np.ones((len(pose), 3))
    signs[:, 2] = np.where(np.linalg.det(left) * np.linalg.det(right) < 0, -1, 1)
    turn = (left * signs[:, None]) @ right
    square = (pose**2).sum(axis=(1, 2))
    scale = (stretch * signs).sum(axis=1) / np.where(square > 0, square, 1)
    return mpjpe(scale[:, None, None] * pose @ turn.transpose(0, 2, 1), truth)


def _check(xyz: np.ndarray, true_xyz: np.ndarray) -> None:
    if xyz.shape != true_xyz.shape or xyz.ndim != 3 or xyz.shape[2] != 3:
        raise ValueError(f"poses must be (N, K, 3) alike, got {xyz.shape} and {true_xyz.shape}")
