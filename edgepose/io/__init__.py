"""Files in and out: images, videos, boxes, key points, overlays."""
