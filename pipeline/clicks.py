"""A person's clicks are obeyed, also where the decoder hardly moves."""

from __future__ import annotations

import numpy as np

from pipeline.segmenter import PAD, POSITIVE

#: How far a click reaches where the decoder did not follow it: a share of the longer side of its box, one sigma.
_REACH = 0.06
#: What the logit under a click becomes: as sure as the decoder is a little inside of an edge.
_LOGIT = 1.0


def obey_clicks(mask_logits: np.ndarray, boxes: np.ndarray, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Push masks around the clicks that they do not follow.

    A click that the mask follows changes nothing. Else a disc around it gets the sign that was asked for, and the push
    falls off beyond as a Gaussian, further where the mask is not sure.

    Parameters
    ----------
    mask_logits
        float32 (N, G, G); > 0 is inside.
    boxes, points
        float32 (N, 4), xyxy, and (N, P, 2), both in cells of the grid.
    labels
        int64 (N, P): 1 inside, 0 outside, -1 none.
    """
    obeyed = mask_logits.copy()
    centres = np.arange(mask_logits.shape[-1]) + 0.5
    for logits, box, clicks, signs in zip(obeyed, boxes, points, labels, strict=True):
        sigma = max(1.0, _REACH * float((box[2:] - box[:2]).max()))
        for (x, y), label in zip(clicks, signs, strict=True):
            column, row = (int(np.clip(value, 0, len(centres) - 1)) for value in (x, y))
            sign = 1 if label == POSITIVE else -1
            if label == PAD or sign * logits[row, column] > 0:
                continue
            near = np.exp(-((centres - x) ** 2)[None] / (2 * sigma**2) - ((centres - y) ** 2)[:, None] / (2 * sigma**2))
            share = (2 * near / near[row, column]).clip(0, 1).astype(np.float32)
            logits += share * (sign * _LOGIT - logits)
    return obeyed
