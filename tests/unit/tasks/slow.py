"""Slow references: plain loops and NumPy in float64, written apart from the code under test."""

import math

import numpy as np


def miou(predictions, targets, num_classes):
    """Logits (N, C, H, W), classes (N, H, W), as arrays."""
    chosen, ious = predictions.argmax(axis=1), []
    for k in range(num_classes):
        hit = wrong = missed = 0
        for p, t in zip(chosen.ravel(), targets.ravel(), strict=True):
            if t == -1:
                continue
            hit += p == k and t == k
            wrong += p == k and t != k
            missed += p != k and t == k
        if hit + missed:
            ious.append(hit / (hit + wrong + missed))
    return 100 * sum(ious) / len(ious) if ious else math.nan


def pixel_accuracy(predictions, targets):
    kept = targets != -1
    return 100 * (predictions.argmax(axis=1) == targets)[kept].mean() if kept.any() else math.nan


def errors(predictions, targets):
    """Signed errors and true values at the valid pixels, as flat arrays."""
    keep = np.broadcast_to(targets[:, -1:] == 1, predictions.shape)
    true = targets[:, :-1][keep].astype(np.float64)
    return predictions[keep].astype(np.float64) - true, true


def angles(predictions, targets):
    """Degrees at the valid pixels."""
    found = []
    for image in range(len(predictions)):
        for y, x in np.argwhere(targets[image, -1] == 1):
            p = predictions[image, :, y, x].astype(np.float64)
            t = targets[image, :3, y, x].astype(np.float64)
            cosine = p @ t / (np.linalg.norm(p) * np.linalg.norm(t))
            found.append(math.degrees(math.acos(max(-1.0, min(1.0, cosine)))))
    return np.array(found)


def counts(logits, targets):
    """tn, fp, fn, tp."""
    tally = [0, 0, 0, 0]
    for logit, target in zip(logits.ravel(), targets.ravel(), strict=True):
        if target != -1:
            tally[2 * int(target) + int(logit > 0)] += 1
    return tally


def best_f(logits, targets):
    """Highest F over the thresholds 0.01 .. 0.99."""
    keep = targets.ravel() != -1
    probability = 1 / (1 + np.exp(-logits.astype(np.float64).ravel()[keep]))
    true = targets.ravel()[keep] == 1
    best = 0.0
    for step in range(1, 100):
        predicted = probability >= step / 100
        hits = (predicted & true).sum()
        if hits:
            precision, recall = hits / predicted.sum(), hits / true.sum()
            best = max(best, 2 * precision * recall / (precision + recall))
    return 100 * best


def bce(logit, target):
    """Sigmoid cross-entropy of one number."""
    logit = float(logit)
    return max(logit, 0) - logit * target + math.log1p(math.exp(-abs(logit)))
